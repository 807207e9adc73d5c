"""Deployment without this library: a policy with a memory in onnxruntime and numpy alone.

python examples/deploy_onnx.py
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import gymnasium as gym
import numpy as np
import onnxruntime


class Policy:
    """All that a robot needs: the file, and the carry from step to step."""

    def __init__(self, path: Path) -> None:
        self.session = onnxruntime.InferenceSession(str(path))
        inputs = self.session.get_inputs()
        self.carry = {
            x.name: np.zeros((1, *x.shape[1:]), np.float32) for x in inputs if "carry" in x.name
        }

    def act(self, obs: np.ndarray, reset: bool) -> np.ndarray:
        """The action for one observation; `reset` is true at an episode's first step."""
        inputs = {"obs": obs[None], "reset": np.array([reset]), **self.carry}
        action, *after = self.session.run(None, inputs)
        self.carry = dict(zip(self.carry, after, strict=True))
        return action[0]


TRAIN = """
import sys, retain
agent = retain.PPO("PendulumNoVel-v1", memory="lstm")
agent.learn(int(sys.argv[1])).export("policy.onnx")
"""


def main(steps: int = 50_000) -> None:
    """Trains and exports in another process, then plays with the file."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-c", TRAIN, str(steps)], cwd=folder, check=True)
        policy = Policy(Path(folder) / "policy.onnx")
    env = gym.make("Pendulum-v1")
    (obs, _), reset, total, over = env.reset(seed=0), True, 0.0, False
    while not over:
        obs, reward, terminated, truncated, _ = env.step(policy.act(obs[:2], reset))
        total, reset, over = total + float(reward), False, terminated or truncated
    print(f"return {total:.0f}; retain imported: {'retain' in sys.modules}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
