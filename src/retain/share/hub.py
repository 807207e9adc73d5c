"""Pushes a run to the Hugging Face hub, and pulls one."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from retain._version import __version__
from retain.errors import CheckpointError, HubError, RetainError, UsageError
from retain.share.bundle import OPTIONAL, REQUIRED, write_bundle
from retain.train import checkpoint as store
from retain.train.files import JSON_BYTES, make_folder, memory_bytes, refuse_links
from retain.train.loading import load

NEEDS = "the hub needs an extra that is not installed: pip install 'retain[hub]'"


def push(
    run: str | os.PathLike[str],
    name: str,
    *,
    which: str = "last",
    episodes: int = 20,
    video: Path | None = None,
    private: bool = False,
    trust: bool = False,
) -> str:
    """Puts a trained agent on the hub: its checkpoint without the replay, and a card with its
    evaluation, its learning curve, a film and the command that trains it again.

    Args:
        run: a run folder, or what `agent.save` wrote.
        name: `user/name` on the hub; a new repository is made where there is none.
        which: a run's "last" or "best" checkpoint.
        episodes: whole episodes to evaluate for the card; 0 leaves the evaluation out.
        video: a .gif or .mp4 for the card; None takes `video.gif` or `video.mp4` in the run folder.
        private: make a new repository private.
        trust: import the modules that the saved configuration names.
    Returns:
        the address of the model's page.
    Raises:
        CheckpointError: the run is broken.
        HubError: the hub refuses, or cannot be reached.
    """
    if episodes < 0:
        raise UsageError(f"episodes is {episodes} (expected at least 0)")
    hub = _hub()
    run = Path(run)
    agent = load(run, which=which, trust=trust)
    api = _api(hub)
    with tempfile.TemporaryDirectory(prefix="retain-push-") as made:
        folder = Path(made)
        write_bundle(folder, run, agent, name, which=which, episodes=episodes, video=video)
        with _of_the_hub(name):
            api.create_repo(name, private=private, exist_ok=True)
            api.upload_folder(repo_id=name, folder_path=folder, commit_message="retain push")
    return f"{api.endpoint}/{name}"


def pull(
    name: str, out: str | os.PathLike[str] | None = None, *, revision: str | None = None
) -> Path:
    """Fetches an agent from the hub into a new folder, complete and checked, or not at all.

    Only the files of a checkpoint, the card and its pictures are taken; nothing in them is run
    (docs/security.md).

    Args:
        name: `user/name` on the hub.
        out: the new folder; None means `runs/NAME`.
        revision: a branch, tag or commit.
    Returns:
        the folder, for `retain.load`.
    Raises:
        CheckpointError: a file is missing, too large or damaged; names it.
        HubError: the hub refuses, or cannot be reached.
        UsageError: the folder exists already.
    """
    hub = _hub()
    folder = Path("runs") / name.rpartition("/")[2] if out is None else Path(out)
    if folder.exists() or folder.is_symlink():
        raise UsageError(f"out is {str(folder)!r}, which exists already (expected a new folder)")
    make_folder(folder.parent)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as made:
        fetched = Path(made) / "fetched"
        fetched.mkdir()
        with _of_the_hub(name):
            _fetch(hub, name, revision, fetched)
        shutil.rmtree(fetched / ".cache", ignore_errors=True)  # the hub's own notes
        refuse_links(fetched)
        store.check(fetched)
        fetched.replace(folder)
    return folder


def _fetch(hub: Any, name: str, revision: str | None, folder: Path) -> None:
    """Downloads the known files of one commit.

    Raises:
        CheckpointError: a file is missing or too large.
    """
    api = _api(hub)
    info = api.model_info(name, revision=revision, files_metadata=True)
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
    for file in REQUIRED:
        if file not in sizes:
            raise CheckpointError(f"{name} holds no {file} (expected an agent of retain push)")
    for file in (*REQUIRED, *OPTIONAL):
        if file not in sizes:
            continue
        most = JSON_BYTES if file.endswith((".json", ".md")) else memory_bytes()
        if sizes[file] > most:
            raise CheckpointError(
                f"{file} of {name} has {sizes[file]:,} bytes (expected at most {most:,})"
            )
        api.hf_hub_download(name, file, revision=info.sha, local_dir=folder)


def _hub() -> Any:
    try:
        import huggingface_hub
    except ImportError:
        raise UsageError(NEEDS) from None
    return huggingface_hub


def _api(hub: Any) -> Any:
    endpoint = os.environ.get("HF_ENDPOINT") or None
    return hub.HfApi(endpoint=endpoint, library_name="retain", library_version=__version__)


@contextmanager
def _of_the_hub(name: str) -> Iterator[None]:
    """Reports what goes wrong at the hub in one line.

    Raises:
        HubError: the hub refuses, or cannot be reached.
        UsageError: the hub takes no such name.
    """
    from huggingface_hub import errors

    try:
        yield
    except RetainError:
        raise
    except errors.HFValidationError as error:
        raise UsageError(f"name is {name!r}: {_line(error)} (expected user/name)") from None
    except errors.RepositoryNotFoundError:
        raise HubError(
            f"the hub shows no {name!r} to you: it does not exist, or needs a login "
            "(hf auth login, or HF_TOKEN)"
        ) from None
    except errors.RevisionNotFoundError:
        raise HubError(f"{name} has no such revision") from None
    except errors.HfHubHTTPError as error:
        raise HubError(f"the hub refused {name}: {_line(error)}") from None
    except Exception as error:  # of the transport's many kinds
        raise HubError(f"the hub failed for {name}: {_line(error)}") from error


def _line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__
