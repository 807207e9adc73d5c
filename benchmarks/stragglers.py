"""What uneven ranks cost: a discrete-event simulation, `benchmarks/stragglers.py`

R ranks collect a segment each, T steps of a group of environments, whose times vary; then they
take M gradient steps, each of which begins when the last rank has finished the one before.
Efficiency is the time that an update would take if every rank took the mean time, over the time
it takes.

Three kinds of environment steps, all with the same mean: `steady` (coefficient of variation 0.1),
`uneven` (log-normal, 1.0), and `resets` (one step in 200 takes 100 times as long, as a slow reset
does). A step of B environments in one process is the sum of theirs. With `--pause P` a rank also
stops for 100 steps' time in a share P of its updates (another process, a page fault, a garbage
collection).
"""

import argparse
import heapq
from pathlib import Path

import numpy as np

KINDS = ("steady", "uneven", "resets")
RANKS = (1, 2, 8, 64, 1024)
PAGE = Path(__file__).parent / "results" / "stragglers.md"


def step_times(kind, shape, random):
    """Seconds of environment steps, mean 1."""
    if kind == "steady":
        return np.maximum(random.normal(1.0, 0.1, shape), 0.0)
    if kind == "uneven":
        sigma = np.sqrt(np.log(2.0))  # a coefficient of variation of 1
        return random.lognormal(-(sigma**2) / 2, sigma, shape)
    slow = random.random(shape) < 1 / 200
    return np.where(slow, 100.0, 1.0) / (1 + 99 / 200)


def efficiency(kind, ranks, *, T, B, M, learn, pause, updates, random):
    """Mean time of an update over the time it takes on `ranks` ranks.

    Args:
        learn: seconds of all gradient steps, in units of the collection's.
    """
    each = learn * T * B / M
    clock = 0.0
    for _ in range(updates):
        events = []
        for rank in range(ranks):
            collect = float(step_times(kind, (T, B), random).sum())
            if random.random() < pause:
                collect += 100.0 * B
            heapq.heappush(events, (clock + collect, rank, 0))
        arrived, latest = 0, clock
        while events:
            now, rank, done = heapq.heappop(events)
            latest, arrived = max(latest, now), arrived + 1
            if arrived < ranks:
                continue  # the exchange waits for the others
            arrived = 0
            if done < M:  # all are here: the next gradient step begins everywhere
                jitter = random.normal(1.0, 0.05, ranks)
                for other in range(ranks):
                    heapq.heappush(
                        events, (latest + each * max(jitter[other], 0.0), other, done + 1)
                    )
        clock = latest
    ideal = updates * (T * B * (1 + learn) + pause * 100.0 * B)
    return ideal / clock


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-steps", type=int, default=128)
    parser.add_argument("--num-envs", type=int, default=8, help="environments of a rank")
    parser.add_argument("--minibatches", type=int, default=16, help="gradient steps of an update")
    parser.add_argument("--learn", type=float, default=1.0, help="learning over collecting")
    parser.add_argument("--pause", type=float, default=0.02)
    parser.add_argument("--updates", type=int, default=20)
    options = parser.parse_args()
    lines = [
        "# Uneven ranks, simulated",
        "",
        f"`python benchmarks/stragglers.py`: {given(options)}.",
    ]
    for pause in (0.0, options.pause):
        lines += ["", f"A rank pauses in {pause:.0%} of its updates:", ""]
        lines.append("| steps | " + " | ".join(f"{ranks} ranks" for ranks in RANKS) + " |")
        lines.append("|---" * (len(RANKS) + 1) + "|")
        for kind in KINDS:
            random = np.random.default_rng(0)
            cells = [
                efficiency(
                    kind, ranks, T=options.num_steps, B=options.num_envs, M=options.minibatches,
                    learn=options.learn, pause=pause, updates=options.updates, random=random,
                )
                for ranks in RANKS
            ]  # fmt: skip
            lines.append(f"| {kind} | " + " | ".join(f"{cell:.2f}" for cell in cells) + " |")
    PAGE.write_text("\n".join([*lines, ""]))
    print("\n".join(lines))


def given(options):
    return (
        f"T {options.num_steps}, {options.num_envs} environments a rank, {options.minibatches} "
        f"gradient steps whose times vary by 5 %, learning takes {options.learn:g} of collecting, "
        f"{options.updates} updates"
    )


if __name__ == "__main__":
    main()
