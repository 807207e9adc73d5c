"""Shows a sweep in words and tables."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from retain.study.summary import advice_lines, short_table, write_report, yardstick_line
from retain.study.swept import Swept
from retain.study.trials import TrialResult

TOP = 5
"""Trials in the short table."""


def number(value: Any) -> str:
    """A setting's value, short."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def trial_line(trial: TrialResult) -> str:
    """One line about a trial that is over."""
    end = trial.reason if trial.value is None else f"{trial.value:.4g}"
    values = ", ".join(f"{name} {number(value)}" for name, value in trial.values.items())
    what = "the default settings" if trial.default else values
    return f"trial {trial.number}, memory {trial.memory}: {end} ({what})"


def trials_table(trials: Sequence[TrialResult]) -> list[str]:
    """The best trials, and the default ones, as Markdown."""
    done = sorted(
        (t for t in trials if t.value is not None), key=lambda t: (-(t.value or 0.0), t.number)
    )
    shown = [t for rank, t in enumerate(done) if rank < TOP or t.default]
    lines = ["| trial | memory | IQM of its seeds | settings |", "|---|---|---|---|"]
    for trial in shown:
        values = ", ".join(f"{name} {number(value)}" for name, value in trial.values.items())
        what = "default" if trial.default else values
        lines.append(f"| {trial.number} | {trial.memory} | {trial.value:.4g} | {what} |")
    given_up = len(trials) - len(done)
    return [*lines, "", f"{len(done)} trials finished, {given_up} were given up early.", ""]


def changes_table(swept: Swept) -> list[str]:
    """The best settings beside the default ones, as Markdown."""
    sweep, best = swept.sweep, swept.best
    before, after = sweep.resolve(best.memory, {}), sweep.resolve(best.memory, sweep.changes(best))
    lines = ["| setting | default | found |", "|---|---|---|"]
    for name, value in after.items():
        if value != before[name]:
            lines.append(f"| {name} | {number(before[name])} | {number(value)} |")
    return [*lines, ""]


def result_lines(swept: Swept) -> list[str]:
    """The result in words: the gain with its interval, and the verdict."""
    if swept.best.default:
        return ["No trial was better than the default settings.", ""]
    if swept.compared is None:
        return [
            "Not compared with the default settings (fresh seeds: 0): the best trial's return is "
            "also its luck.", "",
        ]  # fmt: skip
    compared = swept.compared
    verdict, gain = compared.verdict, compared.gain
    return [
        f"Found settings minus default settings: {gain.value:+.4g} [{gain.low:.4g}, "
        f"{gain.high:.4g}] (IQM, 95 % interval) after {compared.study.steps:,} steps, on "
        f"{compared.study.seeds} fresh seeds each.",
        "", f"{verdict}", "", *advice_lines(verdict),
    ]  # fmt: skip


def use_line(swept: Swept) -> str:
    """The command that trains with the best settings."""
    sweep = swept.sweep
    memory = swept.best.memory
    return f"retain train {sweep.algo} --env {sweep.env} --memory {memory} --preset {swept.preset}"


def write_sweep_report(swept: Swept, out: Path) -> Path:
    """Writes `report.md` into the sweep's folder, and the comparison's own into its folder."""
    sweep, compared = swept.sweep, swept.compared
    lines = [
        f"# {sweep.algo} on {sweep.env}: a sweep over {', '.join(sweep.memory)}", "",
        f"{len(swept.trials)} trials of {sweep.steps:,} steps, {sweep.seeds} seeds each, "
        f"{sweep.episodes} episodes of each final agent, pruner {sweep.pruner}"
        + (f", {sweep.settings}" if sweep.settings else "") + ".", "",
        *result_lines(swept),
    ]  # fmt: skip
    if compared is not None:
        write_report(compared.study, compared.found, compared.folder)
        lines += [
            *short_table(compared.found), "", yardstick_line(compared.study, compared.found), "",
            f"[Every seed, with learning curves]({compared.folder.name}/report.md)", "",
        ]  # fmt: skip
    if not swept.best.default:
        lines += ["## The settings", "", *changes_table(swept)]
    lines += [
        f"`{use_line(swept)}`", "", "## Trials", "", *trials_table(swept.trials),
        "## What was searched", "",
        *(f"- {memory}: " + ", ".join(f"{one.name} {one.range}" for one in space)
          for memory, space in sweep.space.items()), "",
    ]  # fmt: skip
    path = out / "report.md"
    path.write_text("\n".join(lines))
    return path
