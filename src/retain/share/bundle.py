"""The folder that is pushed and pulled: a checkpoint, its card and its pictures."""

import shutil
from pathlib import Path

from retain.errors import UsageError
from retain.share.card import card
from retain.share.command import command_of
from retain.train import checkpoint as store
from retain.train.agent import Agent
from retain.train.files import digest, write_bytes

REQUIRED = (store.CONFIG, store.MODEL, store.TRAINING, store.STATE, store.MANIFEST)
"""Files of every agent."""
CARD, PLOT, VIDEOS = "README.md", "learning_curve.png", ("video.mp4", "video.gif")
OPTIONAL = (CARD, PLOT, *VIDEOS)
"""Further files; `pull` takes these and no others."""


def write_bundle(
    folder: Path, run: Path, agent: Agent, name: str, *, which: str, episodes: int,
    video: Path | None,
) -> None:  # fmt: skip
    """Fills an empty folder with what is pushed.

    Args:
        run: a run folder, or what `agent.save` wrote.
        agent: the agent that was loaded from it.
        which: the run's "last" or "best" checkpoint.
        episodes: whole episodes of the evaluation; 0 for none.
        video: a film of an episode; None takes one from the run folder.
    """
    checkpoint = store.find_checkpoint(run, which)
    store.check(checkpoint)
    for file in REQUIRED:
        shutil.copyfile(checkpoint / file, folder / file)
    _without_replay(folder)
    files = _pictures(folder, run, video)
    evaluation = agent.evaluate(episodes) if episodes else None
    total = int(store.load_state(folder)["progress"].get("total", agent.steps))
    text = card(
        store.load_config(folder), name, command=command_of(agent, total), steps=agent.steps,
        evaluation=evaluation, files=files,
    )  # fmt: skip
    (folder / CARD).write_text(text, encoding="utf-8")


def _without_replay(folder: Path) -> None:
    """Forgets the replay, which is too large to share: whoever pulls begins with an empty one."""
    state = store.load_state(folder)
    if state.pop("replay", None) is None:
        return
    content = store.as_json(state)
    write_bytes(folder / store.STATE, content)
    digests = store.read_json(folder / store.MANIFEST)["sha256"]
    digests[store.STATE] = digest(content)
    store.write_json(folder / store.MANIFEST, {"sha256": digests})


def _pictures(folder: Path, run: Path, video: Path | None) -> dict[str, str]:
    """Copies the curve and the film, and names them for the card."""
    files: dict[str, str] = {}
    if (run / PLOT).is_file():
        shutil.copyfile(run / PLOT, folder / PLOT)
        files["plot"] = PLOT
    if video is None:
        video = next((run / name for name in VIDEOS if (run / name).is_file()), None)
    if video is None:
        return files
    target = f"video{video.suffix}"
    if target not in VIDEOS or not video.is_file():
        raise UsageError(f"video is {str(video)!r} (expected an existing .gif or .mp4)")
    shutil.copyfile(video, folder / target)
    return files | {"video": target}
