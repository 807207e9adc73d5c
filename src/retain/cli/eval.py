"""`retain eval DIR`"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from retain.cli.flags import parse
from retain.train.loading import load
from retain.train.video import check_video, film


@dataclass(frozen=True)
class EvalOptions:
    """The options of `retain eval`."""

    folder: tyro.conf.Positional[Path]
    """A run folder, a checkpoint, or a file that agent.save wrote."""
    episodes: int = 20
    """Whole episodes to play."""
    stochastic: bool = False
    """Sample actions as in training, instead of taking the most probable one."""
    which: Literal["last", "best"] = "last"
    """Checkpoint of the run to evaluate."""
    seed: int | None = None
    """Seed of the episodes; None derives one from the run's seed."""
    trust: bool = False
    """Import the module that the saved configuration names (docs/security.md)."""
    video: Path | None = None
    """Film the first episode into this .gif or .mp4."""
    json: bool = False
    """Print one line of JSON for machines."""


def command(arguments: list[str]) -> int:
    """Plays the episodes and prints the results."""
    options = parse(
        EvalOptions,
        arguments,
        verb="eval",
        description="Play whole episodes in fresh environments with a trained agent.",
    )
    if options.video is not None:
        check_video(options.video)
    agent = load(options.folder, which=options.which, trust=options.trust)
    played: dict[str, Any] = {"deterministic": not options.stochastic, "seed": options.seed}
    result = agent.evaluate(options.episodes, **played)
    facts: dict[str, Any] = result.summary()
    if options.video is not None:
        shown = film(agent, options.video, **played)
        facts |= {"video": str(options.video), "video_return": shown.ret}
    if options.json:
        print(json.dumps(facts))
    else:
        print(
            f"return {result.return_mean:.1f} ± {result.return_std:.1f}, "
            f"length {result.length_mean:.1f}, over {result.episodes} episodes"
            + "".join(f", {key} {value:.3g}" for key, value in result.info.items())
        )
        if options.video is not None:
            print(f"video: {options.video} (return {shown.ret:.1f}, length {shown.length})")
    return 0
