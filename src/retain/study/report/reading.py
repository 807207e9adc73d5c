"""Reads a run folder for the page; what cannot be read becomes a line, not an exception.

The folder may come from anyone, and may belong to a run that is still training: every file is
checked and bounded, and a last line that is only half written is left out.
"""

import csv
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from retain.data.episodes import RECENT
from retain.errors import CheckpointError
from retain.train.callbacks.incidents import FILE as INCIDENTS
from retain.train.checkpoint import CONFIG, read_json
from retain.train.files import JSON_BYTES, parse_json, read_bytes, refuse_links, shorten
from retain.train.plot import DRAWABLE
from retain.train.recorder import EPISODES
from retain.train.validation import (
    EPISODE,
    Rule,
    anything,
    array,
    check_config,
    count,
    fitting,
    integer,
    number,
    record,
    text,
)

METRICS = "metrics.csv"
DOCTOR = "doctor.json"
"""What `retain doctor --json` prints, if somebody put it into the run folder."""
OUTCOME = "outcome.json"
MOST_COLUMNS = 200
MOST_EPISODES = 2_000
"""Episodes read of a run; of more, evenly spread ones and the recent ones."""
MOST_INCIDENTS = 200

Table = dict[str, NDArray[np.float64]]
Found = TypeVar("Found")


@dataclass(frozen=True)
class Episodes:
    """Finished training episodes, in order of ending; `[n]` each.

    Args:
        step: environment steps of the run when the episode ended.
        total: number of episodes in the file.
    """

    step: NDArray[np.float64]
    ret: NDArray[np.float64]
    length: NDArray[np.float64]
    total: int


