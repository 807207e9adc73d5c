"""Attention over the last steps of an episode, in blocks: T L scores, not T squared."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def _blocks(x: Tensor, count: int, size: int, length: int) -> Tensor:
    """`[size * count + length - 1, B, ...]` as overlapping blocks `[count, size + length - 1, B,
    ...]`, block c beginning at row `c size`."""
    moved = x.unfold(0, size + length - 1, size)  # [C, B, ..., S]
    return moved.movedim(-1, 1)


def _by_distance(bias: Tensor, size: int) -> Tensor:
    """`[G, L]` by distance as `[G, size, size + L - 1]`: entry (i, j) is that of the distance
    i + L - 1 - j where there is one, and arbitrary elsewhere."""
    G, L = bias.shape
    keys = size + L - 1
    width = keys + size
    row = F.pad(bias.flip(1), (0, width - L))
    # Rows of `width`, read with one entry fewer a row, move one place to the right each.
    turned = row.unsqueeze(1).expand(G, size, width).reshape(G, size * width)
    return turned[:, : size * (width - 1)].reshape(G, size, width - 1)[..., :keys]


def banded_attention(
    *, query: Tensor, key: Tensor, value: Tensor, episode: Tensor, bias: Tensor
) -> Tensor:
    """Each step asks itself and the L - 1 steps before it, as far as they are in its episode.

    y_t = sum_d p_td v_{t-d},  p_t = softmax_d(q_t k_{t-d} / sqrt(E) + b_d)  over d < L for which
    episode[t - d] = episode[t]                        (Vaswani et al. 2017, arXiv:1706.03762)

    Args:
        query: `[T, B, G, E]` of G heads.
        key: `[L - 1 + T, B, G, E]`, the L - 1 steps before the first in front.
        value: `[L - 1 + T, B, G, E]`
        episode: `[L - 1 + T, B]` int, the number of each step's episode.
        bias: b, `[G, L]` by distance d.
    Returns:
        y, `[T, B, G, E]`
    """
    T, B, G, E = query.shape
    L = bias.shape[1]
    size = min(T, L)
    count = -(-T // size)
    if pad := count * size - T:  # steps behind the last, of no episode that is asked about
        query = F.pad(query, (0, 0, 0, 0, 0, 0, 0, pad))
        key, value = (F.pad(x, (0, 0, 0, 0, 0, 0, 0, pad)) for x in (key, value))
        episode = F.pad(episode, (0, 0, 0, pad), value=-2)
    keys = size + L - 1

    def heads(x: Tensor, rows: int) -> Tensor:
        """`[C, S, B, G, E]` to `[C B, G, S, E]`."""
        return x.permute(0, 2, 3, 1, 4).reshape(count * B, G, rows, E)

    q = heads(query.reshape(count, size, B, G, E), size) / math.sqrt(E)
    k, v = (heads(_blocks(x, count, size, L), keys) for x in (key, value))
    asked = episode[L - 1 :].reshape(count, size, B).permute(0, 2, 1).reshape(-1, size, 1)
    found = _blocks(episode, count, size, L).permute(0, 2, 1).reshape(-1, 1, keys)
    step = torch.arange(size, device=query.device).unsqueeze(1) + L - 1
    distance = step - torch.arange(keys, device=query.device)
    hidden = (asked != found) | ((distance < 0) | (distance >= L))  # [C B, S, keys]
    score = q @ k.mT + _by_distance(bias, size)
    weight = score.masked_fill(hidden.unsqueeze(1), -torch.inf).softmax(-1)
    out = (weight @ v).reshape(count, B, G, size, E).permute(0, 3, 1, 2, 4)
    return out.reshape(count * size, B, G, E)[:T]
