"""How learning scales over ranks: `benchmarks/scaling.py [--seconds S] [--rounds R] [--print]`

Every measurement runs in processes of its own, one thread each, and is kept in
benchmarks/results/scaling.json as soon as it is made: started again, the script measures only
what is missing (`--again` measures all). The kinds of a case take turns, so that a slow minute of
the machine meets all of them; medians over the rounds count. Each case is run

- alone: one rank;
- beside: two processes that do not know each other, for what two of them take from the machine;
- weak: two ranks, each with as many environments and minibatch rows as the one rank had;
- strong: two ranks that share the one rank's environments and rows.

Weak efficiency is the steps a second of two ranks over twice those of one. The model
(docs/scaling.md) predicts the time of an update from the numbers of one rank, of two beside each
other, and of bare exchanges; `--print` writes both into benchmarks/results/scaling.md.
"""

import argparse
import itertools
import json
import math
import statistics
import sys
import tempfile
import time
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
KEPT, PAGE = RESULTS / "scaling.json", RESULTS / "scaling.md"
CASES = {
    "PPO, HalfCheetah": {
        "env": "HalfCheetah-v5", "memory": "none", "num_envs": 8, "num_steps": 128,
        "batch_size": 256, "epochs": 4, "preset": "none",
    },
    "PPO-LSTM, HalfCheetah": {
        "env": "HalfCheetah-v5", "memory": "lstm", "memory_hidden": 64, "num_envs": 8,
        "num_steps": 128, "batch_size": 256, "epochs": 4, "sequence_length": 32, "preset": "none",
    },
    "PPO, Pong": {
        "env": "ALE/Pong-v5", "memory": "none", "num_envs": 8, "num_steps": 32,
        "batch_size": 128, "epochs": 2, "preset": "none",
    },
}  # fmt: skip
KINDS = ("alone", "beside", "weak", "strong")
LATEST = {2: 0.56, 8: 1.42, 64: 2.34, 1024: 3.24}
"""The expected largest of that many standard normal numbers."""
LATENCY, BANDWIDTH = 50e-6, 1.25e9
"""Seconds and bytes a second between two hosts: TCP over 10 Gbit/s Ethernet."""
FEWEST = 6
"""Updates that are timed at least."""


class Counted:
    """An exchange that counts its calls, bytes and seconds."""

    def __init__(self, inner):
        self.inner, self.rank, self.size = inner, inner.rank, inner.size
        self.reset()

    def reset(self):
        self.calls, self.bytes, self.seconds = 0, 0, 0.0

    def _timed(self, function, x):
        began = time.perf_counter()
        found = function(x)
        self.seconds += time.perf_counter() - began
        self.calls += 1
        self.bytes += x.numel() * x.element_size() * (self.size - 1)
        return found

    def gather(self, x):
        return self._timed(self.inner.gather, x)

    def swap(self, x):
        return self._timed(self.inner.swap, x)

    def objects(self, value):
        return self.inner.objects(value)

    def first(self, value):
        return self.inner.first(value)


def child(out, case, kind, seconds):
    """Times updates; every rank writes its own numbers."""
    import os

    import torch

    import retain
    from retain.data.shards import ALONE

    torch.set_num_threads(1)
    ranks = ALONE if kind == "beside" else retain.join_ranks()
    settings = dict(CASES[case])
    if kind == "weak":
        settings["num_envs"] *= ranks.size
        settings["batch_size"] *= ranks.size
    agent = retain.PPO(settings.pop("env"), **settings)
    counted = Counted(agent.ranks)
    agent.update.shards.exchange = counted
    update, collector = agent.update, agent.collector
    for _ in range(2):
        agent.iterate(lambda: 0.0)
    counted.reset()
    collects, learns, began = [], [], time.perf_counter()
    while len(learns) < FEWEST or not ranks.first(time.perf_counter() - began > seconds):
        start = time.perf_counter()
        rollouts = collector.collect_shards(agent.config.num_steps)
        middle = time.perf_counter()
        update.update(rollouts, 0.0)
        collects.append(middle - start)
        learns.append(time.perf_counter() - middle)
    total = time.perf_counter() - began
    n = len(learns)
    steps = agent.config.num_steps * agent.run_settings.num_envs
    found = {
        "update": total / n, "collect": sum(collects) / n, "learn": sum(learns) / n,
        "collect_std": float(torch.tensor(collects).std()),
        "learn_std": float(torch.tensor(learns).std()), "updates": n,
        "steps_per_second": steps * n / total,
        "parameters": sum(p.numel() for p in agent.policy.parameters()),
        "gradient_steps": update.gradient_steps / (n + 2),
        "exchanges": counted.calls / n, "bytes": counted.bytes / n, "waiting": counted.seconds / n,
        "bare": bare(ranks, agent) if ranks.size > 1 else 0.0,
    }  # fmt: skip
    rank = os.environ.get("RANK", "0")
    (Path(out) / rank).write_text(json.dumps(found))


def bare(ranks, agent):
    """Mean seconds of one exchange of a gradient, counted from the rank that comes last, between
    stretches of work as in an update."""
    import torch

    from retain.data.shards import Layout, Shards

    size = 1 + sum(p.numel() for p in agent.policy.parameters())
    shards = Shards(Layout(ranks.size, range(ranks.rank, ranks.rank + 1)), ranks)
    x, work, times = torch.zeros(size), torch.randn(256, 256), []
    for _ in range(100):
        for _ in range(8):
            work = torch.tanh(work @ work)
        began = time.perf_counter()
        shards.mean([x])
        times.append(time.perf_counter() - began)
    return float(ranks.gather(torch.tensor(times)).amin(0).mean())


