"""Tasks without presets, trained with nothing but the defaults: sixteen of them, half for choosing.

    nice -n 10 python benchmarks/defaults.py --half choose --systems retain none --seeds 1
    nice -n 10 python benchmarks/defaults.py --tasks PointMassDelayed --memories none lstm --seeds 3
    python benchmarks/defaults.py --print

Every run is a line of results/defaults.jsonl; what is there is not run again, so the same command
goes on. `--systems`: retain (what follows from the task), shared (the same, but one memory for
actor and critic), running (the same, observations normalised by all statistics so far), raw (the
same, observations as they are), none (the algorithm's plain defaults, as every task without a
preset had before), sb3 (Stable-Baselines3, with a memory sb3-contrib's RecurrentPPO). Each is the
return of 20 deterministic episodes of the final agent; random play is beside it. The defaults were
chosen on the half called choose; the other was looked at once.
"""

import argparse
import json
import statistics
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from machine import machine_line

RESULTS = Path(__file__).parent / "results"
LINES = RESULTS / "defaults.jsonl"
SETTINGS: dict[str, dict[str, Any]] = {
    "retain": {}, "shared": {"separate_memory": False}, "none": {"preset": "none"},
    "running": {"normaliser": "running"}, "raw": {"normalise_obs": False},
}  # fmt: skip
EPISODES = 20
MEASURED = ("date", "minutes", "cpu_minutes")
"""Keys of a line that do not name its run."""


@dataclass(frozen=True)
class Task:
    """A task, and the steps that it gets on-policy."""

    name: str
    half: str
    steps: int
    off_policy: int = 0
    """Steps off-policy; 0: not among those."""
    discrete: bool = False
    """Which of the off-policy algorithms: DQN, or SAC and TD3."""

    @property
    def env(self) -> str:
        return f"tasks:bench/{self.name}-v0"


TASKS = (
    Task("PointMass", "choose", 300_000, 30_000),
    Task("PointMassDelayed", "choose", 300_000, 30_000),
    Task("PointMassMap", "choose", 300_000),
    Task("Cue", "choose", 200_000, 50_000, True),
    Task("CartFlicker", "choose", 200_000, 50_000, True),
    Task("AcrobotNoVel", "choose", 300_000),
    Task("PendulumUnits", "choose", 200_000, 20_000),
    Task("HopperNoVel", "choose", 500_000),
    Task("PointMassUnits", "show", 300_000, 30_000),
    Task("PointMassFullMap", "show", 300_000),
    Task("Catch", "show", 200_000),
    Task("CartLong", "show", 200_000, 50_000, True),
    Task("PendulumNoise", "show", 200_000, 20_000),
    Task("CheetahNoVel", "show", 500_000),
    Task("LanderNoVel", "show", 300_000),
    Task("PopRepeatFirst", "show", 200_000),
)


def with_retain(
    task: Task, algo: str, memory: str, seed: int, steps: int, **settings: Any
) -> float:
    import retain

    agent = getattr(retain, algo.upper())(task.env, memory=memory, seed=seed, **settings)
    agent.learn(steps)
    return float(agent.evaluate(EPISODES).return_mean)


def with_sb3(task: Task, algo: str, memory: str, seed: int, steps: int) -> float:
    import gymnasium as gym
    import sb3_contrib
    import stable_baselines3
    import torch
    from stable_baselines3.common.evaluation import evaluate_policy

    import tasks  # noqa: F401 (registers them)

    torch.set_num_threads(1)
    env = gym.make(task.env.split(":")[1])
    kind = "MultiInputPolicy" if isinstance(env.observation_space, gym.spaces.Dict) else "MlpPolicy"
    if memory == "none":
        model = getattr(stable_baselines3, algo.upper())(kind, env, seed=seed, device="cpu")
    else:
        kind = kind.replace("Policy", "LstmPolicy")
        model = sb3_contrib.RecurrentPPO(kind, env, seed=seed, device="cpu")
    model.learn(steps)
    fresh = gym.make(task.env.split(":")[1])
    fresh.reset(seed=10_000 + seed)
    return float(np.mean(evaluate_policy(model, fresh, EPISODES, warn=False)[0]))


def at_random(task: Task) -> float:
    import retain
    from retain.train.yardstick import random_return

    return random_return(retain.PPO(task.env, num_envs=1), EPISODES)


