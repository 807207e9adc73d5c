"""Encoders by name or class, for whole spaces or their images alone, and what the doctor sees."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import nn

import retain
from retain.doctor import check_encoder
from retain.errors import UsageError
from retain.nn.encoders import ImpalaResNet, NatureCNN, make_encoder

IMAGE = gym.spaces.Box(0, 255, (3, 40, 40), np.uint8)
LAST = gym.spaces.Box(0, 255, (9, 7, 3), np.uint8)
VECTOR = gym.spaces.Box(-1, 1, (4,), np.float32)
BOTH = gym.spaces.Dict({
    "camera": IMAGE, "state": VECTOR, "action_mask": gym.spaces.MultiBinary(2),
})  # fmt: skip


class Mean(retain.nn.Encoder):
    """A stranger's encoder of a whole space."""

    def __init__(self, space, hidden=()):
        super().__init__()
        self.keys, self.features = list(space.spaces), 2 + len(hidden)
        self.scale = nn.Parameter(torch.ones(self.features))

    def forward(self, obs):
        parts = [x.float().flatten(2).mean(-1, keepdim=True) for x in obs.values()]
        return torch.stack(parts).mean(0) * self.scale


class Batchy(retain.nn.Encoder):
    """A broken one: it subtracts the batch's mean."""

    def __init__(self, space):
        super().__init__()
        self.features = 4

    def forward(self, obs):
        return obs.float() - obs.float().mean(1, keepdim=True)


class Idle(Batchy):
    """Another: part of it never learns."""

    def __init__(self, space):
        super().__init__(space)
        self.used, self.idle = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, obs):
        return self.used(obs) + self.idle(obs).detach()


class Timely(Batchy):
    """Another: a step reads its neighbours in time."""

    def forward(self, obs):
        return obs - obs.mean(0, keepdim=True)


def test_impala_reads_images_of_any_size_in_either_layout_and_learns_in_every_layer():
    for space in (IMAGE, LAST):
        encoder = make_encoder(space, (), "tanh", encoder="impala")
        assert isinstance(encoder, ImpalaResNet)
        check_encoder(encoder, space)
    channels = [m.out_channels for m in encoder.modules() if isinstance(m, nn.Conv2d)]
    assert channels == [16] * 5 + [32] * 10  # 15 convolutions, as in the paper's figure


def test_bytes_are_scaled_and_floats_are_not():
    torch.manual_seed(0)
    encoder = ImpalaResNet(LAST)
    floats = ImpalaResNet(gym.spaces.Box(0, 1, LAST.shape, np.float32))
    floats.load_state_dict(encoder.state_dict())
    obs = torch.randint(0, 256, (2, 3, *LAST.shape), dtype=torch.uint8)
    torch.testing.assert_close(encoder(obs), floats(obs.float() / 255), atol=1e-5, rtol=1e-4)


def test_a_kind_of_encoder_reads_the_entries_it_can_and_the_usual_ones_the_rest():
    encoder = make_encoder(BOTH, (), "tanh", encoder="impala")
    assert [type(part).__name__ for part in encoder.encoders] == ["ImpalaResNet", "VectorEncoder"]
    assert encoder.features == 256 + 4
    flat = make_encoder(BOTH, (), "tanh", encoder="mlp")
    assert flat.features == 3 * 40 * 40 + 4
    assert isinstance(make_encoder(IMAGE, (), "tanh"), NatureCNN)


def test_a_strangers_encoder_gets_the_whole_space_but_for_the_mask():
    encoder = make_encoder(BOTH, (5,), "tanh", encoder="test_encoder_registry:Mean")
    assert encoder.inner.keys == ["camera", "state"]
    assert encoder.features == 3
    check_encoder(encoder, BOTH)


def test_an_encoder_from_outside_trains_and_the_doctor_looks_at_it():
    agent = retain.PPO("CartPole-v1", encoder=Flat, num_steps=32, batch_size=64, memory="gru")
    assert agent.config.encoder.endswith("test_encoder_registry:Flat")
    before = agent.policy.torsos[0].encoder.line.weight.clone()
    agent.iterate(lambda: 0.0)
    assert not torch.equal(before, agent.policy.torsos[0].encoder.line.weight)
    results = retain.doctor(agent, probes=False).results
    assert sum(r.name.startswith("encoder:") for r in results) == 5
    assert not [r for r in results if r.verdict == "fail"]


class Flat(retain.nn.Encoder):
    def __init__(self, space, activation="tanh"):
        super().__init__()
        self.features, self.line = 6, nn.Linear(space.shape[0], 6)

    def forward(self, obs):
        return torch.tanh(self.line(obs))


@pytest.mark.parametrize(
    ("kind", "check"),
    [(Batchy, "environments do not mix"), (Idle, "reaches its param"), (Timely, "T = 1")],
)
def test_the_doctor_names_what_is_wrong_with_an_encoder(kind, check):
    with pytest.raises(AssertionError, match=check):
        check_encoder(kind(VECTOR), VECTOR)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"encoder": "natur"}, "did you mean 'nature'"),
        ({"encoder": "nowhere:Mine"}, "cannot import 'nowhere'"),
        ({"encoder": (8,)}, "encoder_hidden"),
        ({"encoder": "impala"}, "cannot read the observation space"),
    ],
)
def test_a_wrong_encoder_is_said_in_one_line(settings, words):
    with pytest.raises(UsageError, match=words):
        retain.PPO("CartPole-v1", **settings)
