"""Encoders and activations."""

import gymnasium as gym
import numpy as np
import pytest
import torch

from retain.errors import UsageError
from retain.nn.encoders import MLP, GridCNN, NatureCNN, VectorEncoder, make_encoder
from retain.nn.stacked import PairMLP, activation_function
from retain.ops.mlp import tanh


def test_quick_tanh_is_tanh_with_its_gradient():
    x = torch.linspace(-12, 12, 10_001, requires_grad=True)
    torch.testing.assert_close(tanh(x), torch.tanh(x), atol=3e-7, rtol=0)
    (ours,) = torch.autograd.grad(tanh(x).sum(), x)
    (theirs,) = torch.autograd.grad(torch.tanh(x).sum(), x)
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)
    with torch.no_grad():
        assert torch.equal(tanh(x), tanh(x.clone().requires_grad_()))


def test_paired_networks_equal_two_separate_ones():
    torch.manual_seed(0)
    pair = PairMLP(5, (8, 6), "relu")
    one, two = MLP(5, (8, 6), "relu"), MLP(5, (8, 6), "relu")
    with torch.no_grad():
        for index, single in enumerate((one, two)):
            for layer, linear in enumerate(single.layers):
                linear.weight.copy_(getattr(pair, f"weight_{layer}")[index].T)
                linear.bias.copy_(getattr(pair, f"bias_{layer}")[index, 0])
    x, y = torch.randn(3, 4, 5), torch.randn(3, 4, 5)
    for inputs in ((x, x), (x, y)):
        for ours, theirs in zip(pair(*inputs), (one(inputs[0]), two(inputs[1])), strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)


def test_actor_gradient_never_reaches_the_critics_half():
    pair = PairMLP(5, (8,), "tanh")
    x = torch.randn(2, 3, 5)
    actor, _ = pair(x, x)
    actor.sum().backward()
    assert pair.weight_0.grad[0].abs().sum() > 0
    assert not pair.weight_0.grad[1].any()


@pytest.mark.parametrize("shape", [(36, 36, 3), (4, 84, 84)])
def test_nature_cnn_reads_channels_first_or_last_and_scales_bytes(shape):
    space = gym.spaces.Box(0, 255, shape, np.uint8)
    encoder = make_encoder(space, (), "relu")
    assert isinstance(encoder, NatureCNN)
    images = torch.randint(0, 256, (2, 3, *shape), dtype=torch.uint8)
    features = encoder(images)
    assert features.shape == (2, 3, 512)
    scaled = encoder(images.float())  # 255 times larger before the first layer
    assert torch.equal(scaled, features)
    with pytest.raises(UsageError, match="too small"):
        NatureCNN(gym.spaces.Box(0, 255, (20, 20, 3), np.uint8))


@pytest.mark.parametrize("shape", [(7, 7, 3), (3, 8, 8), (8, 8, 1), (8, 8), (35, 20, 2)])
def test_small_images_get_a_small_network_and_bytes_their_scale(shape):
    space = gym.spaces.Box(0, 10, shape, np.uint8)
    encoder = make_encoder(space, (), "tanh")
    assert isinstance(encoder, GridCNN)
    images = torch.randint(0, 11, (2, 3, *shape), dtype=torch.uint8)
    features = encoder(images)
    assert features.shape == (2, 3, 128)
    one = GridCNN(gym.spaces.Box(0, 1, shape, np.uint8))  # the same of images that reach 1
    one.load_state_dict(encoder.state_dict())
    torch.testing.assert_close(one(images / 10), features, atol=1e-5, rtol=1e-5)
    assert size_of(encoder) < 200_000


def test_a_vector_beside_an_image_is_not_drowned():
    image = gym.spaces.Box(0, 255, (8, 8, 1), np.uint8)
    vector = gym.spaces.Box(-np.inf, np.inf, (3,))
    encoder = make_encoder(gym.spaces.Dict(map=image, vector=vector), (), "tanh")
    seen = {"map": 3 * torch.randn(1, 50, 8, 8, 1), "vector": torch.randn(1, 50, 3)}
    features = encoder(seen)[0]
    assert features.shape == (50, 131)
    of_image, of_vector = features[:, :128].norm(dim=-1), features[:, 128:].norm(dim=-1)
    assert 0.3 < of_image.mean() / of_vector.mean() < 1.5
    assert torch.equal(features[:, 128:], seen["vector"][0])
    contrast = encoder({"map": 5 * seen["map"], "vector": seen["vector"]})[0]
    torch.testing.assert_close(contrast, features, atol=1e-3, rtol=1e-3)


def test_images_without_anything_beside_them_are_left_alone():
    image = gym.spaces.Box(0, 255, (8, 8, 1), np.uint8)
    both = make_encoder(gym.spaces.Dict(map=image, other=image), (), "tanh")
    seen = torch.randn(1, 2, 8, 8, 1)
    features = both({"map": seen, "other": seen})
    assert torch.equal(features[..., :128], both.encoders[0](seen))
    assert torch.equal(features[..., 128:], both.encoders[1](seen))


def size_of(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_what_is_no_small_image_stays_a_vector():
    for space in (gym.spaces.Box(-np.inf, np.inf, (8, 8, 3)), gym.spaces.Box(0, 1, (8, 8)),
                  gym.spaces.Box(0, 255, (4, 4, 3), np.uint8)):  # fmt: skip
        assert isinstance(make_encoder(space, (), "tanh"), VectorEncoder)


def test_bytes_in_a_vector_are_scaled_by_the_largest_of_their_space():
    encoder = make_encoder(gym.spaces.Box(0, 200, (2,), np.uint8), (), "tanh")
    seen = encoder(torch.tensor([[[50, 200]]], dtype=torch.uint8))
    assert seen.flatten().tolist() == pytest.approx([0.25, 1.0])


@pytest.mark.parametrize(
    ("space", "width"),
    [
        (gym.spaces.Box(-1, 1, ()), 1),
        (gym.spaces.Box(-1, 1, (2, 3)), 6),
        (gym.spaces.Discrete(4, start=2), 4),
        (gym.spaces.MultiDiscrete([2, 3]), 5),
        (gym.spaces.MultiBinary(3), 3),
        (gym.spaces.Dict({"a": gym.spaces.Discrete(2), "action_mask": gym.spaces.MultiBinary(9),
                          "b": gym.spaces.Box(0, 1, (3,))}), 5),
    ],
)  # fmt: skip
def test_each_space_is_encoded_at_its_width(space, width):
    encoder = make_encoder(space, (), "tanh")
    sample = space.sample()
    one = {k: torch.as_tensor(np.asarray(v))[None, None] for k, v in sample.items()} if isinstance(
        sample, dict) else torch.as_tensor(np.asarray(sample))[None, None]  # fmt: skip
    features = encoder(one)
    assert encoder.features == width
    assert features.shape == (1, 1, width)
    assert torch.isfinite(features).all()


def test_one_hot_counts_from_the_start_of_the_space():
    encoder = make_encoder(gym.spaces.Discrete(4, start=2), (), "tanh")
    assert encoder(torch.tensor([[2, 5]]))[0].tolist() == [[1, 0, 0, 0], [0, 0, 0, 1]]


def test_an_unknown_activation_names_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'relu'"):
        activation_function("rellu")
