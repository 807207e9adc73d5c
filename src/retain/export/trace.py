"""Records a policy's graph; a part of it that cannot be recorded is named."""

import warnings
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

from retain.errors import UsageError
from retain.export.graph import ROWS, PolicyGraph
from retain.memory import Memory
from retain.nn.torso import Torso
from retain.types import tree_leaves, tree_like

KEPT = (InputKind.USER_INPUT, InputKind.TOKEN)
"""Inputs that stay in a graph that does not use them."""


def trace(graph: PolicyGraph) -> ExportedProgram:
    """The graph as a program for any number of rows, with the parameters that actions need and no
    others.

    Raises:
        UsageError: a part of the policy cannot be recorded; the line names it and the reason.
    """
    try:
        program = _recorded(graph, graph.example())
    except Exception as error:  # of many kinds, by what cannot be recorded
        raise UsageError(f"{_culprit(graph)} cannot be exported: {_reason(error)}") from error
    _strip(program)
    return program


def _recorded(module: nn.Module, example: Sequence[Tensor]) -> ExportedProgram:
    batch = torch.export.Dim("batch", min=1)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.export.export(
            module,
            tuple(example),
            dynamic_shapes=(tuple({0: batch} for _ in example),),
            strict=False,
        )


def _strip(program: ExportedProgram) -> None:
    """Removes what actions do not need: a critic's operations and parameters, and the places in
    source files that operations came from."""
    graph, signature = program.graph, program.graph_signature
    graph.eliminate_dead_code()
    nodes = {node.name: node for node in graph.nodes if node.op == "placeholder"}
    for spec in [*signature.input_specs]:
        node = nodes[spec.arg.name]
        if spec.kind not in KEPT and not node.users:
            graph.erase_node(node)
            signature.input_specs.remove(spec)
    used = {spec.target for spec in signature.input_specs}
    for held in (program.state_dict, program.constants):
        for name in [name for name in held if name not in used]:
            del held[name]
    for node in graph.nodes:
        node.meta.pop("stack_trace", None)
        node.meta.pop("nn_module_stack", None)
    program.graph_module.recompile()


class _Alone(nn.Module):
    """A part of a policy as a function of tensors `[B, ...]`."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, *tensors: Tensor) -> list[Tensor]:
        """One step of the part."""
        rows = [x.unsqueeze(0) for x in tensors]
        if not isinstance(self.part, Memory):
            return [self.part(*rows)]
        carry = tree_like(self.part.initial_carry(1), tensors[1:-1])
        out, after = self.part(rows[0], carry, rows[-1])
        return [out, *tree_leaves(after)]


def _parts(torso: Torso, graph: PolicyGraph) -> Iterator[tuple[str, nn.Module, list[Tensor]]]:
    """What may be a stranger's, with an example of its inputs."""
    memory = torso.memory
    carry = tree_leaves(memory.initial_carry(ROWS))
    x, reset = torch.zeros(ROWS, memory.features_in), torch.ones(ROWS, dtype=torch.bool)
    yield "memory", memory, [x, *carry, reset]
    if graph.keys is None:
        yield "encoder", torso.encoder, [port.example(ROWS) for port in graph.obs]


def _culprit(graph: PolicyGraph) -> str:
    """The part that cannot be recorded by itself."""
    for what, part, example in _parts(graph.policy.torsos[graph.policy.acting], graph):
        try:
            _recorded(_Alone(part), example)
        except Exception:  # of many kinds, as in `trace`
            return f"the {what} {type(part).__module__}:{type(part).__qualname__}"
    return f"the policy {type(graph.policy).__qualname__}"


def _reason(error: Exception) -> str:
    """The first line that says something, and what to do where the batch became a number."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    first = lines[0][:300] if lines else type(error).__name__
    if "onstraint" in first and "batch" in first:
        return "it turns the number of rows into a constant (use x.shape[0], not len(x) or int())"
    return first
