"""What `--overlap` brings: collecting the next segment while learning from the last one.

    python benchmarks/overlap.py --rounds 5 --write

PPO with and without it, in turn, one torch thread, on an idle machine with two cores or more. The
Python around each operation runs in one thread at a time, so what counts is how much of collecting
and updating happens outside it: in workers, in large operations, in a simulator that lets go.
`--threads 2` is beside it, since that is the other way to use a second core. Its learning cost is
in results/learning.md.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import retain
from interleave import Run, interleaved
from machine import machine_line

RESULTS = Path(__file__).parent / "results"
CASES: dict[str, tuple[str, dict[str, object], int]] = {
    "CartPole, 8 environments": ("CartPole-v1", {"num_envs": 8, "preset": "none"}, 8192),
    "CartPoleNoVel, LSTM(128)": (
        "CartPoleNoVel-v1",
        {"num_envs": 8, "memory": "lstm", "memory_hidden": 128, "preset": "none"}, 4096,
    ),
    "HalfCheetah": ("HalfCheetah-v5", {"num_envs": 8, "preset": "none"}, 8192),
    "HalfCheetah, 1 worker": (
        "HalfCheetah-v5", {"num_envs": 8, "preset": "none", "workers": 1}, 8192,
    ),
    "Pong": ("ALE/Pong-v5", {"num_envs": 8}, 2048),
}  # fmt: skip
"""The environment, its settings, and the steps that are timed at once."""


def ours(case: str, overlap: bool) -> Run:
    env, settings, _ = CASES[case]
    agent = retain.PPO(env, threads=0, overlap=overlap, **settings)
    return lambda steps: agent.learn(steps) and None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="write results/overlap.md")
    options = parser.parse_args()
    lines = [
        "# Overlap", "", machine_line(), "",
        f"`python benchmarks/overlap.py --rounds {options.rounds}`", "",
        "| PPO | steps/s | two threads | overlap | overlap / plain |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for case, (_, _, steps) in CASES.items():
        builds: dict[str, Callable[[], Run]] = {
            "plain": partial(ours, case, False), "overlap": partial(ours, case, True),
        }  # fmt: skip
        median = interleaved(builds, dict.fromkeys(builds, steps), options.rounds)
        plain, two, overlap = (median[key] for key in (("plain", 1), ("plain", 2), ("overlap", 1)))
        lines.append(
            f"| {case} | {plain:,.0f} | {two:,.0f} | {overlap:,.0f} | {overlap / plain:.2f} |"
        )
        print(lines[-1], flush=True)
    text = "\n".join(lines) + "\n"
    print(text)
    if options.write:
        (RESULTS / "overlap.md").write_text(text)


if __name__ == "__main__":
    main()
