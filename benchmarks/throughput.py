"""Training throughput against Stable-Baselines3, sb3-contrib and SBX, interleaved.

    python benchmarks/throughput.py --rounds 5 --write

The same work for everybody: CartPole-v1, 128 steps a segment, 4 epochs, 4 minibatches, [64, 64]
tanh, or an LSTM of 128 in front of it. End-to-end environment steps per second, learning included,
logging off. Every system lives in a process of its own, as in use, and one runs at a time, with 1
and with 2 threads; its better median over the rounds counts. SBX is Stable-Baselines3 in JAX.
Compiling happens before the clock starts. Compare ratios, not seconds: machines are noisy.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

import retain
from interleave import HOW, Run, best_of, interleaved, matmul_roof, product_lines, report_lines

RESULTS = Path(__file__).parent / "results"
WORK = {"num_steps": 128, "epochs": 4, "hidden": (64, 64), "activation": "tanh"}


def ours(
    memory: str, num_envs: int, *, separate: bool = False, native: bool = True, **more: object
) -> Run:
    """retain, with the fields that make the work the same."""
    agent = retain.PPO(
        "CartPole-v1", **CLEAN, **WORK, memory=memory, num_envs=num_envs, threads=0,
        batch_size=128 * num_envs // 4, memory_hidden=128, separate_memory=separate,
        native=native, **more,
    )  # fmt: skip
    return lambda steps: agent.learn(steps) and None


CLEAN = {
    "learning_rate": 2.5e-4, "lr_schedule": "constant", "gamma": 0.99, "gae_lambda": 0.95,
    "clip_range": 0.2, "clip_schedule": "constant", "entropy_coef": 0.01, "value_coef": 0.5,
    "normalise_obs": False, "normalise_reward": False,
}  # fmt: skip


def peer(recurrent: bool, num_envs: int, *, separate: bool = False) -> Run:
    """Stable-Baselines3's PPO or sb3-contrib's RecurrentPPO on gymnasium's CartPole."""
    from sb3_contrib import RecurrentPPO
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_util import make_vec_env

    common = {
        "n_steps": 128, "batch_size": 128 * num_envs // 4, "n_epochs": 4,
        "learning_rate": 2.5e-4, "ent_coef": 0.01, "seed": 1, "device": "cpu",
    }  # fmt: skip
    env = make_vec_env("CartPole-v1", n_envs=num_envs)
    if recurrent:
        memory = {"lstm_hidden_size": 128, "enable_critic_lstm": separate,
                  "shared_lstm": not separate}  # fmt: skip
        model = RecurrentPPO("MlpLstmPolicy", env, policy_kwargs=memory, **common)
    else:
        model = PPO("MlpPolicy", env, **common)
    return lambda steps: model.learn(steps, reset_num_timesteps=False) and None


def sbx(num_envs: int) -> Run:
    """SBX's PPO on gymnasium's CartPole."""
    from sbx import PPO
    from stable_baselines3.common.env_util import make_vec_env

    model = PPO(
        "MlpPolicy", make_vec_env("CartPole-v1", n_envs=num_envs), n_steps=128,
        batch_size=128 * num_envs // 4, n_epochs=4, learning_rate=2.5e-4, ent_coef=0.01, seed=1,
    )  # fmt: skip
    return lambda steps: model.learn(steps, reset_num_timesteps=False) and None


def each_way(name: str, memory: str, num_envs: int) -> dict[str, Callable[[], Run]]:
    """The same work computed in every way."""
    return {
        name + flags: partial(ours, memory, num_envs, **settings) for flags, settings in HOW.items()
    }


SYSTEMS: dict[str, Callable[[], Run]] = {
    **each_way("retain PPO", "none", 8),
    "retain PPO, gymnasium's own CartPole": partial(ours, "none", 8, native=False),
    "SB3 PPO": partial(peer, False, 8),
    "SBX PPO": partial(sbx, 8),
    **each_way("retain PPO-LSTM", "lstm", 8),
    "SB3 RecurrentPPO, shared LSTM": partial(peer, True, 8),
    "retain PPO-LSTM, own LSTM for the critic": partial(ours, "lstm", 8, separate=True),
    "SB3 RecurrentPPO, own LSTM for the critic": partial(peer, True, 8, separate=True),
    "retain PPO-GRU": partial(ours, "gru", 8),
    "retain PPO-GRU --kernels native": partial(ours, "gru", 8, kernels="native"),
    "retain PPO-minGRU": partial(ours, "mingru", 8),
    **each_way("retain PPO, 64 environments", "none", 64),
    "SB3 PPO, 64 environments": partial(peer, False, 64),
    "SBX PPO, 64 environments": partial(sbx, 64),
}

