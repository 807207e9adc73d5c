"""A curriculum by a callback: the task grows as soon as the agent has learned it.

A cue tells the agent where to turn at the end of a corridor. The corridor begins with 10 steps and
doubles each time that the agent turns correctly.

Seed 1, 80,000 steps (2026-11-27): return 1.00 in the longest corridor, which holds 40 steps.

python examples/curriculum.py
"""

import sys

import retain


class Longer(retain.Callback):
    """Doubles the corridor whenever the recent returns are good enough, up to `longest`."""

    def __init__(self, agent: retain.Agent, longest: int = 40, wanted: float = 0.9) -> None:
        self.agent, self.longest, self.wanted = agent, longest, wanted
        self.length, self.returns = 10, []

    def on_episode(self, event):
        self.returns = [*self.returns, event.episode.ret][-200:]

    def on_row(self, event):
        event.metrics["corridor"] = float(self.length)
        learned = len(self.returns) == 200 and sum(self.returns) / 200 >= self.wanted
        if learned and self.length < self.longest:
            self.length, self.returns = 2 * self.length, []
            self.agent.set_env("TMaze-v0", env_kwargs={"length": self.length})
            print(f"{event.run.steps:,} steps: a corridor of {self.length}")

    def state(self):
        """State for every checkpoint; the environment is in the checkpoint anyway."""
        return {"length": self.length, "returns": self.returns}

    def restore(self, state):
        self.length, self.returns = state["length"], state["returns"]


def main(steps: int = 80_000) -> None:
    """Trains from 10 steps on, and evaluates in the longest corridor."""
    agent = retain.PPO("TMaze-v0", env_kwargs={"length": 10}, memory="gru", seed=1)
    agent.learn(steps, callbacks=[Longer(agent)])
    result = agent.set_env("TMaze-v0", env_kwargs={"length": 40}).evaluate(100)
    print(f"return in a corridor of 40: {result.return_mean:.2f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
