"""Does the doctor name the setting that is wrong? Planted misconfigurations, and sound settings.

    python benchmarks/will_it_learn.py --seconds 30 --write

Each case trains for so many seconds of processor time (so a busy machine changes nothing) with what
follows from the task, or its preset, and one setting changed; the flag that the doctor names is
compared with the one that was changed. A sound case of which it names anything is a false alarm.
"""

import argparse
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from machine import machine_line

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Case:
    """An agent, and the flag that should be named; "" for a sound one."""

    env: str
    flag: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    algo: str = "PPO"

    def __str__(self) -> str:
        changed = ", ".join(f"{k} {v}" for k, v in self.settings.items()) or "as it follows"
        return f"| {self.algo} | {self.env.split('/')[-1]} | {changed} | "


def bench(name: str) -> str:
    return f"tasks:bench/{name}-v0"


SMALL = {"num_envs": 1, "num_steps": 32, "batch_size": 32}
PLANTED = (
    Case(bench("PointMass"), "--learning-rate: a tenth", {"learning_rate": 3e-2}),
    Case(bench("PointMass"), "--learning-rate: ten times", {"learning_rate": 3e-6}),
    Case(bench("PointMassDelayed"), "--learning-rate: a tenth",
         {"memory": "lstm", "learning_rate": 0.1}),
    Case(bench("PointMassUnits"), "--normalise-obs", {"normalise_obs": False}),
    Case(bench("PointMassUnits"), "--normalise-reward", {"normalise_reward": False}),
    Case("CueTarget-v0", "--gamma", {"memory": "lstm", "gamma": 0.3}),
    Case(bench("Cue"), "--sequence-length", {"memory": "lstm", "sequence_length": 2}),
    Case(bench("CartFlicker"), "--entropy-coef", {"entropy_coef": 1.0}),
    Case(bench("PointMass"), "--num-envs", SMALL),
    Case(bench("PointMass"), "--clip-range", {"clip_range": 1e-4}),
    Case(bench("PointMass"), "--epochs", {"epochs": 200}),
    Case(bench("PointMass"), "--value-coef", {"value_coef": 0.0}),
    Case(bench("PointMass"), "--log-std-init", {"log_std_init": 3.0}),
    Case(bench("PointMass"), "--reward-clip", {"reward_clip": 1e-3}),
    Case(bench("PointMass"), "--update-ratio", {"update_ratio": 0.002}, "SAC"),
    Case(bench("PendulumNoise"), "--learning-rate: a tenth", {"learning_rate": 1.0}, "TD3"),
)  # fmt: skip
SOUND = (
    *(Case(bench(name), settings={"memory": memory})
      for name in ("PointMass", "PointMassDelayed", "Cue", "CartFlicker", "PendulumUnits", "Catch")
      for memory in ("none", "lstm")),
    Case("CartPole-v1"), Case("CartPoleNoVel-v1", settings={"memory": "lstm"}),
    Case("Pendulum-v1"), Case("PendulumNoVel-v1", settings={"memory": "gru"}),
    Case("TMaze-v0", settings={"memory": "lstm"}),
    Case("Pendulum-v1", algo="SAC"), Case("Pendulum-v1", algo="TD3"),
    Case("CartPole-v1", algo="DQN"),
)  # fmt: skip


def named(case: Case, seconds: float) -> tuple[str, str]:
    """The flag that the doctor names, and what it measured."""
    import retain
    from retain.doctor.learning import judge, look_around, train_for

    agent = getattr(retain, case.algo)(case.env, **case.settings)
    trained = train_for(agent, seconds, look_around(agent), time.process_time)
    result = judge(trained, seconds)
    return result.mend, result.measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--only", default="", help="part of a case's line")
    parser.add_argument("--write", action="store_true", help="write results/will_it_learn.md")
    options = parser.parse_args()
    lines = [
        f"# Will it learn?\n\n{machine_line()}\n",
        f"`python benchmarks/will_it_learn.py --seconds {options.seconds:g}`\n",
        "| algorithm | task | setting | named | measured | |", "|---|---|---|---|---|---|",
    ]  # fmt: skip
    print("\n".join(lines))
    right = alarms = 0
    cases = [case for case in (*PLANTED, *SOUND) if options.only in str(case)]
    for case in cases:
        flag, measured = named(case, options.seconds)
        good = flag.startswith(case.flag) if case.flag else not flag
        right += good and bool(case.flag)
        alarms += bool(flag) and not case.flag
        mark = "" if good else "**missed**" if case.flag else "**false alarm**"
        lines.append(f"{case}{flag or 'nothing'} | {measured} | {mark} |")
        print(lines[-1], flush=True)
    planted = sum(bool(case.flag) for case in cases)
    lines.append(
        f"\n{right} of {planted} planted settings named; {alarms} false alarms in "
        f"{len(cases) - planted} sound cases."
    )
    print(lines[-1])
    if options.write:
        (RESULTS / "will_it_learn.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main())
