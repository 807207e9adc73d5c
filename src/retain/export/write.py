"""Writes a policy's file and describes it."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from retain._version import __version__
from retain.envs.options import PLAIN, WRAPPERS
from retain.errors import UsageError, nearest
from retain.export import onnx, torch_export
from retain.export.graph import Exportable, PolicyGraph
from retain.export.ports import Port
from retain.export.trace import trace

Format: TypeAlias = Literal["onnx", "torch"]
FORMATS: dict[Format, str] = {"onnx": ".onnx", "torch": ".pt2"}
"""The ending of each format's files."""
LOOP = (
    "At an episode's first step set reset to true and pass any carry of the right shape (zeros, or "
    "each one's initial value); afterwards pass the carry that the step before returned, with "
    "reset false."
)
SEEN = (*WRAPPERS, "frame_stack")
"""Settings of environments that change what the policy sees or does."""


@dataclass(frozen=True)
class Exported:
    """A file that was written."""

    path: Path
    inputs: list[Port]
    outputs: list[Port]
    metadata: dict[str, Any]


def export(
    agent: Exportable,
    path: str | os.PathLike[str],
    *,
    format: Format | None = None,
    stochastic: bool = False,
) -> Exported:
    """Writes the agent's policy as one graph `(obs..., carry..., reset) -> (action, carry...)`.

    Args:
        path: the file, in a folder that exists; its ending (.onnx or .pt2) decides the format if
            none is given.
        format: "onnx" for onnxruntime, or "torch" for torch.export.
        stochastic: sample actions as in training; the noise is a further input.
    Raises:
        UsageError: the format is unknown or does not fit the file's name, a part of the policy
            cannot be exported, or an extra is not installed.
    """
    path = Path(path)
    kind = format_of(path, format)
    graph = PolicyGraph(agent, stochastic=stochastic)
    metadata = describe(agent, graph)
    program = trace(graph)
    if kind == "onnx":
        onnx.save(program, path, graph.inputs, graph.outputs, metadata)
    else:
        torch_export.save(program, path, metadata)
    return Exported(path, graph.inputs, graph.outputs, metadata)


def format_of(path: Path, format: str | None) -> Format:
    """The format of a file that is to be written.

    Raises:
        UsageError: there is no such format, or the file's name belongs to another.
    """
    if format is not None and format not in FORMATS:
        raise UsageError(
            f"format is {format!r} (expected one of: {', '.join(FORMATS)})"
            f"{nearest(format, FORMATS)}"
        )
    for kind, ending in FORMATS.items():
        if path.suffix == ending and format in (None, kind):
            return kind
    wanted = FORMATS[format] if format is not None else " or ".join(FORMATS.values())
    raise UsageError(f"path is {str(path)!r} (expected a name that ends in {wanted})")


def describe(agent: Exportable, graph: PolicyGraph) -> dict[str, Any]:
    """The metadata of a file, as JSON values."""
    facts, config = agent.description(), graph.policy.config
    options = graph.options
    return {
        "retain": __version__,
        "algo": facts["algo"],
        "memory": config.memory,
        "environment": facts["env_name"],
        "wrappers": {
            name: getattr(options, name)
            for name in SEEN
            if getattr(options, name) != getattr(PLAIN, name)
        },
        "stochastic": bool(graph.scale),
        "exploration": graph.scale,
        "receptive_field": graph.policy.receptive_field,
        "inputs": [port.to_json() for port in graph.inputs],
        "outputs": [port.to_json() for port in graph.outputs],
        "observation_space": facts["observation_space"],
        "action_space": facts["action_space"],
        "loop": LOOP,
    }
