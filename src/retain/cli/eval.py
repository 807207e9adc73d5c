"""`retain eval DIR`"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from retain.cli.flags import parse
from retain.train.loading import load


@dataclass(frozen=True)
class EvalOptions:
    """What `retain eval` reads."""

    folder: tyro.conf.Positional[Path]
    """A run folder, a checkpoint, or what agent.save wrote."""
    episodes: int = 20
    """Whole episodes to play."""
    stochastic: bool = False
    """Sample actions as in training, instead of the most probable one."""
    which: Literal["last", "best"] = "last"
    """Which checkpoint of a run."""
    seed: int | None = None
    """Of the episodes; None derives one from the run's seed."""
    trust: bool = False
    """Import the module that the saved configuration names (docs/security.md)."""
    json: bool = False
    """One line of JSON for machines."""


def command(arguments: list[str]) -> int:
    """Plays the episodes and prints what came of them."""
    options = parse(
        EvalOptions,
        arguments,
        verb="eval",
        description="Play whole episodes in fresh environments with a trained agent.",
    )
    agent = load(options.folder, which=options.which, trust=options.trust)
    result = agent.evaluate(
        options.episodes, deterministic=not options.stochastic, seed=options.seed
    )
    if options.json:
        print(json.dumps(result.summary()))
    else:
        print(
            f"return {result.return_mean:.1f} ± {result.return_std:.1f}, "
            f"length {result.length_mean:.1f}, over {result.episodes} episodes"
        )
    return 0
