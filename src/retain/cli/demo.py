"""`make demo`: an agent with memory solves what no memoryless agent can."""

import shutil
import sys
import time
from pathlib import Path

from retain.envs.catalogue import CATALOGUE
from retain.train.algorithms import PPO

ENV = "CartPoleNoVel-v1"
RUN = Path("runs/demo")
STEPS, EPISODES, SOLVED = 100_000, 20, 475


def main(steps: int = STEPS) -> int:
    """Trains, evaluates and plots; returns status 1 if the task was not solved in `STEPS` steps.

    Args:
        steps: environment steps; with fewer than `STEPS` nothing is promised, and the status is 0.
    """
    shutil.rmtree(RUN, ignore_errors=True)
    memoryless = CATALOGUE[ENV].memoryless
    print(f"PPO + LSTM on {ENV}: balance a pole without seeing any velocity.")
    print(
        f"The best policy without memory lasts about {memoryless:.0f} of 500 steps.\n", flush=True
    )
    began = time.perf_counter()
    agent = PPO(ENV, memory="lstm", seed=1)
    agent.learn(steps, out=RUN, progress=True)
    seconds = time.perf_counter() - began
    result = agent.evaluate(EPISODES)
    print(f"\ntrained {agent.steps:,} steps in {seconds:.0f} s")
    print(f"mean return of {EPISODES} episodes: {result.return_mean:.1f} (solved: >= {SOLVED})")
    print(f"learning curve: {RUN / 'learning_curve.png'}")
    print(f"play more: .venv/bin/retain eval {RUN} --episodes 100")
    return 0 if result.return_mean >= SOLVED or steps < STEPS else 1


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
