"""Shows a comparison as a table, in words, and as a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from retain.study.compare import Study
from retain.study.memory_length import CLEARINGS, WHOLE, effective_length
from retain.study.outcome import Outcome
from retain.study.statistics import Interval, improvement, iqm_interval, rank_test
from retain.study.tune import Tuned
from retain.study.verdict import Evidence, Verdict, evaluations, judge, rate
from retain.train.plot import plot

Found = Mapping[str, Sequence[Outcome]]


def against(found: Found, name: str) -> tuple[Interval | None, str]:
    """The probability that a variant beats the first one, and the rank test's p; empty for the
    first."""
    base = next(iter(found))
    if name == base:
        return None, ""
    values, others = evaluations(found[name]), evaluations(found[base])
    return improvement(values, others), f"{rank_test(values, others):.3f}"


def table(found: Found) -> list[str]:
    """Markdown lines, one for each variant; the others are compared with the first one."""
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


def yardstick_line(study: Study, found: Found) -> str:
    """The line on the scale of returns: random actions, and a good return if one is known."""
    evidence = Evidence(study, found)
    known = "" if evidence.reference is None else f"; a good return is {evidence.reference:.4g}"
    randoms = {f"{evidence.random(name):.4g}": name for name in found}
    if len(randoms) == 1:
        return f"Random actions reach {next(iter(randoms))}{known}."
    each = ", ".join(f"{evidence.random(name):.4g} ({name})" for name in found)
    return f"Random actions reach {each}{known}."


def short_table(found: Found) -> list[str]:
    """A table that fits a terminal: only the final agents."""
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


def memory_lines(study: Study, found: Found) -> list[str]:
    """Lines on how far back each variant's memory matters; empty if no variant has a memory. A
    variant that did not learn gets no length, since memory means nothing to random actions."""
    with_memory = {n: o for n, o in found.items() if o and o[0].cleared}
    if not with_memory:
        return []
    columns, evidence = [*map(str, CLEARINGS), WHOLE], Evidence(study, found)
    lines = [
        "Return with the memory cleared every k steps (mean over seeds), and the effective length: "
        "half the interval at which memory brings half of its gain.", "",
        f"| | {' | '.join(columns)} | effective length |", "|---|" + "---|" * (len(columns) + 1),
    ]  # fmt: skip
    for name, outcomes in with_memory.items():
        means = {k: float(np.mean([o.cleared[k] for o in outcomes])) for k in columns}
        length = effective_length(means)
        shown = "makes no difference" if length is None else f"{length:.1f} steps"
        if not evidence.learned(name):
            shown = "not given: it did not learn"
        lines.append(f"| {name} | {' | '.join(f'{means[k]:.4g}' for k in columns)} | {shown} |")
    return lines


def advice_lines(verdict: Verdict) -> list[str]:
    """Lines with the next things to try if there is no verdict, in order."""
    if not verdict.advice:
        return []
    steps = (f"{number}. {text}" for number, text in enumerate(verdict.advice, 1))
    return ["What to try, in this order:", "", *steps, ""]


def tuned_lines(study: Study, tuned: Sequence[Tuned]) -> list[str]:
    """Lines with the search's choice for each variant, and the cost of the search."""
    if not tuned:
        return []
    lines = [
        f"Tuned before: the same {study.trials} trials of {study.steps:,} steps for every variant, "
        "on a seed that is not compared.", "",
        "| | chosen | its return | with the variant's own settings |", "|---|---|---|---|",
    ]  # fmt: skip
    for found in tuned:
        chosen = ", ".join(f"{k} {v}" for k, v in found.settings.items()) or "its own settings"
        lines.append(
            f"| {found.variant} | {chosen} | {found.evaluation:.4g} | {found.before:.4g} |"
        )
    return [*lines, ""]


def write_report(study: Study, found: Found, out: Path, tuned: Sequence[Tuned] = ()) -> Path:
    """Writes `report.md` and `compare.png` into the study's folder; returns the report's path."""
    folders = {
        study.folder(out, variant, seed): variant.name
        for variant in study.variants
        for seed in range(1, study.seeds + 1)
    }
    plot(list(folders), out / "compare.png", name=lambda run: folders[run])
    verdict = judge(study, found)
    lines = [
        f"# {study.algo} on {study.env}: {', '.join(found)}", "",
        f"{study.steps:,} steps, {study.seeds} seeds each, {study.episodes} episodes of each final "
        "agent" + (f", {study.settings}" if study.settings else "") + ".", "",
        f"**{verdict.headline}.** {verdict.doubt}.", "", *advice_lines(verdict),
        yardstick_line(study, found), "", *table(found), "", *tuned_lines(study, tuned),
        *memory_lines(study, found), "", "![learning curves, every seed](compare.png)", "",
    ]  # fmt: skip
    path = out / "report.md"
    path.write_text("\n".join(lines))
    return path
