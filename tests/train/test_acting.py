"""What is given to act and predict fits, or the line says how it does not."""

import gymnasium as gym
import numpy as np
import pytest
import torch

import retain
from retain.errors import UsageError

SMALL = {"num_envs": 2, "num_steps": 8, "batch_size": 8, "preset": "none"}


class Room(gym.Env):
    """A Dict of a small image, a room's number and a nested position."""

    observation_space = gym.spaces.Dict({
        "image": gym.spaces.Box(0, 255, (36, 36, 3), np.uint8),
        "room": gym.spaces.Discrete(5, start=1),
        "me": gym.spaces.Dict({"x": gym.spaces.Box(-1, 1, (2,), np.float32)}),
    })  # fmt: skip
    action_space = gym.spaces.Discrete(2)

    def see(self):
        return {"image": np.zeros((36, 36, 3), np.uint8), "room": 3, "me": {"x": np.zeros(2)}}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.see(), {}

    def step(self, action):
        return self.see(), 0.0, False, True, {}


@pytest.fixture(scope="module")
def rooms():
    return retain.PPO(Room, memory="gru", memory_hidden=4, **SMALL)


@pytest.fixture(scope="module")
def pole():
    return retain.PPO("CartPoleNoVel-v1", memory="lstm", memory_hidden=4, **SMALL)


def test_a_dict_is_taken_nested_flat_or_batched(rooms):
    nested = Room().see()
    flat = {"image": nested["image"], "room": 3, "me/x": nested["me"]["x"]}
    one, _ = rooms.act(nested, deterministic=True)
    other, _ = rooms.act(flat, deterministic=True)
    batch = {key: np.stack([value, value]) for key, value in flat.items()}
    both, _ = rooms.act(batch, deterministic=True)
    assert both.tolist() == [one, other]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"room": None}, "the observation has no entry 'room' .expected image, me/x, room; found"),
        (
            {"image": np.full((36, 36, 3), 0.5)},
            "observation 'image' is 0.5 at .0, 0, 0. .expected uint8",
        ),
        ({"image": np.full((36, 36, 3), 300)}, "observation 'image' is 300 at"),
        ({"image": np.zeros((36, 36))}, r"observation 'image' of shape \(36, 36\) .expected"),
        ({"room": 9}, r"observation 'room' is 9 .expected one of Discrete\(5, start=1\)"),
        ({"room": "hall"}, "observation 'room' is <U4 .expected numbers"),
        ({"me": {"x": [0.0, np.nan]}}, "observation 'me/x' is nan at .1. .expected finite numbers"),
        ({"me": {"x": [[0.0], [1.0, 2.0]]}}, "observation 'me/x' is ragged"),
        ({"me": {"x": np.zeros((3, 2))}}, "batches of .* .expected one size"),
    ],
)
def test_an_entry_that_does_not_fit_is_named(rooms, changes, message):
    obs = {k: v for k, v in (Room().see() | changes).items() if v is not None}
    with pytest.raises(UsageError, match=message):
        rooms.act(obs)
    with pytest.raises(UsageError, match=message):
        rooms.predict(obs)


def test_what_is_no_dict_is_told_which_is_expected(rooms):
    with pytest.raises(
        UsageError, match=r"observation is list .expected a dict of image, me/x, room"
    ):
        rooms.act([1, 2])


def test_numbers_at_deployment_are_finite(pole):
    for bad in (np.nan, np.inf):
        with pytest.raises(UsageError, match=rf"observation is {bad} at \[1\]"):
            pole.act([0.0, bad])
    with pytest.raises(UsageError, match=r"observation is list|NoneType .expected numbers"):
        pole.act(None)


def test_a_carry_that_is_none_of_this_agents_is_told_what_differs(pole, rooms):
    policy, action = pole.initial_carry()
    for carry, message in (
        (rooms.initial_carry(), r"carry\[0\]\[0\] has 1 parts .expected 2"),
        (policy, r"carry has 1 parts .expected 2"),
        (list(pole.initial_carry()), "carry is list .expected a tuple of 2"),
        ((policy, np.zeros(1)), r"carry\[1\] is ndarray .expected a tensor"),
        ((policy, action.float()), r"carry\[1\] is \[1\] float32 .expected \[B\] int64"),
        ((((torch.zeros(1, 1, 3),) * 2,), action),
         r"carry\[0\]\[0\]\[0\] is \[1, 1, 3\] float32 .expected \[B, 1, 4\]"),
        (pole.initial_carry(3), r"carry is for 3 environments, but obs holds 1: start with initial"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=message):
            pole.act([0.0, 0.0], carry)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"reset": [True, False, True]}, r"reset is of shape \(3,\) .expected true or false, or 2"),
        ({"reset": 0.5}, "reset is 0.5 .expected true or false"),
        ({"reward": "much"}, "reward is 'much' .expected a number, or 2 of them"),
        ({"reward": np.nan}, "reward is nan .expected finite"),
    ],
)
def test_resets_and_rewards_are_one_for_each(pole, arguments, message):
    with pytest.raises(UsageError, match=message):
        pole.act(np.zeros((2, 2)), pole.initial_carry(2), **arguments)


def test_a_state_for_predict_is_what_it_returned(pole):
    with pytest.raises(UsageError, match=r"the state is 1 arrays .expected the 3 arrays"):
        pole.predict([0.0, 0.0], (np.zeros(1),))
    with pytest.raises(UsageError, match="the state is ndarray"):
        pole.predict([0.0, 0.0], np.zeros((1, 4)))
    _, state = pole.predict(np.zeros((2, 2)))
    with pytest.raises(UsageError, match="carry is for 2 environments, but obs holds 1"):
        pole.predict([0.0, 0.0], state)
