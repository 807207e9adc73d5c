"""The gradient noise scale of PPO, above which a larger minibatch pays less and less.

`benchmarks/noise_scale.py`: on three tasks, at the beginning, in the middle and at the end of a
run. B_simple = tr(Sigma) / |G|^2 (McCandlish et al. 2018, arXiv:1812.06162, appendix A.1), from
the squared norms of gradients on small and on large parts of fresh segments, before any step on
them:

|G|^2 = (B |G_B|^2 - b |G_b|^2) / (B - b),   tr(Sigma) = (|G_b|^2 - |G_B|^2) / (1/b - 1/B)

Results go to benchmarks/results/noise_scale.md.
"""

import argparse
from pathlib import Path

import torch

import retain
from machine import machine_line

TASKS = {
    "CartPole-v1": {"steps": 60_000},
    "Pendulum-v1": {"steps": 100_000},
    "HalfCheetah-v5": {"steps": 100_000},
}
SMALL, SEGMENTS = 32, 6
PAGE = Path(__file__).parent / "results" / "noise_scale.md"


def norm_squared(agent, sequences):
    gradients = agent.update.step.gradients(agent.update.loss(sequences, 0.0).total)
    return float(sum(g.square().sum() for g in gradients if g is not None))


def noise_scale(agent):
    """tr(Sigma) / |G|^2 in rows, from a few segments; the agent does not learn from them."""
    update, small, large, most = agent.update, [], [], 0
    random = torch.Generator().manual_seed(0)
    for _ in range(SEGMENTS):
        rollout = agent.collector.collect(agent.config.num_steps)
        advantage, target = update.targets(rollout)
        whole = update.cut(rollout, update.policy.prepare(rollout.obs), advantage, target)
        mean, std = advantage.mean(), advantage.std()
        order = torch.randperm(len(whole), generator=random)
        most = len(whole)
        for size, found in ((SMALL, small), (most, large)):
            for first in range(0, most - size + 1, size):
                part = whole.index(order[first : first + size])
                # The whole segment's scale: a part's own would be a part of the noise.
                object.__setattr__(part, "moments", (mean, std))
                found.append(norm_squared(agent, part))
    b, B = SMALL, most
    gb, gB = sum(small) / len(small), sum(large) / len(large)
    signal = (B * gB - b * gb) / (B - b)
    noise = (gb - gB) / (1 / b - 1 / B)
    return noise / signal if signal > 0 else float("inf")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=float, default=1.0, help="of each run's steps")
    parser.add_argument("--note", default="")
    options = parser.parse_args()
    lines = [
        "# Gradient noise scale of PPO",
        "",
        f"`python benchmarks/noise_scale.py`, {machine_line()}. {options.note}",
        "",
        "| task | rows in a segment | at the beginning | after half | at the end | last return |",
        "|---|---|---|---|---|---|",
    ]
    for env, task in TASKS.items():
        steps = int(task["steps"] * options.share)
        agent = retain.PPO(env, seed=1, lr_schedule="constant")
        found = [noise_scale(agent)]
        for part in (1, 2):
            agent.learn(steps * part // 2 - steps * (part - 1) // 2)
            found.append(noise_scale(agent))
        rows = agent.config.num_steps * agent.run_settings.num_envs
        recent = [episode.ret for episode in agent.collector.statistics.recent]
        cells = " | ".join("no signal" if x == float("inf") else f"{x:,.0f}" for x in found)
        mean = sum(recent) / max(1, len(recent))
        lines.append(f"| {env}, {steps:,} steps | {rows:,} | {cells} | {mean:,.0f} |")
        print(lines[-1], flush=True)
    PAGE.write_text("\n".join([*lines, ""]))


if __name__ == "__main__":
    main()
