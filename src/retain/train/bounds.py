"""Checks whether there is enough memory for a configuration, before allocating any.

The sums are lower estimates, so that nothing is refused that would have fitted.
"""

import math
from itertools import pairwise
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from retain.envs.spaces import columns
from retain.errors import UsageError
from retain.nn.encoders import is_image
from retain.train.files import memory_bytes, shorten

ONE_HOT = 2**17
"""Largest number of one-hot values, summed over all entries of a space."""
LAYERS = 1000
"""Largest number of layers in an MLP."""
FLOAT = 4
"""Bytes per float."""


def check_device(name: str) -> torch.device:
    """The device called `name`.

    Raises:
        UsageError: this machine has no such device, or it cannot train.
    """
    cuda = torch.cuda.device_count()
    there = ["cpu", *(["cuda"] * (cuda > 0)), *(f"cuda:{index}" for index in range(cuda))]
    if name not in there:
        kind = name.split(":")[0]
        why = {
            "cuda": "; no such GPU is usable here",
            "mps": "; it is not supported",
            "meta": "; it holds no numbers",
        }.get(kind, "")
        raise UsageError(f"device is {shorten(name)!r}{why} (expected one of: {', '.join(there)})")
    return torch.device(name)


def check_sizes(observation_space: gym.Space[Any], action_space: gym.Space[Any]) -> None:
    """Checks that spaces are not empty and have few enough one-hot values.

    Raises:
        UsageError: names the space.
    """
    for name, space in (("observation", observation_space), ("action", action_space)):
        inner = space.spaces.values() if isinstance(space, gym.spaces.Dict) else [space]
        if not inner or any(math.prod(leaf.shape or ()) == 0 for leaf in inner):
            raise UsageError(
                f"the {name} space {shorten(space)} is empty (expected at least one number in it)"
            )
        values = sum(one_hot(leaf) for leaf in inner)
        if values > ONE_HOT:
            raise UsageError(
                f"the {name} space {shorten(space)} has {values:,} values, coded one-hot "
                f"(expected at most {ONE_HOT:,}; give them as the entries of a Box)"
            )


def one_hot(space: gym.Space[Any]) -> int:
    """Number of a space's values in one-hot code; 0 for a space of numbers."""
    if isinstance(space, gym.spaces.Discrete):
        return int(space.n)
    return int(space.nvec.sum()) if isinstance(space, gym.spaces.MultiDiscrete) else 0


def width(space: gym.Space[Any]) -> int:
    """Number of features of an encoded space, at least."""
    inner = space.spaces.values() if isinstance(space, gym.spaces.Dict) else [space]
    images = (is_image(leaf) for leaf in inner)
    return sum(
        512 if image else one_hot(leaf) or math.prod(leaf.shape or ())
        for leaf, image in zip(inner, images, strict=True)
    )


def row_bytes(space: gym.Space[Any]) -> int:
    """Bytes of one stored observation."""
    leaves = columns(space).values()
    return sum(math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in leaves)


def parameters(observation_space: gym.Space[Any], action_space: gym.Space[Any], config: Any) -> int:
    """Number of parameters of one network, as a lower estimate."""
    hidden, layers = getattr(config, "memory_hidden", 0), getattr(config, "memory_layers", 1)
    encoder = _widths(config, "encoder_hidden")
    wide = [width(observation_space), *encoder]
    count = sum(a * b for a, b in pairwise(wide))
    last = wide[-1]
    if getattr(config, "remembers", False):
        count += hidden * last + layers * hidden * hidden
        last = hidden
    heads = [last, *_widths(config, "hidden"), one_hot(action_space) or 1]
    return count + sum(a * b for a, b in pairwise(heads))


def _widths(config: Any, name: str) -> tuple[int, ...]:
    widths = getattr(config, name, ())
    if not isinstance(widths, tuple):
        return ()
    if len(widths) > LAYERS or any(w < 1 for w in widths):
        shown = shorten(" ".join(map(str, widths)), 40)
        raise UsageError(f"{name} is {shown} (expected at most {LAYERS} widths of at least 1)")
    return widths


def check_memory(
    observation_space: gym.Space[Any], action_space: gym.Space[Any], run: Any, config: Any
) -> None:
    """Checks that there is memory for the networks, a segment, a minibatch and the replay.

    Raises:
        UsageError: names the settings to lower, the memory needed and the memory available.
    """
    B, row = run.num_envs, row_bytes(observation_space) + FLOAT
    steps, batch = getattr(config, "num_steps", 1), getattr(config, "batch_size", 1)
    weights = parameters(observation_space, action_space, config)
    window = getattr(config, "window", 1) if getattr(config, "memory", "") == "window" else 1
    on_policy = not hasattr(config, "buffer_size")
    needs = {
        "hidden, encoder and memory_hidden": 4 * FLOAT * weights,  # gradient, Adam's two moments
        "num_envs and window": FLOAT * B * window * width(observation_space),
    }
    if on_policy:
        needs["num_steps and num_envs"] = steps * B * row
    else:
        needs["batch_size"] = batch * row
        stored = row if config.buffer_folder is None else FLOAT
        needs["buffer_size"] = config.buffer_size * stored
    held = memory_bytes()
    for names, bytes_needed in needs.items():
        if bytes_needed > held:
            advice = "smaller"
            if names == "buffer_size" and config.buffer_folder is None:
                advice = "a smaller one, or --buffer-folder to keep the observations in files"
            raise UsageError(
                f"{names}: {_values(names, run, config)} needs at least "
                f"{bytes_needed / 2**30:,.1f} GiB of {held / 2**30:,.1f} GiB of memory "
                f"(expected {advice})"
            )


def _values(names: str, run: Any, config: Any) -> str:
    words = names.replace(",", "").replace(" and ", " ").split()
    values = {word: getattr(config, word, getattr(run, word, None)) for word in words}
    return shorten(", ".join(str(value) for value in values.values()))
