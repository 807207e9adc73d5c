"""What a page's code takes for granted, such as an observation at hand."""

STEP = """
import numpy as np
import gymnasium as gym
import retain
from my_module import MyEnv
obs, reset, state, episode_start = np.zeros(2, np.float32), True, None, np.array([True])
"""
AGENT = STEP + 'agent = retain.PPO("CartPoleNoVel-v1", memory="lstm", num_envs=2, num_steps=32)\n'

PRELUDES = {
    "README.md": STEP,
    "docs/algorithms.md": """
from pathlib import Path
import retain
source = Path(retain.__file__).parents[2] / "examples" / "own_algorithm.py"
exec(source.read_text().split("@retain.register_algorithm")[0])
env = "CartPole-v1"
""",
    "docs/coming-from.md": STEP.replace("zeros(2", "zeros(4"),
    "docs/deployment.md": AGENT
    + """
import torch
ports = [port.to_json() for port in agent.export("policy.pt2", format="torch").inputs]
obs, *carry, reset = [
    torch.zeros([1, *port["shape"][1:]], dtype=getattr(torch, port["dtype"])) for port in ports
]
""",
    "docs/design.md": STEP
    + """
from torch import nn
from retain.types import Carry
class MyCallback(retain.Callback):
    pass
""",
    "docs/doctor.md": AGENT
    + """
from retain.memory import StepMemory
class MyMemory(StepMemory):
    receptive_field = None
    def __init__(self, features_in):
        super().__init__()
        self.features_in = self.features = features_in
    def initial_carry(self, batch_size):
        import torch
        return (torch.zeros(batch_size, self.features),)
    def step(self, x, carry):
        new = 0.5 * carry[0] + x
        return new, (new,)
""",
    "docs/environments.md": STEP + "EnvStep = retain.EnvStep\n",
    "docs/presets.md": AGENT + 'levels = ["CartPoleNoVel-v1"]\n',
    "docs/report.md": STEP,
    "docs/sweep.md": """
from typing import Annotated
from retain.ranges import Log, OneOf
from retain.settings import setting
""",
    "docs/run-folder.md": STEP,
}
"""Code by page. A page without an entry must stand on its own."""

WITH_RUNS = ("docs/presets.md", "docs/report.md", "docs/run-folder.md")
"""Pages whose reader has trained already."""