def runs_of(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Every run that is asked for, as the facts that name it."""
    found = []
    for seed in range(1, options.seeds + 1):
        for task in TASKS:
            if options.half not in ("all", task.half):
                continue
            if options.tasks and task.name not in options.tasks:
                continue
            steps = task.steps if options.algo == "ppo" else task.off_policy
            if options.algo != "ppo" and task.discrete != (options.algo == "dqn"):
                continue
            for system in options.systems:
                for memory in options.memories:
                    if not steps or (system == "sb3" and memory not in ("none", "lstm")):
                        continue
                    if system == "sb3" and memory == "lstm" and options.algo != "ppo":
                        continue
                    found.append({
                        "task": task.name, "algo": options.algo, "system": system,
                        "memory": memory, "seed": seed, "steps": steps,
                    })  # fmt: skip
    return found


def train(facts: dict[str, Any]) -> dict[str, Any]:
    """The facts of a run, with its return and minutes."""
    task = next(task for task in TASKS if task.name == facts["task"])
    what = facts["algo"], facts["memory"], facts["seed"], facts["steps"]
    began, busy = time.perf_counter(), time.process_time()
    if facts["system"] == "sb3":
        value = with_sb3(task, *what)
    else:
        value = with_retain(task, *what, **SETTINGS[facts["system"]])
    return facts | {
        "date": date.today().isoformat(),
        "return": round(value, 3),
        "minutes": round((time.perf_counter() - began) / 60, 2),
        "cpu_minutes": round((time.process_time() - busy) / 60, 2),
    }


def read() -> list[dict[str, Any]]:
    return [json.loads(line) for line in LINES.read_text().splitlines()] if LINES.exists() else []


def keep(facts: dict[str, Any]) -> None:
    with LINES.open("a") as file:
        file.write(json.dumps(facts) + "\n")


def table(lines: list[dict[str, Any]]) -> list[str]:
    """One row for each task and algorithm, one column for each system and memory."""
    random = {line["task"]: line["return"] for line in lines if line["system"] == "random"}
    trained = [line for line in lines if line["system"] != "random"]
    columns = sorted({(line["system"], line["memory"]) for line in trained})
    heads = [f"{system} {memory}" for system, memory in columns]
    rows = [
        f"| task | algorithm | steps | random | {' | '.join(heads)} |",
        "|---|---|---|---|" + "---|" * len(heads),
    ]
    for task in TASKS:
        for algo in sorted({line["algo"] for line in trained if line["task"] == task.name}):
            cells = []
            for system, memory in columns:
                chosen = [
                    line for line in trained
                    if (line["task"], line["algo"], line["system"], line["memory"])
                    == (task.name, algo, system, memory)
                ]  # fmt: skip
                returns = [line["return"] for line in chosen]
                shown = f"{statistics.mean(returns):.4g}" if returns else ""
                spread = f" ± {statistics.stdev(returns):.2g}" if len(returns) > 1 else ""
                cells.append(shown + spread + (f" ({len(returns)})" if returns else ""))
            steps = task.steps if algo == "ppo" else task.off_policy
            known = f"{random[task.name]:.4g}" if task.name in random else ""
            rows.append(
                f"| {task.name} ({task.half}) | {algo} | {steps // 1000}k | {known} | "
                f"{' | '.join(cells)} |"
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--half", default="choose", choices=["choose", "show", "all"])
    parser.add_argument("--tasks", nargs="*", default=[])
    parser.add_argument("--algo", default="ppo", choices=["ppo", "sac", "td3", "dqn"])
    parser.add_argument("--systems", nargs="*", default=["retain", "none", "sb3"])
    parser.add_argument(
        "--memories", nargs="*", default=["none", "lstm", "gru", "mingru", "window"]
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--print", action="store_true", help="write results/defaults.md, run nothing"
    )
    options = parser.parse_args()
    if not options.print:
        done = [
            {k: v for k, v in line.items() if "minutes" not in k and k != "date"} for line in read()
        ]
        for facts in runs_of(options):
            same = [line for line in done if all(line.get(k) == v for k, v in facts.items())]
            if not any(
                line["task"] == facts["task"] and line["system"] == "random" for line in done
            ):
                task = next(task for task in TASKS if task.name == facts["task"])
                done.append({"task": task.name, "system": "random", "return": at_random(task)})
                keep(done[-1])
            if not same:
                try:
                    finished = train(facts)
                except RuntimeError as error:  # Stable-Baselines3 has no network for 8 x 8 pixels
                    if facts["system"] != "sb3":
                        raise
                    print(f"{facts['task']}: Stable-Baselines3 cannot: {error}", flush=True)
                    continue
                keep(finished)
                done.append(finished)
                print(json.dumps(finished), flush=True)
    head = [
        "# Defaults alone\n", f"{machine_line()}\n",
        "`python benchmarks/defaults.py`, whose head says what the columns are: return of 20 "
        "episodes of the final agent, mean ± standard deviation (seeds). The line above is the "
        "latest runs' machine; each run's date is in defaults.jsonl.\n",
    ]  # fmt: skip
    lines = head + table(read())
    (RESULTS / "defaults.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
