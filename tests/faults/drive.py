"""Kills runs at random moments and compares what comes of them with runs that were left alone.

`python tests/faults/drive.py --kills 100` prints n of n; each kill is a row of the results file as
soon as it is judged, and the same command goes on where it stopped. Runs are forks of this process,
which has imported everything, so that a run begins at once.
"""

import argparse
import csv
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from retain.cli.main import run as command_line
from retain.train import checkpoint as store
from retain.train.algorithms import AGENTS
from retain.train.callbacks.base import Callback, EpisodeEnded, RowLogged
from retain.train.callbacks.csv import TIMING
from retain.train.callbacks.registry import register_callback
from retain.train.playback import play_back

PPO = "--num-envs 4 --num-steps 32 --batch-size 64 --epochs 2 --hidden 16 --checkpoint-every 400 "
OFF = ("--hidden 16 --batch-size 64 --num-steps 50 --learning-starts 100 --buffer-size 1500 "
       "--checkpoint-every 300 --update-ratio 0.25 ")  # fmt: skip
CONFIGURATIONS = {
    "ppo": f"ppo --env CartPole-v1 --steps 9000 {PPO}",
    "ppo lstm groups": "ppo --env CartPoleNoVel-v1 --memory lstm --memory-hidden 8 --steps 4500 "
    f"--env-groups 2 --no-separate-memory --sequence-length 16 --normalise-obs {PPO}",
    "ppo gru workers": "ppo --env CartPole-v1 --memory gru --memory-hidden 8 --steps 4000 --workers 2 "
    f"--env-groups 2 --sequence-length 16 {PPO}",
    "ppo window": "ppo --env PendulumNoVel-v1 --memory window --memory-hidden 8 --window 4 "
    f"--steps 3000 --normalise-reward --previous-action {PPO}",
    "ddpg window": "ddpg --env PendulumNoVel-v1 --memory window --memory-hidden 16 --steps 2500 "
    f"--num-envs 2 --normalise-obs {OFF}",
    "sac lstm": "sac --env CartPoleNoVel-v1 --memory lstm --memory-hidden 16 --steps 2000 "
    f"--prioritized --num-envs 2 --sequence-length 16 {OFF}",
    "dqn workers": f"dqn --env CartPole-v1 --steps 3000 --num-envs 2 --workers 2 --n-step 3 {OFF}",
    "ppo evaluated": "ppo --env CartPoleNoVel-v1 --memory mingru --memory-hidden 8 --steps 4000 "
    f"--no-separate-memory --sequence-length 16 --eval-every 900 --eval-episodes 2 {PPO}"
    "--callbacks counting",
    "td3": f"td3 --env Pendulum-v1 --steps 2500 --num-envs 2 {OFF}",
}
KINDS = ("moment", "write", "again", "group", "worker")
"""When and whom: at a uniform moment; while a checkpoint is written; twice, the second time while
the resume itself plays episodes back; the whole process group; a worker while the trainer stood
still."""
FIELDS = ("configuration", "kind", "moment", "same", "differs")
PATIENCE = 600.0


@register_callback("counting")
class Counting(Callback):
    """A user's callback with a metric and a state of its own."""

    def __init__(self) -> None:
        self.seen = 0

    def on_episode(self, event: EpisodeEnded) -> None:
        self.seen += event.episode.length

    def on_row(self, event: RowLogged) -> None:
        event.metrics["steps_seen"] = float(self.seen)

    def state(self) -> dict[str, int]:
        return {"seen": self.seen}

    def restore(self, state: dict[str, int]) -> None:
        self.seen = state["seen"]


class Run:
    """A command line in a process of its own."""

    def __init__(self, arguments: list[str], log: Path) -> None:
        self.log = log
        self.pid = os.fork()
        if self.pid == 0:
            status = 70
            try:
                os.setsid()
                out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
                os.dup2(out, 1)
                os.dup2(out, 2)
                sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
                status = command_line(arguments)
                sys.stdout.flush()
                sys.stderr.flush()
            except BaseException:
                traceback.print_exc()
                sys.stderr.flush()
            finally:
                os._exit(status)

    def over(self) -> bool:
        """Whether it has ended, without taking note of it."""
        found = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return found is not None

    def wait(self) -> int:
        """Its exit status; negative for a signal."""
        end = time.monotonic() + PATIENCE
        while not self.over():
            if time.monotonic() > end:
                os.killpg(self.pid, signal.SIGKILL)
            time.sleep(0.01)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def workers(self) -> list[int]:
        """Process ids of its environments' workers."""
        text = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return [int(pid) for pid in text.split()]


def train(name: str, run: Path) -> Run:
    """Begins a configuration's run."""
    arguments = ["train", *CONFIGURATIONS[name].split(), "--seed", "5", "--out", str(run)]
    return Run(arguments, run.with_suffix(".log"))


def outcome(run: Path) -> dict[str, object]:
    """Everything about a finished run that must not depend on how often it was killed."""
    with (run / "metrics.csv").open() as file:
        rows = [{k: v for k, v in row.items() if k not in TIMING} for row in csv.DictReader(file)]
    found: dict[str, object] = {"metrics": rows}
    for name in ("episodes.jsonl", "actions.bin"):
        found[name] = (run / name).read_bytes()
    last, best = store.checkpoints(run)[-1], run / store.FOLDER / store.BEST
    for title, folder in (("last", last), ("best", best)):
        if not folder.exists():  # fewer episodes than a best one needs
            continue
        for file in (store.MODEL, store.TRAINING):
            tensors = load_file(folder / file)
            found |= {f"{title} {file} {key}": x for key, x in tensors.items()}
        state = store.load_state(folder)
        state["progress"].pop("seconds")
        for timed in TIMING:
            state["progress"]["callbacks"].get("monitors", {}).get("first", {}).pop(timed, None)
        statistics = state["collector"]["statistics"]  # without each process's own clock
        statistics["recent"] = [entry[:5] for entry in statistics["recent"]]
        found[f"{title} state"] = {k: v for k, v in state.items() if k != "replay"}
    return found


