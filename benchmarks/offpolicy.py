"""Off-policy throughput against Stable-Baselines3 and SBX, interleaved; the replay's cost.

    python benchmarks/offpolicy.py --rounds 5 --write

The same work for everybody: Pendulum-v1, one environment, [256, 256], batches of 256, one update
for every step, logging off. Each system lives in a process of its own, with 1 and with 2 threads;
its better median counts. SBX is Stable-Baselines3 in JAX. Compiling happens before the clock
starts. Compare ratios, not seconds: machines are noisy.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

import retain
from interleave import HOW, Run, best_of, interleaved, matmul_roof, product_lines, report_lines

RESULTS = Path(__file__).parent / "results"
ALGOS = ("DDPG", "TD3", "SAC")
STEPS, BATCH = 400, 256


def agent_of(algo: str, **changes: object) -> Any:
    """retain's agent, with the fields that make the work the same."""
    settings: dict[str, object] = {
        "hidden": (256, 256), "batch_size": BATCH, "learning_starts": 100, "update_ratio": 1.0,
        "threads": 0, "num_envs": 1, "gamma": 0.99, "learning_rate": 1e-3,
    }  # fmt: skip
    return getattr(retain, algo)("Pendulum-v1", **(settings | changes))


def ours(algo: str, **changes: object) -> Run:
    """retain's learning."""
    agent = agent_of(algo, **changes)
    return lambda steps: agent.learn(steps) and None


def peer(package: str, algo: str) -> Run:
    """Stable-Baselines3's or SBX's."""
    from importlib import import_module

    device = {"device": "cpu"} if package == "stable_baselines3" else {}
    model = getattr(import_module(package), algo)(
        "MlpPolicy", "Pendulum-v1", policy_kwargs={"net_arch": [256, 256]}, batch_size=BATCH,
        train_freq=1, gradient_steps=1, learning_starts=100, seed=1, **device,
    )  # fmt: skip
    return lambda steps: model.learn(steps, reset_num_timesteps=False) and None


WINDOW = "retain DDPG, LSTM window of 8"
SYSTEMS: dict[str, Callable[[], Run]] = {}
for _algo in ALGOS:
    SYSTEMS |= {f"retain {_algo}{flags}": partial(ours, _algo, **how) for flags, how in HOW.items()}
    SYSTEMS[f"SB3 {_algo}"] = partial(peer, "stable_baselines3", _algo)
    SYSTEMS[f"SBX {_algo}"] = partial(peer, "sbx", _algo)
SYSTEMS[WINDOW] = partial(ours, "DDPG", memory="window", window=8, summary="lstm", memory_hidden=64)
GOALS = {"DDPG": (1.8, 1.1), "TD3": (1.8, 1.3), "SAC": (2.4, 1.4)}
RATIOS = tuple(
    (f"retain {algo}{how}", f"{who} {algo}", goal)
    for algo, goals in GOALS.items()
    for who, goal in zip(("SB3", "SBX"), goals, strict=True)
    for how in HOW
)


def flops_of_update(algo: str) -> float:
    """Of the products of an update: forwards, and backwards at twice a forward, or once where
    only the input's gradient is wanted."""
    actor, critic = 2 * (3 * 256 + 256 * 256 + 256), 2 * (4 * 256 + 256 * 256 + 256)
    count = 1 if algo == "DDPG" else 2
    target = actor + count * critic
    learn = 3 * count * critic
    if algo == "SAC":
        return BATCH * (target + learn + 3 * actor + 2 * count * critic)
    return BATCH * (target + learn + (3 * actor + 2 * critic) / (2 if algo == "TD3" else 1))


def replay_costs() -> list[str]:
    """Microseconds of a sample, and bytes of a transition."""
    lines = ["", "| replay | µs a batch of 256 | bytes a transition |", "|---|---|---|"]
    torch.set_num_threads(1)
    for name, changes in (
        ("transitions", {}),
        ("windows of 8", {"memory": "window", "window": 8}),
        ("windows of 200", {"memory": "window", "window": 200}),
        ("LSTM sequences of 32", {"memory": "lstm", "sequence_length": 32}),
        ("prioritized transitions", {"prioritized": True}),
    ):
        agent = retain.DDPG(
            "Pendulum-v1", buffer_size=100_000, learning_starts=10**9, num_steps=5000,
            batch_size=BATCH, **changes,
        )  # fmt: skip
        agent.iterate(lambda: 0.0)
        draw = partial(agent.update.draw, 0.0)
        for _ in range(20):
            draw()
        began = time.perf_counter()
        for _ in range(200):
            draw()
        spent = (time.perf_counter() - began) / 200 * 1e6
        lines.append(f"| {name} | {spent:.0f} | {agent.replay.nbytes() / 100_000:.0f} |")
    return lines


def where_time_goes(roof: float) -> list[str]:
    """Milliseconds of each part of a step, with two threads."""
    lines = [
        "", "| two threads, ms a step | acting and environment | drawing a batch | gradient step |"
        " its products at the roof | the rest | all |", "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for name, algo, how in ((f"{a}{flags}", a, how) for a in ALGOS for flags, how in HOW.items()):
        run = agent_of(algo, **how)
        torch.set_num_threads(2)
        run.learn(STEPS)
        spent = {"step": 0.0, "draw": 0.0, "update": 0.0}
        for owner, method in (
            (run.collector, "step"),
            (run.update, "draw"),
            (run.update, "update"),
        ):
            setattr(owner, method, _clocked(getattr(owner, method), method, spent))
        began = time.perf_counter()
        run.learn(STEPS)
        whole = (time.perf_counter() - began) / STEPS * 1e3
        acting, draw, update = (1e3 * spent[part] / STEPS for part in spent)
        products = flops_of_update(algo) / roof / 1e6
        lines.append(
            f"| {name} | {acting:.2f} | {draw:.2f} | {update - draw:.2f} | {products:.2f} | "
            f"{whole - acting - update:.2f} | {whole:.2f} |"
        )
    torch.set_num_threads(1)
    return lines


def _clocked(function: Callable[..., Any], name: str, spent: dict[str, float]) -> Any:
    def clocked(*given: Any, **named: Any) -> Any:
        began = time.perf_counter()
        try:
            return function(*given, **named)
        finally:
            spent[name] += time.perf_counter() - began

    return clocked


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="part of a system's name")
    parser.add_argument("--write", action="store_true", help="write results/offpolicy.md")
    options = parser.parse_args()
    chosen = {name: build for name, build in SYSTEMS.items() if options.only in name}
    # Before there are other processes:
    roof, products, costs = matmul_roof(2), product_lines(), replay_costs()
    parts = where_time_goes(roof)
    median = interleaved(chosen, dict.fromkeys(chosen, STEPS), options.rounds)
    best = best_of(median)
    lines = report_lines(
        "Off-policy throughput", "python benchmarks/offpolicy.py", products, median, RATIOS
    )
    lines += ["", f"Roof of two threads: {roof:.0f} GFLOP/s (1024 x 1024 product, float32)."]
    for algo in ALGOS:
        if f"retain {algo}" in best:
            each = flops_of_update(algo) / 1e9
            used = best[f"retain {algo}"] * each
            lines.append(
                f"{algo}: {each:.2f} GFLOP an update, {used:.0f} GFLOP/s, {used / roof:.0%} of it."
            )
    lines += parts + costs
    text = "\n".join(lines) + "\n"
    print(text)
    if options.write:
        (RESULTS / "offpolicy.md").write_text(text)


if __name__ == "__main__":
    main()
