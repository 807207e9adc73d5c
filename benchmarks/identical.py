"""Do two versions of the code train identically? `benchmarks/identical.py --against REVISION`

Six short runs cover the families (docs/design.md, law 8). Each is trained by the working tree and
by another revision; every metric that the other logs (timing aside) and every tensor of the model
must be equal to the last bit. `--print` shows the working tree's hashes alone, which hold for this
machine only, since kernels differ between processors.
"""

import argparse
import csv
import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

RUNS = {
    "ppo": "ppo --env CartPole-v1 --num-envs 4 --steps 3000",
    "ppo lstm": "ppo --env CartPoleNoVel-v1 --memory lstm --steps 6000 --workers 2 --env-groups 2",
    "ppo gru": "ppo --env PendulumNoVel-v1 --memory gru --normalise-obs --steps 8192",
    "td3 window": "td3 --env PendulumNoVel-v1 --memory window --learning-starts 200 --steps 600",
    "sac lstm": "sac --env PendulumNoVel-v1 --memory lstm --learning-starts 200 --steps 400",
    "dqn": "dqn --env CartPole-v1 --learning-starts 500 --steps 3000",
}
TIMING = ("seconds", "steps_per_second")
ROOT = Path(__file__).parents[1]


def train(tree: Path, arguments: str, out: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(tree / "src"), "OMP_NUM_THREADS": "1"}
    code = "from retain.cli.main import main; main()"
    command = [sys.executable, "-c", code, "train", *arguments.split(), "--out", str(out)]
    done = subprocess.run(command, env=environment, cwd=tree, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{arguments}: exit status {done.returncode}\n{done.stderr}")


def columns(run: Path) -> dict[str, str]:
    """The metrics of a run by their names, and the last model as a hash."""
    with (run / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows, f"{run} logged nothing"
    found = {name: ",".join(row[name] for row in rows) for name in rows[0] if name not in TIMING}
    models = sorted((run / "checkpoints").glob("*/model.safetensors"))
    model = max(models, key=lambda path: path.parent.name)
    return found | {"model": hashlib.sha256(model.read_bytes()).hexdigest()}


def measure(tree: Path) -> dict[str, dict[str, str]]:
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, arguments) in enumerate(RUNS.items()):
            out = Path(folder) / str(number)
            train(tree, arguments, out)
            found[name] = columns(out)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--against", default="HEAD", help="revision to compare with")
    parser.add_argument("--print", action="store_true", help="this tree's hashes only")
    options = parser.parse_args()
    ours = measure(ROOT)
    if options.print:
        for name, found in ours.items():
            metrics = repr(sorted((k, v) for k, v in found.items() if k != "model")).encode()
            print(f"{name:12} {hashlib.sha256(metrics).hexdigest()[:16]} {found['model'][:16]}")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        other = Path(folder) / "other"
        git = ["git", "-C", str(ROOT), "worktree"]
        add = [*git, "add", "--quiet", "--detach", str(other), options.against]
        subprocess.run(add, check=True)
        try:
            theirs = measure(other)
        finally:
            subprocess.run([*git, "remove", "--force", str(other)], check=True)
    different = 0
    for name in RUNS:
        a, b = ours[name], theirs[name]
        differs = [column for column in b if a.get(column) != b[column]]
        new = [column for column in a if column not in b]
        different += bool(differs)
        print(f"{name:12} {'differs: ' + ', '.join(differs) if differs else 'identical'}"
              + (f" (new: {', '.join(new)})" if new else ""))  # fmt: skip
    return int(different > 0)


if __name__ == "__main__":
    sys.exit(main())
