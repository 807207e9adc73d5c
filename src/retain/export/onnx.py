"""ONNX files: written by torch's exporter, run by onnxruntime."""

import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.export import ExportedProgram

from retain.errors import UsageError
from retain.export.ports import BATCH, Port

KEY = "retain"
"""The entry of the file's metadata that holds ours, as JSON."""
NEEDS = "an .onnx file needs an extra that is not installed: pip install 'retain[export]'"


def save(
    program: ExportedProgram,
    path: Path,
    inputs: Sequence[Port],
    outputs: Sequence[Port],
    metadata: dict[str, Any],
) -> None:
    """Writes the program as one .onnx file.

    Raises:
        UsageError: the extra is not installed, or an operation has no form in ONNX; names it.
    """
    try:
        from onnxscript import ir
    except ImportError:
        raise UsageError(NEEDS) from None
    try:
        with _quiet():
            written = torch.onnx.export(program, dynamo=True, verbose=False)
    except Exception as error:  # torch.onnx has many kinds, by the stage that failed
        reason = _reason(error)
        raise UsageError(f"the policy has no form in ONNX: {reason} (or try torch)") from error
    assert written is not None
    model = written.model
    for port, value in zip(
        (*inputs, *outputs), (*model.graph.inputs, *model.graph.outputs), strict=True
    ):
        value.name = port.name
        value.shape = ir.Shape([BATCH, *port.shape])
    for node in model.graph:
        node.metadata_props.clear()
    model.metadata_props.clear()
    model.metadata_props[KEY] = json.dumps(metadata)
    model.producer_name, model.producer_version = KEY, metadata["retain"]
    written.save(path, external_data=False)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the exporter's remarks about libraries that are not installed off the terminal."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _reason(error: BaseException) -> str:
    """The first line of the error that caused the others."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__


class OnnxPolicy:
    """A file as a function of arrays, for checks; deployment needs onnxruntime alone."""

    def __init__(self, path: Path) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise UsageError(NEEDS) from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        self.names = [one.name for one in self.session.get_inputs()]

    @property
    def metadata(self) -> dict[str, Any]:
        """What the file says about itself."""
        text = self.session.get_modelmeta().custom_metadata_map[KEY]
        found: dict[str, Any] = json.loads(text)
        return found

    def __call__(self, *inputs: NDArray[Any]) -> list[NDArray[Any]]:
        """The outputs for the inputs, in the order of the metadata."""
        named = dict(zip(self.names, inputs, strict=True))
        return [np.asarray(out) for out in self.session.run(None, named)]