@dataclass(frozen=True)
class RunRecord:
    """What a run folder holds.

    Args:
        facts: config.json; empty if it is missing or broken.
        metrics: columns of metrics.csv by name, all of one length; infinite values are NaN.
        outcome: outcome.json of a comparison's run; empty if there is none.
        incidents: faults in the environments.
        doctor: the doctor's results.
        problems: one line for each file that could not be read.
    """

    folder: Path
    facts: dict[str, Any] = field(default_factory=dict)
    metrics: Table = field(default_factory=dict)
    episodes: Episodes | None = None
    outcome: dict[str, Any] = field(default_factory=dict)
    incidents: tuple[dict[str, Any], ...] = ()
    doctor: tuple[dict[str, str], ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def env(self) -> str:
        """Name of the environment; empty if it is unknown."""
        return str(self.facts.get("env_name") or self.facts.get("env") or "")

    @property
    def algo(self) -> str:
        """The algorithm's name; empty if it is unknown."""
        return str(self.facts.get("algo", ""))

    @property
    def memory(self) -> str:
        """The memory's name; empty if it is unknown."""
        return str(self.facts[self.algo].get("memory", "")) if self.facts else ""

    @property
    def settings(self) -> dict[str, Any]:
        """The saved settings of the run and of the algorithm, unchecked."""
        return {**self.facts["run"], **self.facts[self.algo]} if self.facts else {}

    @property
    def seed(self) -> int | None:
        """The run's seed; None if it is unknown."""
        seed = self.settings.get("seed")
        return seed if isinstance(seed, int) else None


def read_run(folder: Path) -> RunRecord:
    """Reads a run folder."""
    problems: list[str] = []

    def attempt(read: Callable[[], Found], otherwise: Found) -> Found:
        try:
            return read()
        except CheckpointError as error:
            problems.append(str(error))
            return otherwise

    try:
        refuse_links(folder)
    except CheckpointError as error:
        return RunRecord(folder, problems=(str(error),))
    facts = attempt(lambda: _config(folder / CONFIG), dict[str, Any]())
    steps = facts.get("run", {}).get("num_envs", 1)
    return RunRecord(
        folder,
        facts,
        attempt(lambda: read_metrics(folder / METRICS), {}),
        attempt(lambda: _episodes(folder / EPISODES, steps), None),
        attempt(lambda: _outcome(folder / OUTCOME), {}),
        attempt(lambda: _incidents(folder / INCIDENTS), ()),
        attempt(lambda: _doctor(folder / DOCTOR), ()),
        tuple(problems),
    )


def _config(path: Path) -> dict[str, Any]:
    facts = read_json(path)
    check_config(facts, str(path))
    return facts


def _complete_lines(path: Path) -> list[str]:
    """A file's lines without a last one that is still being written."""
    with fitting(path):
        content = read_bytes(path).decode()
    return content[: content.rfind("\n") + 1].splitlines()


def read_metrics(path: Path) -> Table:
    """The columns of metrics.csv.

    Raises:
        CheckpointError: the file is missing or broken; names it.
    """
    lines = _complete_lines(path)
    with fitting(path):
        names, *rows = csv.reader(lines) if lines else [[]]
        if not rows:
            return {}
        if "step" not in names or len(names) > MOST_COLUMNS or len(set(names)) < len(names):
            raise CheckpointError(
                f"{path} has the columns {shorten(', '.join(names))} (expected step, and at most "
                f"{MOST_COLUMNS} names, each once)"
            )
        values = np.array(rows, np.float64)  # raises on rows of different lengths
        if values.shape[1] != len(names):
            raise CheckpointError(
                f"{path} has {len(names)} columns and rows of {values.shape[1]} (expected as many)"
            )
    with np.errstate(invalid="ignore"):
        values[~(np.abs(values) < DRAWABLE)] = math.nan
    values = values[np.isfinite(values[:, names.index("step")])]
    return {shorten(name): values[:, column] for column, name in enumerate(names)}


def _episodes(path: Path, num_envs: Any) -> Episodes | None:
    if not path.exists():
        return None
    count(num_envs, f"{path.parent / CONFIG}: num_envs")
    lines = _complete_lines(path)
    if not lines:
        return None
    spread = range(0, len(lines), -(-len(lines) // MOST_EPISODES))
    found = []
    for index in sorted({*spread, *range(len(lines))[-RECENT:]}):
        where = f"{path}, line {index + 1}"
        facts = parse_json(lines[index].encode(), Path(where))
        EPISODE(facts, where)
        end = (facts["first"] + facts["length"]) * num_envs
        found.append((end, facts["ret"], facts["length"]))
    with fitting(path):
        step, ret, length = np.array(found, np.float64).T
    return Episodes(step, ret, length, len(lines))


def _number_or_nan(value: Any, where: str) -> None:
    if not (isinstance(value, float) and math.isnan(value)):
        number(value, where)


def _numbers(value: Any, where: str) -> None:
    if not isinstance(value, Mapping) or len(value) > 100:
        raise CheckpointError(f"{where} is {shorten(value)} (expected numbers by name)")
    for name, one in value.items():
        _number_or_nan(one, f"{where}: {name}")


def _long_text(value: Any, where: str) -> None:
    if not isinstance(value, str):
        raise CheckpointError(f"{where} is {shorten(repr(value))} (expected a string)")


MEASURED: Rule = record(
    {"evaluation": _number_or_nan},
    {"random": _number_or_nan, "final": _number_or_nan, "cleared": _numbers},
    open_to=True,
)
"""Rule for what a comparison measured of a run."""
FAULT: Rule = record(
    {"kind": text, "env_index": integer(-1), "episode": integer(-1), "seed": integer(-1)},
    {"actions": array(anything, 10**6), "traceback": _long_text},
    open_to=True,
)
"""Rule for a line of incidents.jsonl."""
CHECK: Rule = record(
    {"name": text, "verdict": text, "measured": _long_text},
    {"meaning": _long_text, "mend": _long_text},
    open_to=True,
)
"""Rule for a result of the doctor."""


def _outcome(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    facts = read_json(path)
    MEASURED(facts, str(path))
    return facts


def _incidents(path: Path) -> tuple[dict[str, Any], ...]:
    if not path.exists():
        return ()
    found = []
    for index, line in enumerate(_complete_lines(path)[:MOST_INCIDENTS]):
        where = f"{path}, line {index + 1}"
        facts = parse_json(line.encode(), Path(where))
        FAULT(facts, where)
        found.append(facts)
    return tuple(found)


def _doctor(path: Path) -> tuple[dict[str, str], ...]:
    if not path.exists():
        return ()
    try:
        results = json.loads(read_bytes(path, JSON_BYTES))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not valid JSON: {error}") from None
    array(CHECK, 1000)(results, str(path))
    return tuple(results)
