"""How long single runs went: tasks of hours, on as many seeds as there was time for.

    retain train ppo --env ALE/Pong-v5 --lr-schedule constant --precision bfloat16 --threads 1 \\
        --steps 600000 --out runs/pong-none
    retain train ppo --env ALE/Pong-v5 --lr-schedule constant --precision bfloat16 --threads 1 \\
        --steps 600000 --memory lstm --out runs/pong-lstm
    retain train td3 --env HalfCheetah-v5 --steps 300000 --out runs/cheetah-td3
    retain train sac --env HalfCheetah-v5 --steps 300000 --out runs/cheetah-sac
    python benchmarks/runs.py runs/* --write

The preset's learning rate for Atari falls to 0 over 10 million steps; over 600,000 it would be gone
before anything is learned, so it is constant here.
"""

import argparse
import csv
from pathlib import Path

import retain
from machine import machine_line

RESULTS = Path(__file__).parent / "results"


def row(run: Path, episodes: int) -> str:
    """The mean return of the last 100 training episodes at each tenth of a run, and the final
    agent's."""
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    steps, minutes = float(rows[-1]["step"]), float(rows[-1]["seconds"]) / 60
    means = [
        float(next(row for row in rows if float(row["step"]) >= steps * n / 10)["return_mean"])
        for n in range(1, 11)
    ]
    shown = " | ".join(f"{mean:.{1 if abs(mean) < 100 else 0}f}" for mean in means)
    found = retain.load(run).evaluate(episodes, deterministic=False)
    return f"| {run.name} | {steps:,.0f} | {shown} | {found.return_mean:.1f} | {minutes:.0f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--episodes", type=int, default=10, help="of each final agent")
    parser.add_argument("--write", action="store_true", help="write results/runs.md")
    options = parser.parse_args()
    tenths = " | ".join(f"{10 * n} %" for n in range(1, 11))
    lines = [
        f"# Single long runs\n\n{machine_line()}\n",
        "The commands are in `benchmarks/runs.py`; one seed, one thread. Mean return of the last "
        "100 training episodes at each tenth of the run; the final agent, playing stochastically; "
        "minutes of training, beside other work.\n",
        f"| run | steps | {tenths} | final agent | minutes |",
        "|---" * 14 + "|",
        *(row(run, options.episodes) for run in options.runs),
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    if options.write:
        (RESULTS / "runs.md").write_text(text)


if __name__ == "__main__":
    main()
