"""A finite memory: the last L entries of the episode, summarised afresh at every step."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retain.errors import UsageError, unknown
from retain.memory.base import Memory
from retain.memory.recurrent import GRU, LSTM
from retain.memory.registry import register_memory
from retain.types import Carry

Summary = Literal["stack", "lstm", "gru", "attention"]


@register_memory("window")
class Window(Memory):
    """Summarises the last L inputs of the episode, including the current one.

    Entries from before the episode's start are zero and marked invalid, and no summary depends on
    them. The carry is (entries `[B, L - 1, D]`, valid `[B, L - 1]`). It holds inputs, not states,
    so a window can be rebuilt from a replay's timeline at any step, and only the inputs can grow
    stale.

    Args:
        features_in: D, width of the input.
        hidden: H, width of the output ("stack" gives L D + L - 1 instead).
        window: L, the number of entries.
        summary: "stack" concatenates; "lstm" and "gru" start from a zero state at the first valid
            entry; "attention" queries the other entries with the current one.
    Raises:
        UsageError: L is below 1, or the summary is unknown.
    """

    unrolls = False

    def __init__(
        self, features_in: int, hidden: int, window: int = 8, summary: Summary = "lstm"
    ) -> None:
        super().__init__()
        if window < 1:
            raise UsageError(f"window is {window} (expected at least 1)")
        if summary not in SUMMARIES:
            raise unknown("summary", summary, SUMMARIES)
        self.features_in, self.length, self.receptive_field = features_in, window, window
        self.summary = SUMMARIES[summary](features_in, hidden, window)
        self.features = int(self.summary.features)  # type: ignore[arg-type]

    def initial_carry(self, batch_size: int) -> Carry:
        """No entries yet."""
        zeros = next(self.parameters(), torch.zeros(())).new_zeros
        return (
            zeros(batch_size, self.length - 1, self.features_in),
            zeros(batch_size, self.length - 1),
        )

    def _extended(
        self, x: Tensor, carry: Carry, reset: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Carry]:
        """Entries `[L - 1 + T, B, D]`, the episode number of each entry and of each step, and the
        next carry."""
        entries, valid = carry
        episode = reset.cumsum(0)
        # Nothing valid before the first step belongs to an episode before number 0.
        before = torch.where(valid.T > 0, 0, -1)  # type: ignore[union-attr]
        row = torch.cat((entries.transpose(0, 1), x))  # type: ignore[union-attr]
        number = torch.cat((before, episode))
        kept = self.length - 1
        stays = number[len(number) - kept :] == episode[-1]
        tail = row[len(row) - kept :].masked_fill(~stays.unsqueeze(-1), 0.0)
        return row, number, episode, (tail.transpose(0, 1), stays.T.to(x.dtype))

    def forward(self, x: Tensor, carry: Carry, reset: Tensor) -> tuple[Tensor, Carry]:
        """`[T, B, D]` to `[T, B, features]`, and the carry after the last step."""
        T, B, D = x.shape
        row, number, episode, after = self._extended(x, carry, reset)
        valid = number.unfold(0, self.length, 1) == episode.unsqueeze(-1)  # [T, B, L]
        window = row.unfold(0, self.length, 1).transpose(2, 3)  # [T, B, L, D]
        window = window.masked_fill(~valid.unsqueeze(-1), 0.0)
        out: Tensor = self.summary(
            window.reshape(T * B, self.length, D), valid.reshape(T * B, self.length)
        )
        return out.view(T, B, self.features), after

    def absorb(self, x: Tensor, carry: Carry, reset: Tensor) -> Carry:
        """See `Memory.absorb`; no summary is computed."""
        return self._extended(x, carry, reset)[3]


class Stack(nn.Module):
    """The entries side by side, with flags for the earlier ones that exist."""

    def __init__(self, features_in: int, hidden: int, length: int) -> None:
        super().__init__()
        self.features = length * features_in + length - 1

    def forward(self, window: Tensor, valid: Tensor) -> Tensor:
        """`[N, L, D]`, `[N, L]` bool to `[N, L D + L - 1]`."""
        return torch.cat((window.flatten(1), valid[:, :-1].to(window.dtype)), dim=1)


class RecurrentSummary(nn.Module):
    """The state of a recurrence that starts from zero at the first valid entry."""

    def __init__(self, kind: type[LSTM] | type[GRU], features_in: int, hidden: int) -> None:
        super().__init__()
        self.core, self.features = kind(features_in, hidden), hidden

    def forward(self, window: Tensor, valid: Tensor) -> Tensor:
        """`[N, L, D]`, `[N, L]` bool to `[N, H]`."""
        N, L, D = window.shape
        count = valid.sum(1)
        # Valid entries come first, so that the zero state is the first one's and no step is lost.
        order = (torch.arange(L, device=window.device) + (L - count).unsqueeze(1)).clamp(max=L - 1)
        steps = window.gather(1, order.unsqueeze(-1).expand(N, L, D)).transpose(0, 1)
        out = self.core.from_zero(steps)
        last = (count - 1).view(1, N, 1).expand(1, N, self.features)
        return out.gather(0, last)[0]


class Attention(nn.Module):
    """One block of attention (Vaswani et al. 2017, arXiv:1706.03762), queried by the current entry.

    Positions count back from the current entry; invalid entries get no weight.
    """

    def __init__(self, features_in: int, hidden: int, length: int) -> None:
        super().__init__()
        self.features = hidden
        self.heads = max(h for h in (4, 2, 1) if hidden % h == 0)
        self.embed = nn.Linear(features_in, hidden)
        self.position = nn.Parameter(torch.randn(length, hidden) / math.sqrt(hidden))
        self.norm, self.norm_out = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.query = nn.Linear(hidden, hidden)
        self.key_value = nn.Linear(hidden, 2 * hidden)
        self.merge = nn.Linear(hidden, hidden)
        self.mlp = nn.Sequential(nn.Linear(hidden, 2 * hidden), nn.GELU(),
                                 nn.Linear(2 * hidden, hidden))  # fmt: skip

    def forward(self, window: Tensor, valid: Tensor) -> Tensor:
        """`[N, L, D]`, `[N, L]` bool to `[N, H]`."""
        N, L, _ = window.shape
        entry = self.embed(window)
        read = self.norm(entry + self.position)
        shape = (N, L, self.heads, self.features // self.heads)
        key, value = (x.view(shape).transpose(1, 2) for x in self.key_value(read).chunk(2, -1))
        query = self.query(read[:, -1:]).view(N, 1, *shape[2:]).transpose(1, 2)
        found = F.scaled_dot_product_attention(query, key, value, attn_mask=valid[:, None, None])
        x = entry[:, -1] + self.merge(found.transpose(1, 2).reshape(N, self.features))
        out: Tensor = x + self.mlp(self.norm_out(x))
        return out


SUMMARIES = {
    "stack": Stack,
    "lstm": lambda features_in, hidden, length: RecurrentSummary(LSTM, features_in, hidden),
    "gru": lambda features_in, hidden, length: RecurrentSummary(GRU, features_in, hidden),
    "attention": Attention,
}
