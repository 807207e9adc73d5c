"""Invariants of off-policy agents: the replay returns what acted, and losses stay in their
parts."""

import numpy as np
import torch
from torch import Tensor, nn

from retain.data.replay import ACTED, RESET
from retain.doctor.report import Result, bootstrap_result, judged
from retain.doctor.variants import CLOSE, learn_a_little, on_clock, variant
from retain.train.off_policy import OffPolicyAgent
from retain.types import tree_leaves, tree_map

STARTS = "pieces of the replay start where acting was"


def _acted(agent: OffPolicyAgent) -> OffPolicyAgent:
    """A small agent that acted for two turns while its networks and statistics did not change."""
    still = variant(agent, update_ratio=0.0)
    first = {name: x.clone() for name, x in still.policy.state_dict().items()}
    for _ in range(2):
        still.iterate(lambda: 0.0)
        still.policy.load_state_dict(first)  # carries of older statistics would differ rightly
    return still


def _replayed(agent: OffPolicyAgent) -> Result:
    """Compares acting's carry with one unroll over the replay's rows."""
    still = _acted(agent)
    nets, replay, stream = still.policy, still.update.replay, still.collector.stream
    worst = 0.0
    for index in range(still.run_settings.num_envs):
        rows = np.arange(replay.written[index])
        read = replay.read(rows, np.full(len(rows), index))
        acted = ((read["flags"] & ACTED) > 0).nonzero().flatten()
        reset = ((read["flags"] & RESET) > 0)[acted].unsqueeze(1)
        obs = tree_map(lambda x, a=acted: x.transpose(0, 1)[a], still.collector.as_step(read))
        action, reward = (
            read[name].roll(1, 0)[acted].unsqueeze(1) for name in ("action", "reward")
        )
        previous = nets.previous(action, reward, reset)
        with torch.no_grad():
            for torso, first, acting in zip(
                nets.torsos, nets.initial_carry(1), stream.carry, strict=True
            ):
                prepared = nets.prepare(obs)
                after = torso.absorb(prepared, previous, first, reset)
                for a, b in zip(tree_leaves(after), tree_leaves(acting), strict=True):
                    worst = max(worst, float((a[0] - b[index]).abs().max()))
    return judged(
        "acting and the replay agree", worst < CLOSE, f"carries differ by {worst:.1e}",
        "The replayed timeline gives another memory than acting had: rows in the wrong order, a "
        "reset lost, or another previous action or reward.",
        "Compare the replay's rows with what the policy read when it acted.",
    )  # fmt: skip


def _starts(agent: OffPolicyAgent) -> Result:
    """Compares the carries that pieces start from with an unroll from the environments' first
    steps."""
    if agent.policy.receptive_field is not None:
        return Result(STARTS, "ok", "the memory is bounded: its past is rebuilt from the timeline")
    if not agent.config.store_carries:
        return Result(STARTS, "ok", "they start from nothing, as store_carries asks")
    fresh = _acted(agent)
    update, replay = fresh.update, fresh.update.replay
    batch = update.batch(0.0)
    worst, moved = 0.0, 0.0
    for n, slot in enumerate(batch.sample.slot[:8]):
        first, index = int(slot) // replay.num_envs * replay.stride, int(slot) % replay.num_envs
        given = [leaf[n] for leaf in tree_leaves(batch.carries[0])]
        wanted = _carry_at(fresh, index, first)
        worst = max([worst, *(float((a - b).abs().max()) for a, b in
                              zip(given, wanted, strict=True))])  # fmt: skip
        moved = max([moved, *(float(leaf.abs().max()) for leaf in wanted)])
    return judged(
        STARTS, worst < CLOSE and moved > 0,
        f"carries differ by {worst:.1e} where acting had up to {moved:.1e}",
        "Pieces of the replay start from a carry that acting never had there: the memory is "
        "trained on pasts that are cut off.",
        "Store the carry where receptive_field is None; ask no memory for its name.",
    )  # fmt: skip


