"""Checks a memory against its contract. Nothing is trained; every check perturbs and compares."""

from collections.abc import Iterator

import torch
from torch import Tensor

from retain.doctor.report import Report, Result, judged
from retain.memory import Memory, step_loop
from retain.types import Carry, tree_leaves, tree_map

T, B = 12, 3
CLOSE = 1e-4


def check_memory(memory: Memory, *, seed: int = 0) -> Report:
    """Runs every check of a memory, for tests. The memory's parameters stay unchanged.

    Raises:
        AssertionError: something is broken; the lines say what, and how to fix it.
    """
    return Report(list(memory_results(memory, seed=seed))).require()


def memory_results(memory: Memory, *, seed: int = 0) -> Iterator[Result]:
    """The results of every check."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield from _results(memory)


def _results(memory: Memory) -> Iterator[Result]:
    x = torch.randn(T, B, memory.features_in)
    reset = torch.zeros(T, B, dtype=torch.bool)
    reset[0] = True
    reset[5, 0] = reset[7, 1] = True  # environment 2 has one long episode
    carry = memory.initial_carry(B)
    yield _same_twice(memory, x, carry, reset)
    yield _one_forward(memory, x, carry, reset)
    yield _arrays(memory, x, carry, reset)
    yield _split(memory, x, carry, reset)
    yield _isolated(memory, x, carry, reset)
    yield _poison(memory, x, reset)
    yield _causal(memory, x, carry, reset)
    yield _rows(memory, x, carry, reset)
    yield _field(memory, x, carry)
    yield _gradient(memory, x, carry, reset)


@torch.no_grad()
def _run(memory: Memory, x: Tensor, carry: Carry, reset: Tensor) -> Tensor:
    return memory(x, carry, reset)[0]


def _gap(one: Tensor, two: Tensor) -> float:
    return float((one - two).abs().max()) if one.numel() else 0.0


def _same_twice(memory: Memory, x: Tensor, carry: Carry, reset: Tensor) -> Result:
    gap = _gap(_run(memory, x, carry, reset), _run(memory, x, carry, reset))
    return judged(
        "memory: same input, same output", gap == 0, f"difference {gap:.1e}",
        "Two calls differ: dropout, noise, or state kept on the module.",
        "Keep all state in the carry, and randomness out of forward.",
    )  # fmt: skip


@torch.no_grad()
def _one_forward(memory: Memory, x: Tensor, carry: Carry, reset: Tensor) -> Result:
    gap = _gap(_run(memory, x, carry, reset), step_loop(memory, x, carry, reset)[0])
    return judged(
        "memory: acting is training with T = 1", gap < CLOSE, f"difference {gap:.1e}",
        "An unroll differs from single steps: acting and training disagree about the policy.",
        "Compute step t from x[t] and the carry alone, the same way for every T.",
    )  # fmt: skip


@torch.no_grad()
def _arrays(memory: Memory, x: Tensor, carry: Carry, reset: Tensor) -> Result:
    name, arrays = "memory: its step in NumPy is its forward", memory.array_step(B)
    if arrays is None:
        return Result(name, "ok", "it has none, and acts with its forward")
    gap = 0.0
    for part in (slice(0, 6), slice(6, T)):  # the second begins with a carry in use
        arrays.load(tree_leaves(carry))
        out, carry = memory(x[part], carry, reset[part])
        for step, cleared, expected in zip(x[part], reset[part], out, strict=True):
            found = torch.from_numpy(arrays.step(step.numpy(), cleared.numpy()))
            gap = max(gap, _gap(found, expected))
    return judged(
        name, gap < CLOSE, f"difference {gap:.1e}",
        "array_step differs from forward, and the first segment of a run would stop it.",
        "Clear the state where reset is true; set all of it in load; or return None.",
    )  # fmt: skip


@torch.no_grad()
def _split(memory: Memory, x: Tensor, carry: Carry, reset: Tensor) -> Result:
    whole, after = memory(x, carry, reset)
    first, middle = memory(x[:6], carry, reset[:6])
    second, last = memory(x[6:], middle, reset[6:])
    gap = _gap(whole, torch.cat((first, second)))
    gap = max([gap, *(_gap(a, b) for a, b in
                      zip(tree_leaves(after), tree_leaves(last), strict=True))])  # fmt: skip
    return judged(
        "memory: a segment's end loses nothing", gap < CLOSE, f"difference {gap:.1e}",
        "One unroll differs from two with the carry passed between them.",
        "Return the carry after the last step, and begin with the given one.",
    )  # fmt: skip


def _isolated(memory: Memory, x: Tensor, carry: Carry, reset: Tensor) -> Result:
    before = _run(memory, x, carry, reset)
    other = x.clone()
    other[:5, 0] += 3.0
    gap = _gap(before[5:, 0], _run(memory, other, carry, reset)[5:, 0])
    return judged(
        "memory: an episode ends at its reset", gap == 0, f"the episode before changes {gap:.1e}",
        "What happened before a reset changes what comes after it.",
        "Clear the carry where reset[t] is true, before x[t] is read.",
    )  # fmt: skip


def _poison(memory: Memory, x: Tensor, reset: Tensor) -> Result:
    clean = memory.initial_carry(B)
    if not tree_leaves(clean):
        return Result("memory: a reset leaves nothing of the carry", "ok", "it carries nothing")
    poisoned = tree_map(lambda leaf: torch.full_like(leaf, 1e6), clean)
    gap = _gap(_run(memory, x, clean, reset), _run(memory, x, poisoned, reset))
    return judged(
        "memory: a reset leaves nothing of the carry", gap == 0, f"difference {gap:.1e}",
        "Padding or an old state leaks through a reset at the first step.",
        "Replace the whole carry there; mask every padded entry.",
    )  # fmt: skip


def _causal(memory: Memory, x: Tensor, carry: Carry, reset: Tensor) -> Result:
    before = _run(memory, x, carry, reset)
    other = x.clone()
    other[9:] += 3.0
    gap = _gap(before[:9], _run(memory, other, carry, reset)[:9])
    return judged(
        "memory: never looks ahead", gap == 0, f"the future changes the past by {gap:.1e}",
        "An output depends on later inputs, which acting will not have.",
        "Mask what comes after t.",
    )  # fmt: skip


def _rows(memory: Memory, x: Tensor, carry: Carry, reset: Tensor) -> Result:
    order = torch.tensor([2, 0, 1])
    straight = _run(memory, x, carry, reset)[:, order]
    turned = tree_map(lambda leaf: leaf[order], carry)
    gap = _gap(straight, _run(memory, x[:, order], turned, reset[:, order]))
    other = x.clone()
    other[:, 1] += 3.0
    leak = _gap(straight[:, [0, 1]], _run(memory, other, carry, reset)[:, order][:, [0, 1]])
    return judged(
        "memory: environments do not mix", gap < CLOSE and leak < CLOSE,
        f"in another order {gap:.1e}, another environment changes {leak:.1e}",
        "A row of the batch depends on the others, or on its place.",
        "No statistics over the batch; no view where a transpose is meant.",
    )  # fmt: skip


def _field(memory: Memory, x: Tensor, carry: Carry) -> Result:
    reset = torch.zeros(T, B, dtype=torch.bool)
    reset[0] = True
    before, other = _run(memory, x, carry, reset), x.clone()
    other[0] += 3.0
    moved = (before - _run(memory, other, carry, reset)).abs().amax((1, 2)) > 0
    reach = int(moved.nonzero().max()) + 1 if moved.any() else 0
    field = memory.receptive_field
    good = reach > 1 if field is None else reach <= field and (field == 1 or reach > 1)
    return judged(
        "memory: receptive field", good,
        f"the first input reaches {reach} steps, {'unbounded' if field is None else field} said",
        "The past reaches another distance than receptive_field says: the replay samples too "
        "little history, or nothing is remembered.",
        "Correct receptive_field, or the state that forward keeps.",
    )  # fmt: skip


def _gradient(memory: Memory, x: Tensor, carry: Carry, reset: Tensor) -> Result:
    inputs = x.clone().requires_grad_()
    out, _ = memory(inputs, carry, reset)
    if not out.requires_grad:
        return _gradient_result(0.0, 0.0, memory.receptive_field)
    (slope,) = torch.autograd.grad(out[8].sum(), inputs)
    within = float(slope[7, 2].abs().max())
    if memory.receptive_field == 1:
        within = float(slope[8, 2].abs().max())
    across = float(max(slope[:5, 0].abs().max(), slope[:7, 1].abs().max(), slope[9:].abs().max()))
    return _gradient_result(within, across, memory.receptive_field)


def _gradient_result(within: float, across: float, field: int | None) -> Result:
    return judged(
        "memory: gradient reaches the past of its episode", within > 0 and across == 0,
        f"a step back {within:.1e}, across a reset {across:.1e}",
        "Learning cannot change what is remembered, or crosses into another episode.",
        "No detach or no_grad inside an unroll; clear the carry by masking.",
    )  # fmt: skip
