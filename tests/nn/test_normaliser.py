"""Running statistics of observations."""

import gymnasium as gym
import numpy as np
import pytest
import torch

import retain
from retain.nn.encoders import make_encoder
from retain.nn.normaliser import ObsNormaliser

BYTES = gym.spaces.Box(0, 255, (7, 7, 3), np.uint8)
SPACES = {
    "channels last": BYTES,
    "channels first": gym.spaces.Box(0, 255, (3, 7, 7), np.uint8),
    "one channel": gym.spaces.Box(0, 255, (7, 7), np.uint8),
}


def images(space, steps=5, envs=4):
    """`[T, B, ...]` images whose channels have ranges of their own, as in a grid world."""
    random = np.random.default_rng(0)
    shape = (steps, envs, *space.shape)
    axis = 2 if len(space.shape) == 3 and space.shape[0] == 3 else len(shape) - 1
    most = np.ones(len(shape), int)
    most[axis] = 3
    top = np.array([11, 6, 3]).reshape(most) if len(space.shape) == 3 else 11
    return torch.from_numpy(random.integers(0, top, shape, dtype=np.uint8)), axis


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_each_channel_of_a_small_image_gets_mean_0_and_spread_1(space):
    normaliser = ObsNormaliser(space)
    seen, axis = images(space)
    for step in seen.split(1):
        normaliser.update(step)
    out = normaliser(seen)
    assert (out.dtype, out.shape) == (torch.float32, seen.shape)
    for part in out.unbind(axis) if len(space.shape) == 3 else [out]:
        assert abs(float(part.mean())) < 1e-5
        assert float(part.std(correction=0)) == pytest.approx(1.0, abs=1e-5)


def test_before_any_data_bytes_are_divided_by_the_largest():
    seen, _ = images(BYTES)
    assert torch.allclose(ObsNormaliser(BYTES)(seen), seen / 255, atol=1e-7)


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_statistics_of_shards_merge_into_those_of_the_whole(space):
    whole, merged = ObsNormaliser(space), ObsNormaliser(space)
    seen, _ = images(space)
    whole.update(seen)
    for part in seen.split(2, dim=1):
        merged.merge(ObsNormaliser(space).summary(part))
    for one, other in zip(whole.state_dict().values(), merged.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", ["auto", "mlp"])
def test_an_encoder_reads_normalised_images_as_they_are(name):
    encoder = make_encoder(BYTES, (16,), "tanh", encoder=name)
    seen, _ = images(BYTES)
    torch.testing.assert_close(encoder(seen), encoder(seen / 255), atol=1e-5, rtol=1e-4)


def test_large_images_masks_and_integers_pass_through():
    space = gym.spaces.Dict(
        screen=gym.spaces.Box(0, 255, (84, 84, 4), np.uint8),
        action_mask=gym.spaces.MultiBinary(3),
        bytes=gym.spaces.Box(0, 255, (9,), np.uint8),
        vector=gym.spaces.Box(-1, 1, (2,), np.float32),
        map=BYTES,
    )
    assert set(ObsNormaliser(space).names) == {"vector", "map"}


class Grid(gym.Env):
    """The right action is the kind of object, 0 to 2 of 255, in the middle of an image."""

    observation_space, action_space = BYTES, gym.spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.kind = int(self.np_random.integers(3))
        return self._see(), {}

    def _see(self):
        image = np.zeros(BYTES.shape, np.uint8)
        image[3, 3, 0] = self.kind
        return image

    def step(self, action):
        right = float(action == self.kind)
        self.kind = int(self.np_random.integers(3))
        return self._see(), right, False, False, {}


def test_derived_settings_normalise_a_grid_and_learn_its_small_numbers():
    agent = retain.PPO(lambda: gym.wrappers.TimeLimit(Grid(), 8), num_steps=128, seed=1)
    assert agent.config.normalise_obs is True
    agent.learn(12_288)
    assert agent.evaluate(20).return_mean > 7.5  # a guess gets 2.7 of 8, and so does one of 255
