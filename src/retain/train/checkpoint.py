"""Checkpoints: safetensors and JSON, written whole or not at all, no pickle."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save
from torch import Tensor

from retain.errors import CheckpointError

FORMAT = 1
MODEL = "model.safetensors"
TRAINING = "training.safetensors"
STATE = "state.json"
CONFIG = "config.json"
FOLDER = "checkpoints"
BEST = "best"


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file that is on the disk when this returns."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def write_json(path: Path, value: Any) -> None:
    """Writes JSON next to `path` and moves it there in one step."""
    temporary = path.with_name(f".{path.name}.tmp")
    write_bytes(temporary, (json.dumps(value, indent=2) + "\n").encode())
    temporary.replace(path)


def read_json(path: Path) -> Any:
    """The JSON at `path`.

    Raises:
        CheckpointError: it is missing or broken; names the file.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist") from None
    except json.JSONDecodeError as error:
        raise CheckpointError(f"{path} is no valid JSON: {error}") from None


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
    for name, tensors in ((MODEL, model), (TRAINING, training)):
        contiguous = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
        write_bytes(temporary / name, save(contiguous))
    write_json(temporary / CONFIG, config)
    more = extra(temporary) if extra is not None else {}
    write_json(temporary / STATE, {"format": FORMAT} | state | more)
    replace_folder(temporary, folder)


def replace_folder(new: Path, folder: Path) -> None:
    """Moves `new` to `folder`; an older one is moved aside first and then removed."""
    old = folder.with_name(f".{folder.name}.old-{os.getpid()}")
    if folder.exists():
        folder.replace(old)
    new.replace(folder)
    shutil.rmtree(old, ignore_errors=True)


def load_tensors(folder: Path, name: str) -> dict[str, Tensor]:
    """One tensor file of a checkpoint.

    Raises:
        CheckpointError: it is missing or broken; names the file.
    """
    path = folder / name
    if not path.exists():
        raise CheckpointError(f"{path} does not exist")
    try:
        return load_file(path)
    except Exception as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error


def load_state(folder: Path) -> dict[str, Any]:
    """The JSON state of a checkpoint, checked for its format."""
    state: dict[str, Any] = read_json(folder / STATE)
    if state.get("format") != FORMAT:
        raise CheckpointError(
            f"{folder / STATE} has format {state.get('format')!r} (expected {FORMAT})"
        )
    return state


def checkpoint_name(steps: int) -> str:
    """Folder name that sorts by step."""
    return f"step_{steps:012d}"


def checkpoints(run: Path) -> list[Path]:
    """A run's checkpoints, oldest first, without the best."""
    return sorted((run / FOLDER).glob("step_*"))


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
    for left in (run / FOLDER).glob(".*.tmp-*"):
        shutil.rmtree(left, ignore_errors=True)


def keep_best(run: Path, checkpoint: Path) -> None:
    """Copies a checkpoint to the name `best`, whole or not at all."""
    temporary = run / FOLDER / f".best.tmp-{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.copytree(checkpoint, temporary)
    replace_folder(temporary, run / FOLDER / BEST)
