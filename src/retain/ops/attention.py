"""Attention over the last steps of an episode, in blocks: T L scores, not T squared."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def _blocks(x: Tensor, count: int, front: int, behind: int) -> Tensor:
    """`[S, B, G, E]`, padded in front and behind with rows that no step sees, as `[B, count, G, S /
    count, E]`: blocks of rows for each head."""
    rows = F.pad(x, (0, 0, 0, 0, 0, 0, front, behind))
    return rows.reshape(count, -1, *x.shape[1:]).permute(2, 0, 3, 1, 4).contiguous()


def _pairs(blocks: Tensor) -> Tensor:
    """`[B, C + 1, G, L, E]` to `[B, C, G, 2 L, E]`: each block with the next one."""
    return torch.cat((blocks[:, :-1], blocks[:, 1:]), dim=3)


def _by_distance(bias: Tensor, size: int, keys: int, last: int) -> Tensor:
    """`[G, L]` by distance as `[G, size, keys]`: entry (i, j) is the bias of distance i + last - j
    if there is such a distance, and arbitrary otherwise."""
    G, L = bias.shape
    width = keys + size
    row = F.pad(bias.flip(1), (last - L + 1, width - last - 1))
    # Rows of `width`, read with one entry fewer a row, move one place to the right each.
    turned = row.unsqueeze(1).expand(G, size, width).reshape(G, size * width)
    return turned[:, : size * (width - 1)].reshape(G, size, width - 1)[..., :keys]


def banded_attention(
    *, query: Tensor, key: Tensor, value: Tensor, episode: Tensor, bias: Tensor
) -> Tensor:
    """Each step attends to itself and the L - 1 steps before it that belong to its episode.

    y_t = sum_d p_td v_{t-d},  p_t = softmax_d(q_t k_{t-d} / sqrt(E) + b_d)  over d < L for which
    episode[t - d] = episode[t]                        (Vaswani et al. 2017, arXiv:1706.03762)

    Args:
        query: `[T, B, G, E]` for G heads.
        key: `[L - 1 + T, B, G, E]`, beginning with the L - 1 steps before the first.
        value: `[L - 1 + T, B, G, E]`
        episode: `[L - 1 + T, B]` int, the episode number of each step.
        bias: b, `[G, L]` by distance d.
    Returns:
        y, `[T, B, G, E]`
    """
    T, B, G, E = query.shape
    L = bias.shape[1]
    if T == 1:
        return _step(query, key, value, episode, bias)
    if T <= L:
        size, count, last, front, behind = T, 1, L - 1, 0, 0
    else:  # blocks of L steps, which see their own block and the one before
        size, count, last, front = L, -(-T // L), L, 1
        behind = count * L - T

    def seen(x: Tensor) -> Tensor:
        """`[L - 1 + T, B, G, E]` as the rows that each block may see, `[B, C, G, keys, E]`."""
        return _blocks(x, 1, 0, 0) if count == 1 else _pairs(_blocks(x, count + 1, front, behind))

    q = _blocks(query, count, 0, behind) / math.sqrt(E)  # [B, C, G, size, E]
    k, v = seen(key), seen(value)
    keys = k.shape[3]
    asked = _blocks(episode[L - 1 :].view(T, B, 1, 1), count, 0, behind)
    hidden = asked != seen(episode.view(-1, B, 1, 1)).mT  # [B, C, 1, size, keys]
    step = torch.arange(size, device=query.device).unsqueeze(1) + last
    distance = step - torch.arange(keys, device=query.device)
    hidden = hidden | (distance < 0) | (distance >= L)
    mask = torch.zeros((), dtype=q.dtype, device=q.device).where(~hidden, -torch.inf)
    score = torch.bmm(q.flatten(0, 2), k.flatten(0, 2).mT).view(B, count, G, size, keys)
    score = score + _by_distance(bias, size, keys, last) + mask
    weight = score.softmax(-1).view(-1, size, keys)
    out = torch.bmm(weight, v.flatten(0, 2)).view(B, count, G, size, E)
    return out.permute(1, 3, 0, 2, 4).reshape(count * size, B, G, E)[:T]


def _step(query: Tensor, key: Tensor, value: Tensor, episode: Tensor, bias: Tensor) -> Tensor:
    """One step: all rows are within its reach."""
    k, v = key.permute(1, 2, 0, 3), value.permute(1, 2, 0, 3)  # [B, G, L, E]
    q = query[0].unsqueeze(2) / math.sqrt(query.shape[-1])
    hidden = (episode != episode[-1]).T[:, None, None]  # [B, 1, 1, L]
    score = q @ k.mT + bias.flip(1).unsqueeze(1)
    weight = score.masked_fill(hidden, -torch.inf).softmax(-1)
    return (weight @ v).permute(2, 0, 1, 3)
