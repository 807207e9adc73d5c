"""Checks an encoder against its contract. Nothing is trained; every check perturbs and compares."""

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor

from retain.doctor.report import Report, Result, judged
from retain.doctor.variants import CLOSE, sampled
from retain.nn.encoders import Encoder
from retain.types import Obs, tree_map

T, B = 4, 3


def check_encoder(encoder: Encoder, space: gym.Space[Any]) -> Report:
    """Runs every check of an encoder, for tests. The encoder's parameters stay unchanged.

    Args:
        space: space of the observations that the encoder reads.
    Raises:
        AssertionError: something is broken; the lines say what, and how to fix it.
    """
    return Report(list(encoder_results(encoder, space))).require()


def encoder_results(encoder: Encoder, space: gym.Space[Any]) -> Iterator[Result]:
    """The results of every check."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        obs = sampled(space, T, B)
        yield _shape(encoder, obs)
        yield _same_twice(encoder, obs)
        yield _each_step(encoder, obs)
        yield _order(encoder, obs)
        yield _learns(encoder, obs)


@torch.no_grad()
def _run(encoder: Encoder, obs: Obs) -> Tensor:
    return encoder(obs)


def _gap(one: Tensor, two: Tensor) -> float:
    return float((one - two).abs().max()) if one.numel() else 0.0


def _shape(encoder: Encoder, obs: Obs) -> Result:
    out = _run(encoder, obs)
    wanted = (T, B, encoder.features)
    good = tuple(out.shape) == wanted and out.dtype == torch.float32
    return judged(
        "encoder: features of the width it says", good and bool(torch.isfinite(out).all()),
        f"{tuple(out.shape)} {str(out.dtype).removeprefix('torch.')} for {wanted} float32",
        "The memory and the heads get another width or dtype, or values that are not finite.",
        "Return [T, B, features] float32; scale raw observations.",
    )  # fmt: skip


def _same_twice(encoder: Encoder, obs: Obs) -> Result:
    gap = _gap(_run(encoder, obs), _run(encoder, obs))
    return judged(
        "encoder: same input, same output", gap == 0, f"difference {gap:.1e}",
        "Two calls differ: dropout, noise, or state kept on the module.",
        "Keep randomness and state out of forward; what must be remembered belongs to a memory.",
    )  # fmt: skip


def _each_step(encoder: Encoder, obs: Obs) -> Result:
    whole = _run(encoder, obs)
    steps = [_run(encoder, tree_map(lambda x, t=t: x[t : t + 1], obs)) for t in range(T)]
    gap = _gap(whole, torch.cat(steps))
    return judged(
        "encoder: acting is training with T = 1", gap < CLOSE, f"difference {gap:.1e}",
        "A step's features depend on its neighbours in time: acting cannot have them.",
        "Encode each step by itself; no statistics over time or batch, no reshape that mixes them.",
    )  # fmt: skip


def _order(encoder: Encoder, obs: Obs) -> Result:
    order = torch.tensor([2, 0, 1])
    straight = _run(encoder, obs)
    gap = _gap(straight[:, order], _run(encoder, tree_map(lambda x: x[:, order], obs)))
    other = torch.tensor([0, 2, 2])
    leak = _gap(straight[:, 0], _run(encoder, tree_map(lambda x: x[:, other], obs))[:, 0])
    return judged(
        "encoder: environments do not mix", gap < CLOSE and leak < CLOSE,
        f"in another order {gap:.1e}, another environment changes {leak:.1e}",
        "A row of the batch depends on the others, or on its place.",
        "No batch statistics; no view where a transpose is meant.",
    )  # fmt: skip


def _learns(encoder: Encoder, obs: Obs) -> Result:
    named = {n: p for n, p in encoder.named_parameters() if p.requires_grad}
    if not named:
        return Result("encoder: the gradient reaches its parameters", "ok", "it has none")
    slopes = torch.autograd.grad(encoder(obs).square().sum(), [*named.values()], allow_unused=True)
    still = [n for n, s in zip(named, slopes, strict=True) if s is None or not s.abs().sum() > 0]
    return judged(
        "encoder: the gradient reaches its parameters", not still,
        f"{len(named) - len(still)} of {len(named)}" + (f"; none to {still[0]}" if still else ""),
        "A part of the encoder never learns: it is detached, saturated, or not used.",
        "Use every layer; no detach or no_grad inside; scale raw observations (uint8 by 255).",
    )  # fmt: skip
