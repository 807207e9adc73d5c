"""MiniGrid: see an object in the first room, walk along the corridor, and turn to the same object.

pip install 'retain[minigrid]'
python examples/minigrid_memory.py
"""

import sys

import retain


def main(steps: int = 200_000) -> None:
    """Trains PPO without and with a memory on the smallest of these mazes."""
    for memory in ("none", "mingru"):
        agent = retain.PPO(
            "minigrid:MiniGrid-MemoryS7-v0",
            env_kwargs={"size": 5},
            memory=memory,
            entropy_coef=0.03,  # guessing pays half: explore until remembering pays more
            seed=1,
        )
        agent.learn(steps)
        print(f"{memory}: return {agent.evaluate(50).return_mean:.2f} (a guess gets about half)")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
