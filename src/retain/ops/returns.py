"""Advantages and value targets. Time-major `[T, B]`; two masks, never one.

`terminated` stops the bootstrap: no value follows the end of a task. `terminated | truncated` stops
the trace: the next step belongs to another episode. `next_value[t]` is the value of the true
successor of step t, so at a truncation it is V(final_obs), not V of the next reset.
"""

import torch
from torch import Tensor


def _bootstrap(next_value: Tensor, terminated: Tensor) -> Tensor:
    """`next_value`, but exactly 0 where terminated, whatever was stored there (even NaN)."""
    return next_value.masked_fill(terminated, 0.0)


def _backward_sum(term: Tensor, decay: Tensor) -> Tensor:
    """x_t = term_t + decay_t x_{t+1} with x_T = 0; both `[T, B]`."""
    last = torch.zeros_like(term[0])
    out = []
    for term_t, decay_t in zip(reversed(term.unbind(0)), reversed(decay.unbind(0)), strict=True):
        last = torch.addcmul(term_t, decay_t, last)
        out.append(last)
    out.reverse()
    return torch.stack(out)


def gae(
    *,
    reward: Tensor,
    value: Tensor,
    next_value: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    gamma: float,
    lam: float,
) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimates.

    delta_t = r_t + gamma (1 - terminated_t) V(s_{t+1}) - V(s_t)
    A_t = delta_t + gamma lam (1 - boundary_t) A_{t+1}      (Schulman et al. 2015, arXiv:1506.02438)

    Args:
        reward: [T, B] received after action[t].
        value: [T, B] V(obs[t]).
        next_value: [T, B] V of the true successor, which is final_obs where truncated. Ignored
            where terminated.
        terminated: [T, B] bool.
        truncated: [T, B] bool.
        gamma: discount.
        lam: trace decay; 0 gives one-step errors, 1 gives discounted returns minus the value.
    Returns:
        advantage [T, B] and target [T, B] = advantage + value. They carry the gradient of the
        values; pass values without one.
    """
    delta = reward + gamma * _bootstrap(next_value, terminated) - value
    decay = (gamma * lam) * (~(terminated | truncated)).to(reward.dtype)
    advantage = _backward_sum(delta, decay)
    return advantage, advantage + value


def lambda_return(
    *,
    reward: Tensor,
    next_value: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    gamma: float,
    lam: float,
) -> Tensor:
    """lambda-returns that bootstrap from given values of the successors.

    G_t = r_t + gamma [(1 - lam) V(s_{t+1}) + lam G_{t+1}]

    (Sutton and Barto 2018, eq. 12.18). G_t = r_t + gamma V(s_{t+1}) where step t ends the segment
    or is truncated, and G_t = r_t where it terminates. With V = max_a Q this is Peng's Q(lambda),
    the target of PQN (Gallici et al. 2024, arXiv:2407.04811).

    Args:
        reward: [T, B] received after action[t].
        next_value: [T, B] value of the true successor, which is final_obs where truncated.
        terminated: [T, B] bool.
        truncated: [T, B] bool.
        gamma: discount.
        lam: 0 gives one-step targets, 1 the discounted return.
    Returns:
        [T, B] targets.
    """
    successor = _bootstrap(next_value, terminated)
    goes_on = (~(terminated | truncated)).to(reward.dtype)
    goes_on[-1] = 0.0
    decay = (gamma * lam) * goes_on
    return _backward_sum(reward + (gamma - decay) * successor, decay)


def n_step_return(
    *,
    reward: Tensor,
    next_value: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    gamma: float,
    n: int,
) -> Tensor:
    """n-step targets: n rewards, then the value of the state that follows.

    G_t = sum_{k<m} gamma^k r_{t+k} + gamma^m (1 - terminated_{t+m-1}) V(s_{t+m})

    (Sutton and Barto 2018, eq. 7.1) where m is n, or fewer where the episode or the segment ends.

    Args:
        reward: [T, B] received after action[t].
        next_value: [T, B] V of the true successor of step t.
        terminated: [T, B] bool.
        truncated: [T, B] bool.
        gamma: discount.
        n: rewards to sum, at least 1.
    Returns:
        [T, B] targets.
    Raises:
        ValueError: n is below 1.
    """
    if n < 1:
        raise ValueError(f"n is {n} (expected at least 1)")
    T = reward.shape[0]
    boundary = terminated | truncated
    one_step = reward + gamma * _bootstrap(next_value, terminated)
    target = one_step
    for _ in range(min(n, T) - 1):
        # One more reward in front of the shorter target of the next step, where it is the same
        # episode and segment.
        longer = reward[:-1] + gamma * target[1:]
        target = torch.cat((torch.where(boundary[:-1], one_step[:-1], longer), one_step[-1:]))
    return target


def vtrace(
    *,
    log_prob: Tensor,
    behaviour_log_prob: Tensor,
    reward: Tensor,
    value: Tensor,
    next_value: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    gamma: float,
    lam: float = 1.0,
    rho_clip: float = 1.0,
    c_clip: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """V-trace targets and policy advantages for data from another policy.

    rho_t = min(rho_clip, pi/mu),  c_t = lam min(c_clip, pi/mu)
    delta_t = rho_t (r_t + gamma V(s_{t+1}) - V(s_t))
    v_t - V(s_t) = delta_t + gamma c_t (v_{t+1} - V(s_{t+1}))
    A_t = rho_t (r_t + gamma v_{t+1} - V(s_t))             (Espeholt et al. 2018, arXiv:1802.01561)

    with both masks: nothing follows a termination, and at any boundary v_{t+1} is V(s_{t+1}).

    Args:
        log_prob: [T, B] log probability of the stored actions under the current policy.
        behaviour_log_prob: [T, B] log probability under the policy that acted.
        reward, value, next_value, terminated, truncated: [T, B], see `gae`.
    Returns:
        target [T, B] and advantage [T, B], without gradient.
    """
    with torch.no_grad():
        ratio = torch.exp(log_prob - behaviour_log_prob)
        rho = ratio.clamp(max=rho_clip)
        boundary = terminated | truncated
        successor = _bootstrap(next_value, terminated)
        delta = rho * (reward + gamma * successor - value)
        decay = (gamma * lam) * ratio.clamp(max=c_clip) * (~boundary).to(reward.dtype)
        correction = _backward_sum(delta, decay)
        target = value + correction
        # The successor's own target, where it is in the segment and in the episode.
        inside = torch.cat((correction[1:], torch.zeros_like(correction[:1])))
        next_target = successor + inside.masked_fill(boundary, 0.0)
        advantage = rho * (reward + gamma * next_target - value)
    return target, advantage


def discounted_sum(
    *, reward: Tensor, boundary: Tensor, initial: Tensor, gamma: float
) -> tuple[Tensor, Tensor]:
    """The running discounted return that reward scaling uses (not a value target).

    R_t = gamma R_{t-1} (1 - boundary_{t-1}) + r_t

    Args:
        reward: [T, B]
        boundary: [T, B] bool, true where the episode ended after step t.
        initial: [B] the carry from the last call; zeros at first.
        gamma: discount.
    Returns:
        R [T, B], and the carry [B] for the next segment (0 where its episode just ended).
    """
    running, out = initial, []
    for reward_t, boundary_t in zip(reward.unbind(0), boundary.unbind(0), strict=True):
        running = torch.add(reward_t, running, alpha=gamma)
        out.append(running)
        running = running.masked_fill(boundary_t, 0.0)
    return torch.stack(out), running
