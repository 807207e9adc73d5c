"""Atari on a CPU: throughput against Stable-Baselines3.

    python benchmarks/atari.py --rounds 3 --write

The same work for both: Pong, 8 environments, 128 steps, 4 epochs of 4 minibatches, the Nature CNN
over 4 stacked frames, end to end. bfloat16 (products only) has its own row.
"""

import argparse
from pathlib import Path

import torch

import retain
from interleave import Run, best_of, interleaved, rate_lines, ratio_lines
from machine import machine_line

RESULTS = Path(__file__).parent / "results"
GAME, STEPS = "ALE/Pong-v5", 2048
MFLOP = 18.7
"""Of a forward of the Nature CNN on one 84 x 84 x 4 observation, two for each multiply-add."""


def ours(memory: str, precision: str) -> Run:
    agent = retain.PPO(GAME, memory=memory, precision=precision, num_envs=8)
    return lambda steps: agent.learn(steps) and None


def plain() -> Run:
    return ours("none", "float32")


def half() -> Run:
    return ours("none", "bfloat16")


def lstm() -> Run:
    return ours("lstm", "float32")


def lstm_half() -> Run:
    return ours("lstm", "bfloat16")


def peer() -> Run:
    import ale_py
    import gymnasium as gym
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_util import make_atari_env
    from stable_baselines3.common.vec_env import VecFrameStack

    gym.register_envs(ale_py)
    kwargs = {"frameskip": 1, "repeat_action_probability": 0.0}
    envs = VecFrameStack(make_atari_env(GAME, 8, seed=1, env_kwargs=kwargs), 4)
    model = PPO("CnnPolicy", envs, n_steps=128, batch_size=256, n_epochs=4, clip_range=0.1,
                learning_rate=2.5e-4, ent_coef=0.01, vf_coef=0.5, device="cpu", seed=1)  # fmt: skip
    return lambda steps: model.learn(steps, reset_num_timesteps=False) and None


SYSTEMS = {"retain PPO": plain, "retain PPO, bfloat16": half, "retain PPO-LSTM, 1 frame": lstm,
           "retain PPO-LSTM, 1 frame, bfloat16": lstm_half, "SB3 PPO": peer}  # fmt: skip


def throughput(rounds: int) -> list[str]:
    median = interleaved(SYSTEMS, dict.fromkeys(SYSTEMS, STEPS), rounds)
    best = best_of(median)
    lines = rate_lines(median)
    ratios = [(name, "SB3 PPO", 1.6) for name in ("retain PPO", "retain PPO, bfloat16")]
    lines += ratio_lines(best, tuple(ratios))
    work = best["retain PPO"] * (1 + 4 * 3) * MFLOP / 1000
    lines += ["", f"retain PPO in float32 does at most {work:.0f} GFLOP/s of convolutions (one "
              "forward to act and four forwards and backwards to learn from a step)."]  # fmt: skip
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="write results/atari.md")
    options = parser.parse_args()
    torch.set_num_threads(2)
    lines = throughput(options.rounds)
    text = "\n".join([f"# Atari\n\n{machine_line()}\n", "`python benchmarks/atari.py`\n", *lines])
    text += "\n"
    print(text)
    if options.write:
        (RESULTS / "atari.md").write_text(text)


if __name__ == "__main__":
    main()