@torch.no_grad()
def _carry_at(agent: OffPolicyAgent, index: int, row: int) -> list[Tensor]:
    """The leaves of the critic's carry before a row, by one unroll from the first row on."""
    replay, nets = agent.update.replay, agent.policy
    rows = np.arange(row)
    first = nets.initial_carry(1)[0]
    if not row:
        return [leaf[0] for leaf in tree_leaves(first)]
    read = replay.read(rows, np.full(row, index))
    acted = ((read["flags"] & ACTED) > 0).nonzero().flatten()
    reset = ((read["flags"] & RESET) > 0)[acted].unsqueeze(1)
    obs = tree_map(lambda x: x.transpose(0, 1)[acted], agent.collector.as_step(read))
    action, reward = (read[name].roll(1, 0)[acted].unsqueeze(1) for name in ("action", "reward"))
    previous = nets.previous(action, reward, reset)
    after = nets.torsos[0].absorb(nets.prepare(obs), previous, first, reset)
    return [leaf[0] for leaf in tree_leaves(after)]


def _actor_alone(agent: OffPolicyAgent) -> Result:
    fresh = variant(agent)
    learn_a_little(fresh)
    update, nets = fresh.update, fresh.policy
    nets.zero_grad(set_to_none=True)
    batch = update.batch(0.0)
    loss, _ = update.actor_loss(batch, update.actor_features(batch))
    loss.backward()  # type: ignore[no-untyped-call]
    assert nets.actor is not None
    leaked = sum(float(p.grad.abs().sum()) for p in nets.critic.parameters() if p.grad is not None)
    mine = sum(float(p.grad.abs().sum()) for p in nets.actor.parameters() if p.grad is not None)
    return judged(
        "the actor's gradient stays with the actor", leaked == 0 and mine > 0,
        f"into the critic {leaked:.1e}, into the actor {mine:.1e}",
        "The actor's loss moves the critic (or its memory), or does not reach the actor.",
        "Hold the critic's parameters fixed in the actor's loss; give the actor features without "
        "gradient where the critic owns the memory.",
    )  # fmt: skip


def _targets(agent: OffPolicyAgent) -> Result:
    """Checks that target networks are copies, including the memory, and move by tau towards the
    online networks."""
    fresh = variant(agent, tau=0.25, update_ratio=0.0)
    learn_a_little(fresh)
    nets, update = fresh.policy, fresh.update
    pairs: list[tuple[nn.Module, nn.Module]] = [(nets.critic, nets.target_critic)]
    if nets.actor is not None and nets.target_actor is not None:
        pairs.append((nets.actor, nets.target_actor))
    shared = sum(
        p.data_ptr() == q.data_ptr()
        for online, slow in pairs
        for p, q in zip(online.parameters(), slow.parameters(), strict=True)
    )
    live = sum(q.requires_grad for _, slow in pairs for q in slow.parameters())
    before = [[q.detach().clone() for q in slow.parameters()] for _, slow in pairs]
    update.update(0.0)
    with torch.no_grad():
        gap = max(
            float((q - (old + 0.25 * (p - old))).abs().max())
            for (online, slow), kept in zip(pairs, before, strict=True)
            for p, q, old in zip(online.parameters(), slow.parameters(), kept, strict=True)
        )
    return judged(
        "targets are slow copies", shared == 0 and live == 0 and gap < 1e-5,
        f"{shared} shared with the online networks, {live} with gradient, off by {gap:.1e}",
        "A target moves together with its own network: values chase themselves.",
        "Copy all that a value depends on, with the memory, and let a share tau flow after each "
        "update.",
    )  # fmt: skip


def _bootstrap(agent: OffPolicyAgent) -> Result:
    """Checks the targets of transitions that end an episode, with the clock as every successor's
    value."""
    here = on_clock(agent, n_step=1, update_ratio=0.0)
    for _ in range(3):
        here.iterate(lambda: 0.0)
    update, worst = here.update, 0.0
    for _ in range(8):
        batch = update.batch(0.0)
        assert isinstance(batch.obs, Tensor)  # the clock's
        rows = slice(batch.before, batch.before + batch.length)
        target = update.bootstrapped(batch, batch.obs[batch.before + 1 :][..., 2] + 1.0)
        clock = batch.obs[rows][..., 2] + 0.25
        follows = torch.where(batch.sample.terminated[rows], torch.zeros(()), clock + 1.0)
        gap = (target - (1.0 + here.config.gamma * follows)).abs()
        worst = max(worst, float(gap[batch.sample.acted[rows]].max()))
    return bootstrap_result(worst)


CHECKS = {
    "replay": _replayed,
    "starts": _starts,
    "actor alone": _actor_alone,
    "targets": _targets,
    "replay's bootstrap": _bootstrap,
}
