"""Invariants of on-policy agents: training sees exactly what acted."""

from typing import Any

import torch
from torch import Tensor

from retain.data.rollout import Rollout
from retain.doctor.report import Result, bootstrap_result, judged
from retain.doctor.variants import CLOSE, observations, on_clock, variant
from retain.train.on_policy import OnPolicyAgent
from retain.types import tree_leaves, tree_map

SAMPLES = 16_384
"""Number of actions from which a Monte-Carlo gradient is estimated."""


def _parity(agent: OnPolicyAgent) -> Result:
    still = variant(agent, learning_rate=0.0)
    what = still.update.GAP
    worst = max(still.iterate(lambda: 0.0)[f"max_{what}"] for _ in range(3))
    return judged(
        "acting and training agree", worst < CLOSE,
        f"largest |{what.replace('_', ' ')}| {worst:.1e} at rate 0",
        "Training evaluates another policy than the one that acted: a state not cleared, a stale "
        "carry, shuffled time, a drifting normaliser, or a transformed action.",
        "Compare what the policy reads in both (observation, carry, reset, previous action).",
    )  # fmt: skip


def _again(agent: OnPolicyAgent, rollout: Rollout) -> tuple[Tensor, Tensor]:
    """Recomputes a segment's log-probabilities and values in one forward from its first carry."""
    with torch.no_grad():
        dist, value, _ = agent.policy(
            agent.policy.prepare(rollout.obs), rollout.carries[0], rollout.reset,
            rollout.previous_action, rollout.previous_reward,
        )  # fmt: skip
        return dist.log_prob(rollout.action), value


def _segment_again(agent: OnPolicyAgent) -> Result:
    still = variant(agent)
    still.collector.collect(32)
    rollout = still.collector.collect(32)
    log_prob, value = _again(still, rollout)
    gaps = (log_prob - rollout.log_prob).abs().max(), (value - rollout.value).abs().max()
    scale = 1.0 + float(value.abs().max())
    return judged(
        "a stored segment comes out the same again",
        float(gaps[0]) < CLOSE and float(gaps[1]) < CLOSE * scale,
        f"log-probabilities {gaps[0]:.1e}, values {gaps[1]:.1e}",
        "The stored actions, observations and first carry do not reproduce what acting computed.",
        "Store the sampled action, not the clipped or squashed one, and copies of observations.",
    )  # fmt: skip


def _carried_on(agent: OnPolicyAgent) -> Result:
    still = variant(agent)
    first, second = still.collector.collect(32), still.collector.collect(32)
    pairs = zip(tree_leaves(first.carry_out), tree_leaves(second.carries[0]), strict=True)
    gap = max((float((a - b).abs().max()) for a, b in pairs), default=0.0)
    moved = any(bool(leaf.any()) for leaf in tree_leaves(second.carries[0]))
    good = gap == 0 and (moved or not tree_leaves(second.carries[0]))
    return judged(
        "the carry crosses segments", good, f"difference {gap:.1e}",
        "A segment does not begin with the carry that the last one left: everything before it is "
        "forgotten in the middle of episodes.",
        "Keep the carry between segments; clear it only at episode starts.",
    )  # fmt: skip


