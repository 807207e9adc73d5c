"""POPGym: name the card that was shown four steps ago.

Seed 1, 100,000 steps (2026-11-27): -0.47 without a memory, 0.70 with a GRU, 1.00 with minGRU.

pip install 'retain[popgym]'
python examples/popgym_repeat.py
"""

import sys

import retain


def main(steps: int = 100_000) -> None:
    """Trains PPO without a memory and with two memories on the same steps."""
    for memory in ("none", "gru", "mingru"):
        agent = retain.PPO("popgym:popgym-RepeatPreviousEasy-v0", memory=memory, seed=1)
        agent.learn(steps)
        print(f"{memory}: return {agent.evaluate(50).return_mean:.2f} (1 is perfect)")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
