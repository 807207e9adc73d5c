"""Do the tests notice when the core is wrong? `benchmarks/mutants.py --count 200`

cosmic-ray says how the code can be mutated; a random sample of places gets one mutation each, and
the tests of that part are run against it. A row for each mutant is appended to
benchmarks/results/mutants.csv as soon as it is judged, and the same command goes on where it
stopped; `--report` writes the page of them, `--show N` prints a mutant. Unions in annotations
(`int | None`) are left out: a mutant of those says nothing.
"""

import argparse
import csv
import difflib
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from datetime import date
from pathlib import Path

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

ROOT = Path(__file__).parents[1]
ROWS = ROOT / "benchmarks/results/mutants.csv"
PAGE = ROOT / "benchmarks/results/mutants.md"
FIELDS = ("module", "line", "operator", "occurrence", "outcome", "seconds", "before", "after")
CPU, WALL = 90, 900
"""Seconds that the tests of a mutant may take."""
TESTS = {
    "ops": ["tests/ops", "tests/nn/test_stacked.py"],
    "data": ["tests/data", "tests/train/test_playback.py", "tests/train/test_unusable.py",
             "tests/train/test_off_policy_agent.py"],
    "memory": ["tests/memory", "tests/train/test_monitors.py", "tests/train/test_agent.py"],
    "algos": ["tests/algos", "tests/train/test_off_policy_agent.py", "tests/train/test_monitors.py",
              "tests/train/test_unusable.py", "tests/doctor/test_mutants.py"],
    "train/checkpoint.py": ["tests/train/test_security.py", "tests/train/test_interruptions.py",
                            "tests/train/test_resume.py"],
    "train/recorder.py": ["tests/train/test_playback.py", "tests/train/test_security.py"],
}  # fmt: skip
SLOW = ("-k", "not killed and not signal and not reader and not loading")
"""Left out: tests that start processes; none of them is about the core alone."""


def mutants(path: Path) -> list[tuple[int, int, str, int]]:
    """Line, column, operator and occurrence of every mutation of a file."""
    tree, found = get_ast(path.read_text()), []
    for name in operator_names():
        if "Operator_BitOr_" in name or name.startswith("core/Variable"):
            continue
        operator, occurrence = get_operator(name)(), 0
        for node in ast_nodes(tree):
            for (line, column), _ in operator.mutation_positions(node):
                found.append((line, column, name, occurrence))
                occurrence += 1
    return found


def sample(count: int, seed: int) -> list[tuple[str, int, str, int]]:
    """Module, line, operator and occurrence of `count` mutants at different places."""
    rng, places = random.Random(seed), {}
    for part in TESTS:
        base = ROOT / "src/retain" / part
        for path in [base] if base.suffix else sorted(base.rglob("*.py")):
            for line, column, name, occurrence in mutants(path):
                key = (str(path.relative_to(ROOT)), line, column)
                places.setdefault(key, []).append((name, occurrence))
    chosen = rng.sample(sorted(places), min(count, len(places)))
    return [(module, line, *rng.choice(places[module, line, column]))
            for module, line, column in chosen]  # fmt: skip


def preload() -> None:
    """What every mutant's tests import besides this project: forks have it at once."""
    import gymnasium  # noqa: F401
    import hypothesis  # noqa: F401
    import matplotlib.pyplot  # noqa: F401
    import pytest  # noqa: F401
    import scipy.stats  # noqa: F401
    import stable_baselines3  # noqa: F401
    import torch
    import torch.utils.tensorboard
    import tyro  # noqa: F401

    torch.set_num_threads(1)


def judge(tests: list[str]) -> str:
    """What the tests say of the tree as it is now: survived, killed, or timeout."""
    pid = os.fork()
    if pid == 0:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_CPU, (CPU, CPU))
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nowhere, stream)
        import pytest

        os._exit(int(pytest.main([*tests, "-x", "-q", "-p", "no:cacheprovider", *SLOW])))
    end = time.monotonic() + WALL
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if time.monotonic() > end:
            os.killpg(pid, signal.SIGKILL)
        time.sleep(0.05)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return "survived" if status == 0 else "timeout" if status < 0 else "killed"


