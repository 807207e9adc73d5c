"""MiniGrid: see an object, walk to the fork of a corridor, and turn to the same object again.

Seed 1, 200,000 steps (2026-11-27): 0.97 with an LSTM and 0.97 without a memory, where 0.5 is a
guess. In this smallest maze an agent at the fork may also turn round and look once more.

pip install 'retain[minigrid]'
python examples/minigrid_memory.py
"""

import sys

import retain


def main(steps: int = 200_000) -> None:
    """Trains PPO without and with a memory."""
    for memory in ("none", "lstm"):
        agent = retain.PPO(
            "minigrid:MiniGrid-MemoryS7-v0",
            env_kwargs={"size": 5},
            memory=memory,
            entropy_coef=0.03,  # a guess pays half, and is found first: explore beyond it
            seed=1,
        )
        agent.learn(steps)
        print(f"{memory}: return {agent.evaluate(50).return_mean:.2f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
