"""Policy actions and the environment's own."""

import gymnasium as gym
import numpy as np
import torch

from retain.nn.actions import ClippedActions, UnitActions
from retain.nn.heads import make_head

SPACE = gym.spaces.Box(np.array([-1.0, -0.5], np.float32), np.array([1.0, 2.0], np.float32))


def test_a_unit_gaussian_spans_every_box_alike():
    coder = UnitActions(SPACE)
    action = torch.tensor([[-1.0, -1.0], [0.0, 0.0], [1.0, 1.0], [3.0, -9.0]])
    wanted = [[-1.0, -0.5], [0.0, 0.75], [1.0, 2.0], [1.0, -0.5]]
    assert coder.to_env(action).tolist() == wanted
    assert coder.encode(action)[1:4:2].tolist() == [[0.0, 0.0], [1.0, -1.0]]
    assert coder.to_env(action).dtype == np.float32


def test_without_bounds_a_unit_changes_nothing():
    space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action = torch.tensor([[5.0, -7.0]])
    for coder in (UnitActions(space), ClippedActions(space)):
        assert coder.to_env(action).tolist() == [[5.0, -7.0]]
        assert coder.encode(action).tolist() == [[5.0, -7.0]]


def test_the_head_takes_the_coder_that_the_setting_asks_for():
    assert isinstance(make_head(3, SPACE, unit=True).coder, UnitActions)
    assert type(make_head(3, SPACE).coder) is ClippedActions
