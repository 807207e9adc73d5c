"""Environment stepping: this process, workers and native batches against gymnasium's vectors.

    python benchmarks/envs.py --rounds 5 --write

Raw steps per second with random actions drawn in advance, and inside a rollout with a policy. Every
system is measured in turn, several times; the median counts. Compare ratios, not seconds.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import gymnasium as gym
import numpy as np

import retain
from machine import machine_line
from retain.envs.groups import make_groups
from retain.envs.options import EnvOptions

RESULTS = Path(__file__).parent / "results"
Step = Callable[[], None]


class Noop(gym.Env):
    """Does nothing: what is left is the cost of asking."""

    observation_space = gym.spaces.Box(-1, 1, (4,), np.float32)
    action_space = gym.spaces.Discrete(2)
    obs = np.zeros(4, np.float32)

    def reset(self, *, seed=None, options=None):
        return self.obs, {}

    def step(self, action):
        return self.obs, 0.0, False, False, {}


class Millisecond(Noop):
    """Computes for a millisecond."""

    def step(self, action):
        until = time.perf_counter() + 1e-3
        while time.perf_counter() < until:
            pass
        return super().step(action)


def ours(env, num_envs: int, **options) -> tuple[Step, Callable[[], None]]:
    """One step of all environments, resets included, and what ends it."""
    [backend] = make_groups(env, num_envs, EnvOptions(**options))
    everywhere = np.ones(num_envs, dtype=np.bool_)
    backend.reset(everywhere, np.arange(num_envs))
    actions = drawn(backend.action_space, num_envs)
    turn = 0

    def step() -> None:
        nonlocal turn
        turn += 1
        _, _, terminated, truncated = backend.step(actions[turn % len(actions)])
        ended = terminated | truncated
        if ended.any():
            backend.reset(ended, np.full(num_envs, turn))
        if backend.resets_ahead:  # as the collector does
            backend.announce(np.full(num_envs, turn + 1))

    return step, backend.close


def theirs(kind: str, env, num_envs: int) -> tuple[Step, Callable[[], None]]:
    """gymnasium's vector of that kind, with its own autoreset."""
    make = env if callable(env) else partial(gym.make, env)
    vector = getattr(gym.vector, kind)([make] * num_envs)
    vector.reset(seed=0)
    actions = drawn(vector.single_action_space, num_envs)
    turn = 0

    def step() -> None:
        nonlocal turn
        turn += 1
        vector.step(actions[turn % len(actions)])

    return step, vector.close


def ale(num_envs: int) -> tuple[Step, Callable[[], None]]:
    """Pong in gymnasium's worker processes, with the standard preprocessing."""

    def one():
        import ale_py

        gym.register_envs(ale_py)
        env = gym.make("ALE/Pong-v5", frameskip=1, repeat_action_probability=0.0)
        return gym.wrappers.FrameStackObservation(gym.wrappers.AtariPreprocessing(env), 4)

    return theirs("AsyncVectorEnv", one, num_envs)


def drawn(space: gym.Space, num_envs: int) -> list[np.ndarray]:
    space.seed(0)
    return [np.stack([space.sample() for _ in range(num_envs)]) for _ in range(64)]


def measured(build, num_envs: int, seconds: float) -> float:
    """Environment steps per second of a freshly built system."""
    step, close = build()
    try:
        for _ in range(20):
            step()
        count, began = 0, time.perf_counter()
        while time.perf_counter() - began < seconds:
            for _ in range(10):
                step()
            count += 10
        return count * num_envs / (time.perf_counter() - began)
    finally:
        close()


def rollout(env: str, num_envs: int, **options) -> Callable[[], tuple[Step, Callable[[], None]]]:
    """Collecting with an MLP policy, in steps of a segment of 32."""

    def build() -> tuple[Step, Callable[[], None]]:
        agent = retain.PPO(env, memory="none", num_envs=num_envs, num_steps=32,
                           batch_size=32, **options)  # fmt: skip
        return (lambda: agent.collector.collect(32) and None), agent.backends[0].close

    return build


Case = tuple[str, str, int, Callable[[], tuple[Step, Callable[[], None]]], int]


