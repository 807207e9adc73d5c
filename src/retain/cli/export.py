"""`retain export DIR`"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from retain.cli.flags import parse
from retain.export import FORMATS, Format
from retain.export.ports import Port
from retain.train.loading import load


@dataclass(frozen=True)
class ExportOptions:
    """The options of `retain export`."""

    folder: tyro.conf.Positional[Path]
    """A run folder, a checkpoint, or a file that agent.save wrote."""
    format: Format = "onnx"
    """onnx runs in onnxruntime, torch (torch.export) in torch; neither needs this library."""
    out: Path | None = None
    """Folder for policy.onnx or policy.pt2; None means the run folder."""
    stochastic: bool = False
    """Sample actions as in training; the noise is then a further input."""
    which: Literal["last", "best"] = "last"
    """Checkpoint of the run to export."""
    trust: bool = False
    """Import the modules that the saved configuration names (docs/security.md)."""


def command(arguments: list[str]) -> int:
    """Writes the file and prints what goes in and out."""
    options = parse(
        ExportOptions,
        arguments,
        verb="export",
        description="Write a trained policy as one graph (obs..., carry..., reset) -> (action, "
        "carry...).",
    )
    agent = load(options.folder, which=options.which, trust=options.trust)
    folder = options.folder if options.out is None else options.out
    path = folder / f"policy{FORMATS[options.format]}"
    made = agent.export(path, format=options.format, stochastic=options.stochastic)
    width = max(len(port.name) for port in (*made.inputs, *made.outputs))
    for title, ports in (("inputs", made.inputs), ("outputs", made.outputs)):
        print(title)
        for port in ports:
            print(f"  {port.name:<{width}}  {row(port)}")
    print(f"{path} ({path.stat().st_size / 1000:,.0f} kB)")
    return 0


def row(port: Port) -> str:
    """Shape, dtype and meaning of an input or output."""
    facts = port.to_json()
    shape = ", ".join(map(str, facts["shape"]))
    return f"{f'[{shape}] ' + facts['dtype']:<28}  {facts['units']}"
