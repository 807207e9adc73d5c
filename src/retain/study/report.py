"""The comparison in a table, in words, and as a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from retain.study.compare import Outcome, Study
from retain.study.memory_length import CLEARINGS, WHOLE, effective_length
from retain.study.statistics import (
    Interval,
    improvement,
    iqm_difference,
    iqm_interval,
    rank_test,
    rank_test_floor,
)
from retain.train.plot import plot

Found = Mapping[str, Sequence[Outcome]]


def evaluations(outcomes: Sequence[Outcome]) -> list[float]:
    """The final agents' returns."""
    return [outcome.evaluation for outcome in outcomes]


def rate(outcomes: Sequence[Outcome]) -> float:
    """Median training speed."""
    return float(np.median([outcome.steps_per_second for outcome in outcomes]))


def against(found: Found, name: str) -> tuple[Interval | None, str]:
    """How probably a variant beats the first, and the rank test's p; nothing for the first."""
    base = next(iter(found))
    if name == base:
        return None, ""
    values, others = evaluations(found[name]), evaluations(found[base])
    return improvement(values, others), f"{rank_test(values, others):.3f}"


def table(found: Found) -> list[str]:
    """Markdown lines, one for each variant; the first is what the others are compared with."""
    base = next(iter(found))
    lines = [
        f"| | final agent, IQM [95 %] | last tenth of training | whole training | better than "
        f"{base} | p | steps/s | each seed |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, outcomes in found.items():
        values = evaluations(outcomes)
        better, p = against(found, name)
        shown = "" if better is None else str(better)
        seeds = " ".join(f"{value:.4g}" for value in values)
        final = np.mean([outcome.final for outcome in outcomes])
        whole = np.mean([outcome.efficiency for outcome in outcomes])
        lines.append(
            f"| {name} | {iqm_interval(values)} | {final:.4g} | {whole:.4g} | {shown} | {p} | "
            f"{rate(outcomes):,.0f} | {seeds} |"
        )
    return lines


def short_table(found: Found) -> list[str]:
    """What fits a terminal: the final agents alone."""
    base = next(iter(found))
    head = f"| | final return, IQM [95 %] | better than {base} | p | steps/s |"
    lines = [head, "|---|---|---|---|---|"]
    for name, outcomes in found.items():
        better, p = against(found, name)
        share = "" if better is None else f"{better.value:.0%}"
        lines.append(
            f"| {name} | {iqm_interval(evaluations(outcomes))} | {share} | {p} | "
            f"{rate(outcomes):,.0f} |"
        )
    return lines


def verdict(study: Study, found: Found) -> str:
    """In words: does the best of the others beat the first, with the doubt that is left."""
    base, *others = found
    best = max(others, key=lambda name: iqm_interval(evaluations(found[name])).value)
    gap = iqm_difference(evaluations(found[best]), evaluations(found[base]))
    slower = rate(found[base]) / rate(found[best])
    subject = "memory" if study.variants[0].settings.get("memory") == "none" else best
    shown = f"{gap.value:+.4g} [{gap.low:.4g}, {gap.high:.4g}]"
    floor = rank_test_floor(study.seeds, study.seeds)
    doubt = f"{study.seeds} seeds each: a rank test cannot go below p = {floor:.3g}" + (
        ", so it can never reach 0.05" if floor > 0.05 else ""
    )
    if gap.low > 0:
        text = f"{subject} helps: {best} against {base} {shown}"
    elif gap.high < 0:
        text = f"{subject} hurts here: even {best} is below {base}, {shown}"
    else:
        pace = f" and {slower:.1f}x faster" if slower > 1.05 else ""
        text = f"{subject} does not help here: {base} is as good{pace} ({best} {shown})"
    return f"{text}. {doubt}."


def memory_lines(found: Found) -> list[str]:
    """How far back each variant's memory matters; nothing where none has one."""
    with_memory = {n: o for n, o in found.items() if o and o[0].cleared}
    if not with_memory:
        return []
    columns = [*map(str, CLEARINGS), WHOLE]
    lines = [
        "Return with the memory cleared every k steps (mean over seeds), and the effective length: "
        "half the interval at which half of what memory brings is there.", "",
        f"| | {' | '.join(columns)} | effective length |", "|---|" + "---|" * (len(columns) + 1),
    ]  # fmt: skip
    for name, outcomes in with_memory.items():
        means = {k: float(np.mean([o.cleared[k] for o in outcomes])) for k in columns}
        length = effective_length(means)
        shown = "makes no difference" if length is None else f"{length:.1f} steps"
        lines.append(f"| {name} | {' | '.join(f'{means[k]:.4g}' for k in columns)} | {shown} |")
    return lines


def write_report(study: Study, found: Found, out: Path) -> Path:
    """`report.md` and `compare.png` in the study's folder; where the report is."""
    folders = {
        study.folder(out, variant, seed): variant.name
        for variant in study.variants
        for seed in range(1, study.seeds + 1)
    }
    plot(list(folders), out / "compare.png", name=lambda run: folders[run])
    lines = [
        f"# {study.algo} on {study.env}: {', '.join(found)}", "",
        f"{study.steps:,} steps, {study.seeds} seeds each, {study.episodes} episodes of each final "
        "agent" + (f", {study.settings}" if study.settings else "") + ".", "",
        f"**{verdict(study, found)}**", "", *table(found), "", *memory_lines(found), "",
        "![learning curves, every seed](compare.png)", "",
    ]  # fmt: skip
    path = out / "report.md"
    path.write_text("\n".join(lines))
    return path
