"""A robot whose sensors give positions only: a hopping leg in MuJoCo, its velocities hidden.

Joint encoders measure angles; velocities are differences of noisy angles, or missing. The memory
learns to infer what it needs from the past positions.

Seed 1, 300,000 steps (2026-11-27): return 377 without a memory, 749 with an LSTM.

pip install 'retain[mujoco]'
python examples/robot_positions.py
"""

import sys

import retain

VELOCITIES = range(5, 11)
"""The indices of the leg's velocities in the observation of Hopper-v5."""


def main(steps: int = 300_000) -> None:
    """Trains PPO on the positions, without a memory and with an LSTM."""
    for memory in ("none", "lstm"):
        agent = retain.PPO("Hopper-v5", memory=memory, hide=tuple(VELOCITIES), seed=1)
        agent.learn(steps)
        result = agent.evaluate(20)
        print(f"{memory}: return {result.return_mean:.0f}, {result.length_mean:.0f} steps upright")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