def _entropy(agent: OnPolicyAgent) -> Result:
    """Compares the entropy bonus' gradient with the score function's, on the last layer."""
    policy, head = variant(agent).policy, "head."
    obs = observations(agent, 1, 1)
    rows = tree_map(lambda x: x.expand(1, SAMPLES, *x.shape[2:]), obs)
    names = [n for n, p in policy.named_parameters() if n.startswith(head) and p.dim() == 1]
    chosen = [dict(policy.named_parameters())[name] for name in names]
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():  # away from where every gradient of an entropy is zero
        for parameter in chosen:
            parameter.add_(0.7 * torch.randn(parameter.shape, generator=generator))
    action = torch.zeros((1, SAMPLES, *policy.event_shape), dtype=policy.action_dtype)
    dist, _, _ = policy(
        policy.prepare(rows), policy.initial_carry(SAMPLES), torch.ones(1, SAMPLES).bool(),
        action, torch.zeros(1, SAMPLES),
    )  # fmt: skip
    ours = torch.autograd.grad(dist.entropy(generator).mean(), chosen, retain_graph=True,
                               allow_unused=True)  # fmt: skip
    with torch.no_grad():
        action = dist.sample(generator)
    log_prob = dist.log_prob(action)
    centred = log_prob.detach() - log_prob.detach().mean()
    theirs = torch.autograd.grad(-(centred * log_prob).mean(), chosen, allow_unused=True)

    def flat(parts: Any) -> Tensor:
        return torch.cat([
            torch.zeros_like(p).flatten() if g is None else g.flatten()
            for g, p in zip(parts, chosen, strict=True)
        ])  # fmt: skip

    one, two = flat(ours), flat(theirs)
    gap, size = float((one - two).norm()), float(two.norm())
    return judged(
        "the entropy's gradient", gap < 0.15 * size + 0.03,
        f"bonus {float(one.norm()):.3f}, Monte Carlo {size:.3f}, apart {gap:.3f}",
        "The entropy bonus pushes in another direction than the entropy's gradient.",
        "Analytic where there is a closed form, else reparameterised or by the score function; "
        "never -log_prob of stored actions.",
    )  # fmt: skip


def _bootstrap(agent: OnPolicyAgent) -> Result:
    return bootstrap_result(bootstrap_gap(agent))


@torch.no_grad()
def bootstrap_gap(agent: OnPolicyAgent) -> float:
    """The gap to a step loop over single environments, and to the advantage's own equation."""
    here = on_clock(agent, normalise_reward=False)
    rollout = here.collector.collect(32)
    policy, stream = here.policy, here.collector.streams[0]
    worst, T = 0.0, 32
    carry = rollout.carries[0]
    previous = rollout.previous_action, rollout.previous_reward
    for t in range(T):
        rows = [None if x is None else x[t : t + 1] for x in previous]
        prepared = tree_map(lambda x, t=t: x[t : t + 1], policy.prepare(rollout.obs))
        _, _, carry = policy(prepared, carry, rollout.reset[t : t + 1], *rows)
        if not rollout.truncated[t].any() and t < T - 1:
            continue
        assert isinstance(rollout.obs, Tensor)  # the clock's
        final = rollout.obs[t : t + 1].clone()
        final[..., 2] += 0.25  # the clock's own successor
        last = torch.as_tensor(stream.obs).unsqueeze(0) if t == T - 1 else final
        reset = (rollout.terminated | rollout.truncated)[t : t + 1]
        action = rollout.action[t : t + 1]
        _, value, _ = policy(policy.prepare(final), carry, torch.zeros_like(reset), action,
                             rollout.reward[t : t + 1])  # fmt: skip
        cut = rollout.truncated[t]
        if cut.any():
            worst = max(worst, float((value[0] - rollout.next_value[t])[cut].abs().max()))
        open_ = ~(rollout.truncated[t] | rollout.terminated[t])
        if t == T - 1 and open_.any():
            _, value, _ = policy(policy.prepare(last), carry, reset, action,
                                 rollout.reward[t : t + 1])  # fmt: skip
            worst = max(worst, float((value[0] - rollout.next_value[t])[open_].abs().max()))
    return max(worst, _advantage_gap(here, rollout))


def _advantage_gap(agent: OnPolicyAgent, rollout: Rollout) -> float:
    """Compares the training targets with r + gamma V at steps that end an episode."""
    _, target = agent.update.targets(rollout)
    ended = rollout.terminated | rollout.truncated
    follows = torch.where(rollout.terminated, torch.zeros(()), rollout.next_value)
    expected = rollout.reward + agent.config.gamma * follows
    return float((target - expected)[ended].abs().max())


CHECKS = {
    "parity": _parity,
    "segment": _segment_again,
    "carried on": _carried_on,
    "segment's bootstrap": _bootstrap,
    "entropy": _entropy,
}