SHARED, OWN = "SB3 RecurrentPPO, shared LSTM", "SB3 RecurrentPPO, own LSTM for the critic"
RATIOS = (
    *(
        (f"retain PPO{envs}{how}", f"{who} PPO{envs}", 4.0)
        for envs in ("", ", 64 environments")
        for who in ("SB3", "SBX")
        for how in HOW
    ),
    *((f"retain PPO-LSTM{how}", SHARED, 9.0) for how in HOW),
    ("retain PPO-LSTM, own LSTM for the critic", OWN, 9.0),
    *((f"retain PPO-LSTM{how}", "retain PPO", 0.45) for how in HOW),
    ("retain PPO-minGRU", "retain PPO", 0.6),
)


def flops_per_step(memory: str) -> float:
    """Floating-point operations of a step: one forward to act, and 4 epochs of forward and
    backward (three times a forward)."""
    width = 128 if memory == "lstm" else 4
    weights = 2 * (width * 64 + 64 * 64) + 64 * 3
    if memory == "lstm":
        weights += 4 * 128 * (4 + 128)
    return 2 * weights * (1 + 4 * 3)


def profile(memory: str) -> list[str]:
    """Where an iteration of 1024 steps goes, one thread; what the monitors cost."""
    torch.set_num_threads(1)
    agent = retain.PPO(
        "CartPole-v1", **CLEAN, **WORK, memory=memory, num_envs=8, batch_size=256,
        memory_hidden=128, separate_memory=False,
    )  # fmt: skip
    update = agent.update
    parts: dict[str, list[float]] = {"collect": [], "update": [], "monitors": []}
    diagnosis = update.diagnostics.look

    def timed(*arguments):
        began = time.perf_counter()
        found = diagnosis(*arguments)
        parts["monitors"].append(time.perf_counter() - began)
        return found

    update.diagnostics.look = timed
    for _ in range(48):
        began = time.perf_counter()
        rollout = agent.collector.collect(128)
        middle = time.perf_counter()
        update.update(rollout, 0.0)
        parts["collect"].append(middle - began)
        parts["update"].append(time.perf_counter() - middle)
    ms = {name: 1e3 * statistics.median(values) for name, values in parts.items()}
    share = sum(parts["monitors"]) / (sum(parts["collect"]) + sum(parts["update"]))
    rollout = agent.collector.collect(128)
    with torch.profiler.profile() as seen:
        for _ in range(4):
            agent.collector.collect(128)
            update.update(rollout, 0.0)
    events = [e for e in seen.key_averages() if e.key.startswith("aten::")]
    total, calls = sum(e.self_cpu_time_total for e in events), sum(e.count for e in events)
    top = sorted(events, key=lambda e: -e.self_cpu_time_total)[:8]
    shares = ", ".join(
        f"{e.key.removeprefix('aten::')} {e.self_cpu_time_total / total:.0%}" for e in top
    )
    name = "PPO" if memory == "none" else "PPO-LSTM"
    return [
        f"- {name}: collecting {ms['collect']:.1f} ms, updating {ms['update']:.1f} ms, of which "
        f"the monitors {ms['monitors']:.2f} ms ({share:.2%} of all, with the forward they make "
        f"every 16 updates); {calls // 4:,} torch operations, their time: {shares}.",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="part of a system's name")
    parser.add_argument("--write", action="store_true", help="write results/throughput.md")
    options = parser.parse_args()
    chosen = [name for name in SYSTEMS if options.only in name]
    steps = {
        name: 1024 * (64 if "64" in name else 4 if "Recurrent" in name else 12) for name in chosen
    }
    products = product_lines()  # before there are other processes
    median = interleaved({name: SYSTEMS[name] for name in chosen}, steps, options.rounds)
    best = best_of(median)
    lines = report_lines("Throughput", "python benchmarks/throughput.py", products, median, RATIOS)
    roof = matmul_roof()
    lines += ["", f"Roof of one thread: {roof:.0f} GFLOP/s (1024 x 1024 product, float32)."]
    for name, memory in (("retain PPO", "none"), ("retain PPO-LSTM", "lstm")):
        if name in best:
            used = best[name] * flops_per_step(memory) / 1e9
            lines.append(f"{name} does {used:.1f} GFLOP/s, {used / roof:.1%} of it.")
    lines += [
        "",
        "Where 1024 steps go, with one thread and under no profiler (operations: with it):",
    ]
    lines += ["", *profile("none"), *profile("lstm")]
    text = "\n".join(lines) + "\n"
    print(text)
    if options.write:
        (RESULTS / "throughput.md").write_text(text)


if __name__ == "__main__":
    main()