def differences(one: dict[str, object], two: dict[str, object]) -> list[str]:
    """The names of what differs."""
    names = sorted(one.keys() | two.keys())
    return [name for name in names if name not in one or name not in two
            or not _equal(one[name], two[name])]  # fmt: skip


def _equal(one: object, two: object) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(two, torch.Tensor):
        return one.dtype == two.dtype and np.array_equal(one.numpy(), two.numpy(), equal_nan=True)
    return json.dumps(one, sort_keys=True, default=repr) == json.dumps(
        two, sort_keys=True, default=repr
    )


def strike(process: Run, run: Path, kind: str, seconds: float, rng: random.Random) -> float:
    """Kills a run, or one of its workers; when, in seconds since it began."""
    began = time.monotonic()
    moment = rng.uniform(0.0, seconds)
    if kind == "write":
        skip = rng.randrange(4)
        while not process.over():
            if list((run / store.FOLDER).glob(".step_*")):
                if skip == 0:
                    break
                skip -= 1
                time.sleep(0.05)
        time.sleep(rng.uniform(0.0, 0.01))
    else:
        while time.monotonic() - began < moment and not process.over():
            time.sleep(0.002)
    if process.over():
        return time.monotonic() - began
    if kind == "worker":
        os.kill(process.pid, signal.SIGSTOP)
        workers = process.workers()
        if workers:
            os.kill(rng.choice(workers), signal.SIGKILL)
        os.kill(process.pid, signal.SIGCONT)
    elif kind == "group":
        os.killpg(process.pid, signal.SIGKILL)
    else:
        os.kill(process.pid, signal.SIGKILL)
    return time.monotonic() - began


def resume_to_the_end(run: Path, name: str, kills: list[float], rng: random.Random) -> None:
    """Goes on with a killed run; one that has no checkpoint yet begins anew."""
    for seconds in [*kills, None]:
        if not store.checkpoints(run):
            shutil.rmtree(run, ignore_errors=True)
            process = train(name, run)
        else:
            process = Run(["resume", str(run)], run.with_suffix(".log"))
        if seconds is not None:
            strike(process, run, "moment", seconds, rng)
        status = process.wait()
        if status not in (0, -signal.SIGKILL):
            log = process.log.read_text()
            if "is finished" not in log.splitlines()[-1]:
                raise RuntimeError(f"status {status}: {log[-2000:]}")


def one_kill(name: str, kind: str, folder: Path, whole: dict[str, object], seconds: float,
             rng: random.Random) -> tuple[float, list[str]]:  # fmt: skip
    """A killed run's moment, and what of it differs from the whole one."""
    run = folder / "killed"
    shutil.rmtree(run, ignore_errors=True)
    run.with_suffix(".log").unlink(missing_ok=True)
    process = train(name, run)
    moment = strike(process, run, kind, seconds, rng)
    status = process.wait()
    if status not in (0, -signal.SIGKILL):
        return moment, [f"status {status}: {process.log.read_text()[-300:]}"]
    if status != 0:
        resume_to_the_end(run, name, [1.0] if kind == "again" else [], rng)
    found = differences(outcome(run), whole)
    episodes = (run / "episodes.jsonl").read_text().count("\n")
    for number in sorted({0, episodes // 2, episodes - 1}):
        if episodes and not play_back(run, number).same:
            found.append(f"episode {number} plays otherwise")
    return moment, found


def drive(kills: int, results: Path, seed: int) -> tuple[int, int]:
    """Kills until the results hold that many; how many came to the same, of how many."""
    assert set(AGENTS) >= {arguments.split()[0] for arguments in CONFIGURATIONS.values()}
    torch.set_num_threads(1)
    results.parent.mkdir(parents=True, exist_ok=True)
    if not results.exists():
        results.write_text(",".join(FIELDS) + "\n")
    with results.open(newline="") as file:
        rows = list(csv.DictReader(file))
    wholes: dict[str, tuple[dict[str, object], float]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for number in range(len(rows), kills):
            rng = random.Random(seed * 1_000_003 + number)
            name = list(CONFIGURATIONS)[number % len(CONFIGURATIONS)]
            kinds = [k for k in KINDS if k != "worker" or "--workers" in CONFIGURATIONS[name]]
            kind = kinds[number // len(CONFIGURATIONS) % len(kinds)]
            folder = Path(temporary) / name.replace(" ", "-")
            folder.mkdir(exist_ok=True)
            if name not in wholes:
                began = time.monotonic()
                if train(name, folder / "whole").wait() != 0:
                    raise SystemExit((folder / "whole.log").read_text())
                wholes[name] = outcome(folder / "whole"), time.monotonic() - began
            moment, differs = one_kill(name, kind, folder, *wholes[name], rng)
            row = (name, kind, f"{moment:.2f}", int(not differs), "; ".join(differs[:3]))
            with results.open("a", newline="") as file:
                csv.writer(file).writerow(row)
            print(f"{number + 1:4} {name:16} {kind:8} {moment:6.2f} s  "
                  f"{'same' if not differs else 'DIFFERS: ' + '; '.join(differs[:3])}", flush=True)  # fmt: skip
    with results.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return sum(row["same"] == "1" for row in rows), len(rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results/kills.csv"))
    options = parser.parse_args()
    same, total = drive(options.kills, options.results, options.seed)
    print(f"{same} of {total} killed runs ended bit-identical to the run that was left alone")
    return int(same != total)


if __name__ == "__main__":
    sys.exit(main())
