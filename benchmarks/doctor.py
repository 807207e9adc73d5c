"""The doctor examined: its time, false alarms over seeds, and what catches each planted fault.

    python benchmarks/doctor.py --seeds 10 --jobs 2 --write
    python benchmarks/doctor.py --mutants

The first runs every check and probe on sound agents; a failure there is a false alarm.
"""

import argparse
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from machine import machine_line

RESULTS = Path(__file__).parent / "results"
ENVS, MEMORIES = ("CartPole-v1", "PendulumNoVel-v1"), ("none", "lstm", "gru")


def examine(env: str, memory: str, seed: int) -> tuple[float, int, list[str]]:
    """Seconds, checks made, and what failed."""
    import torch

    import retain

    torch.set_num_threads(1)
    began = time.perf_counter()
    report = retain.doctor(retain.PPO(env, memory=memory, seed=seed), learning=0.0)
    seconds = time.perf_counter() - began
    return seconds, len(report.results), [f"{r.name}: {r.measured}" for r in report.failed]


def sound(seeds: int, jobs: int) -> list[str]:
    cases = [(env, memory) for env in ENVS for memory in MEMORIES]
    lines = ["| environment | memory | checks | seconds | false alarms |", "|---|---|---|---|---|"]
    total = 0
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        waiting = {
            case: [pool.submit(examine, *case, seed) for seed in range(1, seeds + 1)]
            for case in cases
        }
        for (env, memory), futures in waiting.items():
            results = [future.result() for future in futures]
            alarms = [alarm for _, _, failed in results for alarm in failed]
            total += len(alarms)
            seconds = statistics.median(s for s, _, _ in results)
            said = "; ".join(alarms) or "none"
            lines.append(
                f"| {env} | {memory} | {results[0][1]} | {seconds:.0f} | "
                f"{len(alarms)} of {seeds} runs: {said} |"
            )
            print(lines[-1], flush=True)
    lines += ["", f"{total} false alarms in {len(cases) * seeds} examinations, {jobs} at a time."]
    return lines


def mutants() -> list[str]:
    """The table of planted faults, from the test that plants them."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "doctor"))
    from test_mutants import MUTANTS

    lines = ["| planted fault | the check that catches it |", "|---|---|"]
    return lines + [f"| {mutant.name} | {mutant.check} |" for mutant in MUTANTS]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--mutants", action="store_true", help="print the table of planted faults")
    parser.add_argument("--write", action="store_true", help="write results/doctor.md")
    options = parser.parse_args()
    if options.mutants:
        print("\n".join(mutants()))
        return
    lines = [f"# Doctor\n\n{machine_line()}\n", "`python benchmarks/doctor.py`\n"]
    lines += sound(options.seeds, options.jobs)
    if options.write:
        (RESULTS / "doctor.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
