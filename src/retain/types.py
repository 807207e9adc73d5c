"""The timeline's containers. Everything that holds time is time-major, `[T, B, ...]`.

One step of the timeline, the same from the environment to the loss (docs/timeline.md):

    reset[t] -> carry cleared where reset -> obs[t] -> action[t] -> reward[t], ends[t]
    reset[t+1] = terminated[t] | truncated[t]
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar, Union

from torch import Generator, Tensor

Carry: TypeAlias = Union[Tensor, tuple["Carry", ...]]  # noqa: UP007 (a forward reference)
"""The state that a memory passes from one step to the next: nested tuples of tensors `[B, ...]`."""

Obs: TypeAlias = Tensor | dict[str, Tensor]
"""One tensor `[T, B, ...]`, or a flat dict of them for Dict and Tuple spaces."""

Tree = TypeVar("Tree")


def tree_map(function: Callable[..., Any], tree: Tree, *rest: Tree) -> Tree:
    """`function` applied leaf by leaf to trees of the same structure (tuples and dicts)."""
    result: Any
    if isinstance(tree, tuple):
        result = tuple(tree_map(function, *leaves) for leaves in zip(tree, *rest, strict=True))
    elif isinstance(tree, dict):
        result = {
            key: tree_map(function, leaf, *(other[key] for other in rest))  # type: ignore[index]
            for key, leaf in tree.items()
        }
    else:
        result = function(tree, *rest)
    return result  # type: ignore[no-any-return]


def with_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors under longer names."""
    return {f"{prefix}{name}": x for name, x in tensors.items()}


def under_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix`, without it."""
    return {k.removeprefix(prefix): x for k, x in tensors.items() if k.startswith(prefix)}


def restore_generator(generator: Generator, state: Tensor) -> None:
    """Restores a generator's state. A state from another kind of device, whose noise differs
    anyway, leaves the generator as it was seeded."""
    if state.shape == generator.get_state().shape:
        generator.set_state(state)


def tree_leaves(tree: Any) -> list[Tensor]:
    """Every tensor of a tree, in the order `tree_map` visits them."""
    if isinstance(tree, tuple):
        return [leaf for branch in tree for leaf in tree_leaves(branch)]
    if isinstance(tree, dict):
        return [leaf for branch in tree.values() for leaf in tree_leaves(branch)]
    return [tree]


def tree_like(tree: Any, leaves: Sequence[Tensor]) -> Any:
    """`tree` with other leaves, in the order of `tree_leaves`."""
    rest = iter(leaves)
    return tree_map(lambda _: next(rest), tree)
