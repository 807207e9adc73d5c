"""A linear recurrence of complex numbers, each with its own decay and rotation."""

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retain.errors import UsageError
from retain.memory.arrays import ArrayStep, ComplexStates, has_arrays
from retain.memory.base import Memory
from retain.memory.registry import register_memory
from retain.ops import linear_recurrence
from retain.ops.products import linear
from retain.ranges import NearOne
from retain.types import Carry, tree_leaves


class Rotations(nn.Module):
    """s' = lambda s + gamma B x,  y = Re(C s) + D x + d,  N complex numbers s."""

    def __init__(
        self, features_in: int, hidden: int, states: int, radius: tuple[float, float], phase: float
    ) -> None:
        super().__init__()
        low, high = radius
        # |lambda| lies evenly over the ring between the radii, its phase over [0, phase].
        square = torch.rand(states) * (high**2 - low**2) + low**2
        self.log_rate = nn.Parameter(torch.log(-0.5 * torch.log(square)))
        self.log_phase = nn.Parameter(torch.log(phase * torch.rand(states)))
        # sqrt(1 - |lambda|^2), without the difference of nearly equal numbers.
        scale = torch.sqrt(-torch.expm1(-2 * self.log_rate.detach().exp()))
        self.log_scale = nn.Parameter(scale.log())
        self.enter = nn.Linear(features_in, 2 * states, bias=False)
        self.leave = nn.Linear(2 * states, hidden, bias=False)
        self.skip = nn.Linear(features_in, hidden)

    def decay(self) -> Tensor:
        """lambda as pairs `[N, 2]`."""
        size, phase = torch.exp(-self.log_rate.exp()), self.log_phase.exp()
        return torch.stack((size * phase.cos(), size * phase.sin()), dim=-1)

    def forward(self, x: Tensor, state: Tensor, reset: Tensor) -> tuple[Tensor, Tensor]:
        """`[T, B, D]` and the state `[B, 2 N]` to `[T, B, H]` and the state after the last step."""
        T, B, _ = x.shape
        enter, leave = self.products()
        entering = linear(x, enter, torch.zeros_like(enter[:, 0])).view(T, B, -1, 2)
        states = linear_recurrence(
            decay=self.decay(), input=entering, reset=reset, initial=state.view(B, -1, 2)
        ).flatten(2)
        read = torch.cat((states, x.to(states.dtype)), dim=-1)
        return linear(read, leave, self.skip.bias), states[-1]

    def products(self) -> tuple[Tensor, Tensor]:
        """The weights `[2 N, D]` of what enters the states, and `[H, 2 N + D]` of what is read from
        states and input."""
        scale = self.log_scale.exp().repeat_interleave(2)
        leave = torch.cat((self.leave.weight, self.skip.weight), dim=1)
        return self.enter.weight * scale.unsqueeze(1), leave


@register_memory("lru")
class LRU(Memory):
    """Linear recurrent units: the trace of an input fades and turns, channel by channel.

    s' = lambda s + gamma B x,  y = Re(C s) + D x          (Orvieto et al. 2023, arXiv:2303.06349)

    lambda = exp(-exp(nu) + i exp(theta)), gamma starts at sqrt(1 - |lambda|^2), which keeps the
    states of slow channels as large as those of quick ones. Rotations of all speeds make the time
    since an input readable. No gate decides what to take in, so the memory holds order better than
    facts among noise. Each later layer reads the normalised output of the layer before through a
    silu, and adds its own output to it. The carry is `[B, layers, 2 N]`, pairs of reals.

    Args:
        features_in: D, width of the input.
        hidden: H, width of the output.
        layers: number of stacked recurrences.
        states: N, complex states of a layer.
        radius_min: smallest initial |lambda|.
        radius_max: largest initial |lambda|.
        phase: largest initial rotation per step, in radians.
    Raises:
        UsageError: the number of states, a radius or the phase is impossible.
    """

    receptive_field = None
    rotations: list[Rotations]
    norms: list[nn.LayerNorm]

    def __init__(
        self,
        features_in: int,
        *,
        hidden: int,
        layers: int = 1,
        states: int = 64,
        radius_min: float = 0.4,
        radius_max: Annotated[float, NearOne(0.9, 0.9999)] = 0.999,
        phase: float = 2 * math.pi,
    ) -> None:
        super().__init__()
        if states < 1:
            raise UsageError(f"states is {states} (expected at least 1)")
        if not 0 < radius_min <= radius_max < 1:
            raise UsageError(
                f"radii are {radius_min:g} to {radius_max:g} (expected 0 < least <= largest < 1)"
            )
        if not phase > 0:
            raise UsageError(f"phase is {phase:g} (expected more than 0)")
        self.features_in, self.features, self.states = features_in, hidden, states
        radius = (radius_min, radius_max)
        self.rotations = nn.ModuleList(  # type: ignore[assignment]
            Rotations(hidden if layer else features_in, hidden, states, radius, phase)
            for layer in range(layers)
        )
        self.norms = nn.ModuleList(  # type: ignore[assignment]
            nn.LayerNorm(hidden) for _ in range(layers - 1)
        )

    def initial_carry(self, batch_size: int) -> Carry:
        """Zeros."""
        weight = self.rotations[0].enter.weight
        return (weight.new_zeros(batch_size, len(self.rotations), 2 * self.states),)

    def forward(self, x: Tensor, carry: Carry, reset: Tensor) -> tuple[Tensor, Carry]:
        """`[T, B, D]` to `[T, B, H]` and the carry after the last step."""
        (states,) = tree_leaves(carry)
        first, *others = self.rotations
        x, end = first.forward(x, states[:, 0], reset)
        ends = [end]
        for layer, (norm, more) in enumerate(zip(self.norms, others, strict=True), start=1):
            y, end = more.forward(F.silu(norm(x)), states[:, layer], reset)
            x = x + y
            ends.append(end)
        return x, (torch.stack(ends, dim=1),)

    def array_step(self, rows: int) -> ArrayStep | None:
        """See `Memory`."""
        if not has_arrays(self, LRU):
            return None
        layers = [(one.decay(), *one.products(), one.skip.bias) for one in self.rotations]
        return ComplexStates(layers, [(norm.weight, norm.bias) for norm in self.norms], rows)

    @torch.no_grad()
    def metrics(self, carry: Carry) -> dict[str, float | Tensor]:
        """The geometric mean of the states' horizons 1 / (1 - |lambda|), in steps."""
        rates = torch.cat([layer.log_rate for layer in self.rotations]).exp()
        return {"horizon": (-torch.expm1(-rates)).log().mean().neg().exp()}
