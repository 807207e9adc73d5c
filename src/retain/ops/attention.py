"""Attention over the last steps of an episode, in blocks: T L scores, not T squared."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def _pairs(x: Tensor, size: int) -> Tensor:
    """`[..., (C + 1) size, E]` to `[..., C, 2 size, E]`: each block with the one after it."""
    blocks = x.unflatten(-2, (-1, size))  # type: ignore[no-untyped-call]
    return torch.cat((blocks[..., :-1, :, :], blocks[..., 1:, :, :]), dim=-2)


def _by_distance(bias: Tensor, size: int, keys: int, last: int) -> Tensor:
    """`[G, L]` by distance as `[G, size, keys]`: entry (i, j) is that of the distance i + last - j
    where there is one, and arbitrary elsewhere."""
    G, L = bias.shape
    width = keys + size
    row = F.pad(bias.flip(1), (last - L + 1, width - last - 1))
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
    if T <= L:
        size, count, last = T, 1, L - 1
        keys, front, behind = L - 1 + T, 0, 0
    else:  # blocks of L steps, which see their own block and the one before
        size, count, last = L, -(-T // L), L
        keys, front, behind = 2 * L, 1, count * L - T

    def heads(x: Tensor, front: int) -> Tensor:
        """`[S, B, G, E]` to `[B, G, S, E]`, with rows around that nobody sees."""
        return F.pad(x.permute(1, 2, 0, 3), (0, 0, front, behind)).contiguous()

    def blocks(x: Tensor) -> Tensor:
        return x.unsqueeze(-3) if count == 1 else _pairs(x, L)

    q = heads(query, 0).reshape(-1, size, E) / math.sqrt(E)
    k, v = (blocks(heads(x, front)).reshape(-1, keys, E) for x in (key, value))
    number = F.pad(episode.T, (front, behind), value=-2)
    asked = number[:, front + L - 1 :].reshape(B, count, size, 1)
    found = blocks(number.unsqueeze(-1)).mT  # [B, C, 1, keys]
    step = torch.arange(size, device=query.device).unsqueeze(1) + last
    distance = step - torch.arange(keys, device=query.device)
    hidden = (asked != found) | (distance < 0) | (distance >= L)  # [B, C, size, keys]
    mask = torch.zeros((), dtype=q.dtype, device=q.device).where(~hidden, -torch.inf)
    score = torch.bmm(q, k.mT).view(B, G, count, size, keys)
    score = score + _by_distance(bias, size, keys, last).unsqueeze(1) + mask.unsqueeze(1)
    weight = score.softmax(-1).view(-1, size, keys)
    out = torch.bmm(weight, v).view(B, G, count * size, E)
    return out.permute(2, 0, 1, 3)[:T]