def cases() -> list[Case]:
    """(task, system, environments, what builds it, steps of each in one call)."""
    found: list[Case] = []
    for B in (8, 64, 256):
        task = f"CartPole, {B} environments"
        found += [
            (task, "native batch", B, partial(ours, "CartPole-v1", B), 1),
            (task, "this process", B, partial(ours, "CartPole-v1", B, native=False), 1),
            (task, "2 workers", B, partial(ours, "CartPole-v1", B, native=False, workers=2), 1),
            (task, "gymnasium Sync", B, partial(theirs, "SyncVectorEnv", "CartPole-v1", B), 1),
        ]
        if B <= 64:
            found.append((task, "gymnasium Async", B,
                          partial(theirs, "AsyncVectorEnv", "CartPole-v1", B), 1))  # fmt: skip
    task = "CartPole, 8 environments, MLP policy"
    found += [
        (task, "native batch", 8, rollout("CartPole-v1", 8), 32),
        (task, "this process", 8, rollout("CartPole-v1", 8, native=False), 32),
        (task, "2 workers", 8, rollout("CartPole-v1", 8, native=False, workers=2), 32),
    ]
    task = "1 ms an environment step, 8 environments"
    found += [
        (task, "this process", 8, partial(ours, Millisecond, 8), 1),
        (task, "2 workers", 8, partial(ours, Millisecond, 8, workers=2), 1),
    ]
    for processes in (1, 2):
        task = f"no-op environments, {processes} processes of one each"
        found += [
            (task, f"{processes} workers", processes,
             partial(ours, Noop, processes, workers=processes), 1),
            (task, "gymnasium Async", processes,
             partial(theirs, "AsyncVectorEnv", Noop, processes), 1),
        ]  # fmt: skip
    task, double = "InvertedDoublePendulum, 8 environments", "InvertedDoublePendulum-v5"
    found += [
        (task, "this process", 8, partial(ours, double, 8), 1),
        (task, "2 workers", 8, partial(ours, double, 8, workers=2), 1),
        (task, "gymnasium Async, 8 processes", 8, partial(theirs, "AsyncVectorEnv", double, 8), 1),
    ]
    task = "InvertedDoublePendulum, 2 environments in 2 processes"
    found += [
        (task, "2 workers", 2, partial(ours, double, 2, workers=2), 1),
        (task, "gymnasium Async", 2, partial(theirs, "AsyncVectorEnv", double, 2), 1),
    ]
    task = "Pong, 8 environments"
    found += [
        (task, "ALE threads", 8, partial(ours, "ALE/Pong-v5", 8), 1),
        (task, "gymnasium Async", 8, partial(ale, 8), 1),
    ]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5, help="of each measurement")
    parser.add_argument("--only", default="", help="part of a task's name")
    parser.add_argument("--write", action="store_true", help="write results/envs.md")
    options = parser.parse_args()
    chosen = [case for case in cases() if options.only in case[0]]
    rates: dict[tuple[str, str], list[float]] = {}
    for _ in range(options.rounds):
        for task, system, B, build, steps in chosen:
            rate = measured(build, B, options.seconds) * steps
            rates.setdefault((task, system), []).append(rate)
    lines = [f"# Environments\n\n{machine_line()}\n", "`python benchmarks/envs.py`\n",
             "| task | system | env steps/s | us a step of all | ratio to the last of the task |",
             "|---|---|---|---|---|"]  # fmt: skip
    last: dict[str, float] = {}
    counts = {(task, system): B for task, system, B, _, _ in chosen}
    for (task, _), values in rates.items():
        last[task] = statistics.median(values)
    for (task, system), values in rates.items():
        rate = statistics.median(values)
        each = counts[task, system] / rate * 1e6
        ratio = rate / last[task]
        lines.append(f"| {task} | {system} | {rate:,.0f} | {each:,.0f} | {ratio:.2f} |")
    text = "\n".join(lines) + "\n"
    print(text)
    if options.write:
        (RESULTS / "envs.md").write_text(text)


if __name__ == "__main__":
    main()
