"""`torch.export` files: torch alone loads and runs them, without this library."""

import json
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch.export import ExportedProgram

KEY = "retain.json"
"""The file's entry that holds our metadata."""


def save(program: ExportedProgram, path: Path, metadata: dict[str, Any]) -> None:
    """Writes the program as a .pt2 file."""
    torch.export.save(program, path, extra_files={KEY: json.dumps(metadata)})


class TorchPolicy:
    """A file as a function of arrays, for checks; deployment needs torch alone."""

    def __init__(self, path: Path) -> None:
        extra = {KEY: ""}
        program = torch.export.load(path, extra_files=extra)
        self.module = program.module()
        self.metadata: dict[str, Any] = json.loads(extra[KEY])

    def __call__(self, *inputs: NDArray[Any]) -> list[NDArray[Any]]:
        """The outputs for the inputs, in the order of the metadata."""
        with torch.inference_mode():
            outputs = self.module(*map(torch.from_numpy, inputs))
        return [out.numpy() for out in outputs]