def tests_of(module: str) -> list[str]:
    inside = module.removeprefix("src/retain/")
    return next(tests for part, tests in TESTS.items() if inside.startswith(part))


def changed(before: str, after: str) -> tuple[str, str]:
    """The first line that differs, and what it became."""
    lines = list(difflib.ndiff(before.splitlines(), after.splitlines()))
    old = next((line[2:].strip() for line in lines if line.startswith("- ")), "")
    new = next((line[2:].strip() for line in lines if line.startswith("+ ")), "")
    return old, new


def measure(count: int, seed: int) -> None:
    chosen = sample(count, seed)
    if not ROWS.exists():
        ROWS.write_text(",".join(FIELDS) + "\n")
    with ROWS.open(newline="") as file:
        done = len(list(csv.DictReader(file)))
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        ignore = shutil.ignore_patterns("__pycache__", ".git", "runs", ".hypothesis")
        for name in ("src", "tests", "examples"):
            if (ROOT / name).exists():
                shutil.copytree(ROOT / name, tree / name, ignore=ignore)
        shutil.copy(ROOT / "pyproject.toml", tree)
        sys.dont_write_bytecode = True
        os.environ |= {"PYTHONPATH": str(tree / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
        sys.path.insert(0, str(tree / "src"))
        os.chdir(tree)
        preload()
        for module, line, name, occurrence in chosen[done:]:
            path = tree / module
            before = path.read_text()
            after = mutate_code(before, get_operator(name)(), occurrence)
            began = time.monotonic()
            path.write_text(after)
            try:
                outcome = judge(tests_of(module))
            finally:
                path.write_text(before)
            row = (module, line, name, occurrence, outcome, f"{time.monotonic() - began:.0f}",
                   *changed(before, after))  # fmt: skip
            with ROWS.open("a", newline="") as file:
                csv.writer(file).writerow(row)
            print(*row, flush=True)


def report() -> str:
    with ROWS.open(newline="") as file:
        rows = list(csv.DictReader(file))
    outcomes: Counter[tuple[str, str]] = Counter()
    for row in rows:
        inside = row["module"].removeprefix("src/retain/")
        part = next(part for part in TESTS if inside.startswith(part))
        outcomes[part, "survived" if row["outcome"] == "survived" else "noticed"] += 1
    survived = [row for row in rows if row["outcome"] == "survived"]
    score = 1 - len(survived) / len(rows)
    lines = [
        "# Mutants of the core", "",
        f"`python benchmarks/mutants.py`, {date.today()}: of {len(rows)} mutants the tests notice "
        f"{len(rows) - len(survived)}, {score:.0%}.", "",
        "| part | mutants | noticed |", "|---|---:|---:|",
    ]  # fmt: skip
    for part in TESTS:
        noticed, missed = outcomes[part, "noticed"], outcomes[part, "survived"]
        if noticed + missed:
            lines.append(f"| {part} | {noticed + missed} | {noticed / (noticed + missed):.0%} |")
    lines += ["", "## Those that survive", "", "| where | line | mutant |", "|---|---|---|"]
    for row in survived:
        where = f"{row['module'].removeprefix('src/retain/')}:{row['line']}"
        cells = [x.replace("|", "\\|") for x in (row["before"], row["after"])]
        lines.append(f"| {where} | `{cells[0]}` | `{cells[1]}` |")
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--report", action="store_true", help="only write the page")
    parser.add_argument("--show", type=int, help="print the mutant of that row, from 0")
    options = parser.parse_args()
    if options.show is not None:
        module, line, name, occurrence = sample(options.count, options.seed)[options.show]
        before = (ROOT / module).read_text()
        after = mutate_code(before, get_operator(name)(), occurrence)
        change = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="")
        print(f"{module}:{line} {name}", *change, sep="\n")
        return
    if not options.report:
        measure(options.count, options.seed)
    PAGE.write_text(report())
    print(PAGE.read_text())


if __name__ == "__main__":
    main()
