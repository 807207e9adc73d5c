"""Checkpoints: safetensors and JSON, without pickle, written completely or not at all; each file
has a digest."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from retain.errors import CheckpointError
from retain.train import validation
from retain.train.files import JSON_BYTES, digest, parse_json, read_bytes, shorten, write_bytes

FORMAT = 2
WITHOUT_DIGESTS = 1
"""The oldest format, which can still be read."""
MODEL = "model.safetensors"
TRAINING = "training.safetensors"
STATE = "state.json"
CONFIG = "config.json"
MANIFEST = "manifest.json"
"""File with the SHA-256 of every file in the folder; written last."""
FOLDER = "checkpoints"
BEST = "best"


def as_json(value: Any) -> bytes:
    """A value as JSON bytes, in the form that is written."""
    return (json.dumps(value, indent=2) + "\n").encode()


def write_json(path: Path, value: Any) -> None:
    """Writes JSON next to `path` and moves it there in one step."""
    temporary = path.with_name(f".{path.name}.tmp")
    write_bytes(temporary, as_json(value))
    temporary.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object at `path`.

    Raises:
        CheckpointError: the file is missing, broken or not an object; names the file.
    """
    return parse_json(read_bytes(path, JSON_BYTES), path)


def save_checkpoint(
    folder: Path,
    *,
    config: dict[str, Any],
    model: dict[str, Tensor],
    training: dict[str, Tensor],
    state: dict[str, Any],
    extra: Callable[[Path], dict[str, Any]] | None = None,
) -> None:
    """Writes a checkpoint folder completely; it gets its name only when everything is on the disk.

    Args:
        extra: writes further files into the folder that it is given, and returns facts for the
            state.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.tmp-{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        more = extra(temporary) if extra is not None else {}
        files = {
            CONFIG: as_json(config),
            MODEL: _safetensors(model),
            TRAINING: _safetensors(training),
            STATE: as_json({"format": FORMAT} | state | more),
        }
        for name, content in files.items():
            write_bytes(temporary / name, content)
        digests = {name: digest(content) for name, content in files.items()}
        write_json(temporary / MANIFEST, {"sha256": digests})
    except OSError:  # a full disk: make room again
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    replace_folder(temporary, folder)


def _safetensors(tensors: dict[str, Tensor]) -> bytes:
    contiguous = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
    try:
        content: bytes = safetensors.torch.save(contiguous)
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise MemoryError("no more for the bytes of a checkpoint") from None  # what Rust panics of
    return content


def replace_folder(new: Path, folder: Path) -> None:
    """Moves `new` to `folder`; an older folder is first moved aside and then removed."""
    old = folder.with_name(f".{folder.name}.old-{os.getpid()}")
    if folder.exists():
        folder.replace(old)
    new.replace(folder)
    shutil.rmtree(old, ignore_errors=True)


def read_file(folder: Path, name: str) -> bytes:
    """The content of a checkpoint's file, checked against its digest.

    Raises:
        CheckpointError: the file is missing or has changed; names the file.
    """
    content = read_bytes(folder / name)
    manifest = folder / MANIFEST
    if not manifest.exists() and _format(folder) == WITHOUT_DIGESTS:
        return content
    digests = read_json(manifest)
    validation.MANIFEST(digests, str(manifest))
    check_digest(folder / name, content, digests["sha256"].get(name))
    return content


def check_digest(path: Path, content: bytes, wanted: str | None) -> None:
    """Checks that a file's content has not changed.

    Raises:
        CheckpointError: the content has changed; names the file.
    """
    found = digest(content)
    if found != wanted:
        raise CheckpointError(
            f"{path} is damaged: its SHA-256 is {found[:12]}... (expected {str(wanted)[:12]}...)"
        )


def _format(folder: Path) -> Any:
    return read_json(folder / STATE).get("format")


def tensors_of(content: bytes, path: Path) -> dict[str, Tensor]:
    """The tensors in a file's content.

    Raises:
        CheckpointError: the content is broken; names the file.
    """
    try:
        tensors: dict[str, Tensor] = safetensors.torch.load(content)
        return tensors
    except Exception as error:  # of safetensors' own kinds and torch's, by what is broken
        raise CheckpointError(f"{path} cannot be read: {shorten(error, 300)}") from None


def load_tensors(folder: Path, name: str) -> dict[str, Tensor]:
    """One tensor file of a checkpoint.

    Raises:
        CheckpointError: the file is missing or broken; names the file.
    """
    return tensors_of(read_file(folder, name), folder / name)


def load_config(folder: Path) -> dict[str, Any]:
    """The description of a checkpoint's agent, checked."""
    path = folder / CONFIG
    facts = parse_json(read_file(folder, CONFIG), path)
    validation.check_config(facts, str(path))
    return facts


def load_state(folder: Path) -> dict[str, Any]:
    """The JSON state of a checkpoint, checked."""
    path = folder / STATE
    state = parse_json(read_file(folder, STATE), path)
    if state.get("format") not in (FORMAT, WITHOUT_DIGESTS):
        raise CheckpointError(f"{path} has format {state.get('format')!r} (expected {FORMAT})")
    validation.STATE(state, str(path))
    return state


def check(folder: Path) -> None:
    """Checks that a checkpoint is complete.

    Raises:
        CheckpointError: names the file that is missing or has changed.
    """
    load_config(folder)
    load_state(folder)
    for name in (MODEL, TRAINING):
        load_tensors(folder, name)


def checkpoint_name(steps: int) -> str:
    """A checkpoint's folder name, which sorts by step."""
    return f"step_{steps:012d}"


def checkpoints(run: Path) -> list[Path]:
    """A run's checkpoints, oldest first, without the best."""
    return sorted(path for path in (run / FOLDER).glob("step_*") if path.is_dir())


def find_checkpoint(path: Path, which: str = "last") -> Path:
    """The checkpoint folder that a path means: the path itself, or one in the run folder there.

    Args:
        which: "last" or "best", for a run folder.
    Raises:
        CheckpointError: there is none; says which places were searched.
    """
    if (path / MODEL).exists():
        return path
    found = checkpoints(path)
    if which == "best" and found:
        if (path / FOLDER / BEST / MODEL).exists():
            return path / FOLDER / BEST
        raise CheckpointError(
            f"{path} has no best checkpoint: one needs 100 finished episodes, or --eval-every"
        )
    if found:
        return found[-1]
    if not path.exists():
        raise CheckpointError(f"{path} does not exist")
    raise CheckpointError(f"{path} holds no checkpoint (looked for {FOLDER}/step_* in it)")


def prune(run: Path, keep: int) -> None:
    """Removes all but the newest `keep` checkpoints, and the remains of interrupted writes."""
    for old in checkpoints(run)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    for pattern in (".*.tmp-*", ".*.old-*"):
        for left in (run / FOLDER).glob(pattern):
            shutil.rmtree(left, ignore_errors=True)


def keep_best(run: Path, checkpoint: Path) -> None:
    """Copies a checkpoint to the name `best`, completely or not at all."""
    temporary = run / FOLDER / f".best.tmp-{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.copytree(checkpoint, temporary)
    replace_folder(temporary, run / FOLDER / BEST)