def measure(case, kind, seconds):
    from retain.train.launch import attempt

    with tempfile.TemporaryDirectory() as folder:
        ranks = 1 if kind == "alone" else 2
        command = [__file__, "--child", folder, case, kind, str(seconds)]
        assert attempt(command, ranks, 300.0) == 0, (case, kind)
        each = [json.loads(path.read_text()) for path in sorted(Path(folder).iterdir())
                if path.name.isdecimal()]  # fmt: skip
    return {name: sum(one[name] for one in each) / len(each) for name in each[0]}


def predicted(alone, beside, weak):
    """Seconds of a weak update on two ranks, from what was measured without them.

    The update of two processes beside each other, + exchanges x one bare exchange + the waits for
    the later of two collections and of two gradient steps.
    """
    return (
        beside["update"] + weak["exchanges"] * weak["bare"]
        + (alone["collect_std"] + jitter(alone)) / math.sqrt(math.pi)
    )  # fmt: skip


def jitter(alone):
    """The sum over an update's gradient steps of their standard deviation, if they vary
    independently."""
    return alone["learn_std"] * math.sqrt(alone["gradient_steps"])


def cluster(alone, weak, ranks):
    """Seconds of a weak update on a cluster's ranks, by the model of docs/scaling.md."""
    share = 2 * (ranks - 1) / ranks
    exchange = 2 * LATENCY + share * 4 * weak["parameters"] / BANDWIDTH
    straggling = (alone["collect_std"] + jitter(alone)) * LATEST[ranks]
    return alone["update"] + weak["exchanges"] * exchange + straggling


def medians(runs):
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def page(note, found):
    from machine import machine_line

    lines = [
        "# Scaling over ranks",
        "",
        f"`python benchmarks/scaling.py`, {machine_line()}; one thread each. {note}",
        "",
        "| case | steps/s, 1 rank | 2, weak | efficiency | beside | 2, strong | speedup |",
        "|---|---|---|---|---|---|---|",
    ]
    for case in CASES:
        a, b, w, s = (found.get(f"{case}: {kind}") for kind in KINDS)
        if not (a and b and w and s):
            continue
        one, two = a["steps_per_second"], w["steps_per_second"]
        lines.append(
            f"| {case} | {one:,.0f} | {two:,.0f} | {two / (2 * one):.2f} | "
            f"{a['update'] / b['update']:.2f} | {s['steps_per_second']:,.0f} | "
            f"{s['steps_per_second'] / one:.2f} |"
        )
    lines += [
        "",
        "*beside*: the speed of each of two processes that do not know each other, as a share of "
        "one alone: what the machine itself allows.",
        "",
        "| case | parameters | exchanges an update | MB sent an update | ms bare | ms waiting | "
        "update, ms: model | measured | off |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for case in CASES:
        a, b, w, s = (found.get(f"{case}: {kind}") for kind in KINDS)
        if not (a and b and w and s):
            continue
        guess = predicted(a, b, w)
        lines.append(
            f"| {case} | {w['parameters']:,.0f} | {w['exchanges']:.0f} | {w['bytes'] / 1e6:.2f} | "
            f"{1e3 * w['exchanges'] * w['bare']:.1f} | {1e3 * w['waiting']:.1f} | "
            f"{1e3 * guess:.0f} | {1e3 * w['update']:.0f} | {guess / w['update'] - 1:+.0%} |"
        )
    lines += [
        "",
        "*bare*: the exchanges of an update, counted from the rank that comes last; *waiting*: as "
        "they were, which includes waiting for the other rank. *model*: docs/scaling.md.",
        "",
        "Not measured: what the model predicts for weak scaling on a cluster, one rank a core with "
        f"memory and caches of its own (k = 1), {LATENCY * 1e6:.0f} us and "
        f"{BANDWIDTH / 1e9:g} GB/s between any two ranks; efficiency, and thousand steps a second:",
        "",
        "| case | collecting, ms ± std | " + " | ".join(f"{n} ranks" for n in LATEST) + " |",
        "|---|---" + "|---" * len(LATEST) + "|",
    ]
    for case in CASES:
        a, w = found.get(f"{case}: alone"), found.get(f"{case}: weak")
        if not (a and w):
            continue
        cells = []
        for ranks in LATEST:
            share = a["update"] / cluster(a, w, ranks)
            cells.append(f"{share:.2f}, {a['steps_per_second'] * ranks * share / 1000:,.0f}")
        spread = f"{1e3 * a['collect']:.0f} ± {1e3 * a['collect_std']:.0f}"
        lines.append(f"| {case} | {spread} | " + " | ".join(cells) + " |")
    lines.append("")
    PAGE.write_text("\n".join(lines))
    print("\n".join(lines))


def main():
    if sys.argv[1:2] == ["--child"]:
        out, case, kind, seconds = sys.argv[2:]
        child(out, case, kind, float(seconds))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each kind")
    parser.add_argument("--again", action="store_true", help="measure what is there as well")
    parser.add_argument("--print", action="store_true", help="write the page only")
    parser.add_argument("--note", default="", help="a remark for the page: a loaded machine")
    options = parser.parse_args()
    kept = json.loads(KEPT.read_text()) if KEPT.exists() and not options.again else {}
    kept["note"] = options.note or kept.get("note", "")
    rounds = 0 if options.print else options.rounds
    for case, number, kind in itertools.product(CASES, range(rounds), KINDS):
        measured = kept.setdefault(f"{case}: {kind}", [])
        if len(measured) <= number:
            measured.append(measure(case, kind, options.seconds))
            print(case, kind, f"{measured[-1]['steps_per_second']:,.0f} steps/s", flush=True)
            KEPT.write_text(json.dumps(kept, indent=1) + "\n")
    page(kept["note"], {key: medians(runs) for key, runs in kept.items() if key != "note"})


if __name__ == "__main__":
    main()
