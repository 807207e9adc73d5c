"""Checkpoints: safetensors and JSON, written whole or not at all, no pickle, each file with its
digest."""

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
"""The format of old, which is read as well."""
MODEL = "model.safetensors"
TRAINING = "training.safetensors"
STATE = "state.json"
CONFIG = "config.json"
MANIFEST = "manifest.json"
"""SHA-256 of every file of the folder; written last."""
FOLDER = "checkpoints"
BEST = "best"


def as_json(value: Any) -> bytes:
    """JSON as it is written."""
    return (json.dumps(value, indent=2) + "\n").encode()


def write_json(path: Path, value: Any) -> None:
    """Writes JSON next to `path` and moves it there in one step."""
    temporary = path.with_name(f".{path.name}.tmp")
    write_bytes(temporary, as_json(value))
    temporary.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object at `path`.

    Raises:
        CheckpointError: it is missing, broken or no object; names the file.
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
    """Writes a checkpoint folder whole: it has its name only when everything is on the disk.

    Args:
        extra: writes more into the folder it is given, and returns facts for the state.
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
    """Moves `new` to `folder`; an older one is moved aside first and then removed."""
    old = folder.with_name(f".{folder.name}.old-{os.getpid()}")
    if folder.exists():
        folder.replace(old)
    new.replace(folder)
    shutil.rmtree(old, ignore_errors=True)


def read_file(folder: Path, name: str) -> bytes:
    """A file of a checkpoint, as it was written.

    Raises:
        CheckpointError: it is missing, or not what was written; names the file.
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
    """A file's content is what was written.

    Raises:
        CheckpointError: it is not; names the file.
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
        CheckpointError: it is broken; names the file.
    """
    try:
        tensors: dict[str, Tensor] = safetensors.torch.load(content)
        return tensors
    except Exception as error:  # of safetensors' own kinds and torch's, by what is broken
        raise CheckpointError(f"{path} cannot be read: {shorten(error, 300)}") from None


def load_tensors(folder: Path, name: str) -> dict[str, Tensor]:
    """One tensor file of a checkpoint.

    Raises:
        CheckpointError: it is missing or broken; names the file.
    """
    return tensors_of(read_file(folder, name), folder / name)


def load_config(folder: Path) -> dict[str, Any]:
    """What a checkpoint's agent is made of, checked."""
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
    """A checkpoint is whole.

    Raises:
        CheckpointError: names the file that is not.
    """
    load_config(folder)
    load_state(folder)
    for name in (MODEL, TRAINING):
        load_tensors(folder, name)


def checkpoint_name(steps: int) -> str:
    """Folder name that sorts by step."""
    return f"step_{steps:012d}"


def checkpoints(run: Path) -> list[Path]:
    """A run's checkpoints, oldest first, without the best."""
    return sorted(path for path in (run / FOLDER).glob("step_*") if path.is_dir())


def find_checkpoint(path: Path, which: str = "last") -> Path:
    """The checkpoint folder meant by a run folder or by a checkpoint folder itself.

    Args:
        which: "last" or "best", for a run folder.
    Raises:
        CheckpointError: there is none; says where it was looked for.
    """
    if (path / MODEL).exists():
        return path
    found = checkpoints(path)
    if which == "best" and found:
        if (path / FOLDER / BEST / MODEL).exists():
            return path / FOLDER / BEST
        raise CheckpointError(
            f"{path} has no best checkpoint: that takes 100 finished episodes, or --eval-every"
        )
    if found:
        return found[-1]
    if not path.exists():
        raise CheckpointError(f"{path} does not exist")
    raise CheckpointError(f"{path} holds no checkpoint (looked for {FOLDER}/step_* in it)")


def prune(run: Path, keep: int) -> None:
    """Removes all but the newest `keep` checkpoints, and what interrupted writes left."""
    for old in checkpoints(run)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    for pattern in (".*.tmp-*", ".*.old-*"):
        for left in (run / FOLDER).glob(pattern):
            shutil.rmtree(left, ignore_errors=True)


def keep_best(run: Path, checkpoint: Path) -> None:
    """Copies a checkpoint to the name `best`, whole or not at all."""
    temporary = run / FOLDER / f".best.tmp-{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.copytree(checkpoint, temporary)
    replace_folder(temporary, run / FOLDER / BEST)
