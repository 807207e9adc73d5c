"""The gated delta rule: a matrix that is written and overwritten by key, chunk by chunk."""

import torch
from torch import Tensor

CHUNK = 32
"""Number of steps computed at once; the state passes from chunk to chunk."""


def _sums(log_decay: Tensor) -> Tensor:
    """`[..., K]` to `[..., K, K]`: entry (t, s) is the sum over (s, t].

    Each column is summed separately. Differences of one running sum would be cheaper, but they
    carry rounding errors of one episode into the next.
    """
    K = log_decay.shape[-1]
    return _running(log_decay.unsqueeze(-1).expand(*log_decay.shape, K).tril(-1))


def _running(x: Tensor) -> Tensor:
    """`[..., K, N]` sums over the rows so far, computed as a product, since `cumsum` of floats does
    not give the same bits each time on CUDA."""
    K = x.shape[-2]
    return torch.ones(K, K, dtype=x.dtype, device=x.device).tril() @ x


def gated_delta(
    *,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    log_decay: Tensor,
    rate: Tensor,
    reset: Tensor,
    initial: Tensor,
) -> tuple[Tensor, Tensor]:
    """A matrix that maps keys to values, corrected towards each new pair and read by a query.

    S_t = a_t S_{t-1} + b_t k_t (v_t - a_t S_{t-1}^T k_t)^T,  y_t = S_t^T q_t
    with S_{t-1} = 0 where reset[t]                (Yang et al. 2024, arXiv:2412.06464)

    Inside a chunk the corrections u_t solve one triangular system. Runs in float32 or wider.

    Args:
        query: q, `[T, B, G, E]` for G heads.
        key: k, `[T, B, G, E]`, of length at most 1.
        value: v, `[T, B, G, V]`
        log_decay: log a, `[T, B, G]`, at most 0.
        rate: b, `[T, B, G]` in [0, 1].
        reset: `[T, B]` bool, true at the first step of an episode.
        initial: S before the first step, `[B, G, E, V]`.
    Returns:
        y `[T, B, G, V]`, and S after the last step.
    """
    kind = torch.promote_types(query.dtype, torch.float32)
    query, key, value, log_decay, rate, state = (
        x.to(kind) for x in (query, key, value, log_decay, rate, initial)
    )
    with torch.autocast(query.device.type, enabled=False):
        if len(query) == 1:
            return _step(query[0], key[0], value[0], log_decay[0], rate[0], reset[0], state)
        outs = []
        for first in range(0, len(query), CHUNK):
            steps = slice(first, first + CHUNK)
            out, state = _chunk(
                query[steps], key[steps], value[steps], log_decay[steps], rate[steps], reset[steps],
                state,
            )  # fmt: skip
            outs.append(out)
        return torch.cat(outs), state


def _step(
    query: Tensor, key: Tensor, value: Tensor, log_decay: Tensor, rate: Tensor, reset: Tensor,
    state: Tensor,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """One step; arguments `[B, G, ...]`."""
    state = state.masked_fill(reset.view(-1, 1, 1, 1), 0.0) * log_decay.exp()[..., None, None]
    correction = rate.unsqueeze(-1) * (value - (key.unsqueeze(-2) @ state).squeeze(-2))
    state = state + key.unsqueeze(-1) * correction.unsqueeze(-2)
    return (query.unsqueeze(-2) @ state).squeeze(-2).unsqueeze(0), state


def _chunk(
    query: Tensor, key: Tensor, value: Tensor, log_decay: Tensor, rate: Tensor, reset: Tensor,
    state: Tensor,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """K steps at once."""
    q, k, v = (x.permute(1, 2, 0, 3) for x in (query, key, value))  # [B, G, K, E]
    beta = rate.permute(1, 2, 0).unsqueeze(-1)
    episode = reset.cumsum(0).T.unsqueeze(1)  # [B, 1, K]
    within = log_decay.masked_fill(reset.unsqueeze(-1), 0.0).permute(1, 2, 0)  # [B, G, K]
    same = (episode.unsqueeze(-1) == episode.unsqueeze(-2)).tril()
    decay = _sums(within).masked_fill(~same, -torch.inf).exp()  # [B, G, K, K]
    reach = _running(within.unsqueeze(-1)).exp().masked_fill(episode.unsqueeze(-1) > 0, 0.0)
    system = ((k @ k.mT) * decay * beta).tril(-1)
    wanted = beta * (v - reach * (k @ state))
    # `unitriangular` takes the diagonal as ones.
    correction = torch.linalg.solve_triangular(system, wanted, upper=False, unitriangular=True)
    out = ((q @ k.mT) * decay) @ correction + reach * (q @ state)
    last = decay[..., -1, :].unsqueeze(-1)
    state = reach[..., -1:, :] * state + (k * last).mT @ correction
    return out.permute(2, 0, 1, 3), state
