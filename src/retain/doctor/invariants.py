"""Checks the invariants of an agent that learning depends on. Almost nothing is trained here."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from retain.doctor import off_policy, on_policy
from retain.doctor.report import Result, guarded, judged
from retain.doctor.variants import CLOSE, learn_a_little, observations, variant
from retain.train.agent import Agent
from retain.train.loading import load
from retain.types import Obs, tree_map

CHECKS: dict[str, Callable[[Any], Result]] = {**on_policy.CHECKS, **off_policy.CHECKS}
"""Checks that an algorithm can name in `Update.checks`, for agents of its own kind."""


def agent_results(agent: Agent) -> Iterator[Result]:
    """The results of every invariant that applies to the agent; the agent stays unchanged."""
    checks: list[Callable[[Any], Result | Iterator[Result]]] = []
    checks += [CHECKS[name] for name in agent.update.checks]
    checks += [_perturbed, _memory_learns, _owned, _evaluation, _round_trip]
    checks += [_normaliser] if agent.config.normalise_obs else []
    for check in checks:
        yield from guarded(check, agent)


@torch.no_grad()
def _perturbed(agent: Agent) -> Iterator[Result]:
    """Runs the whole network on a stream of two episodes, and again with parts of it changed."""
    T, B = 12, 4
    still = variant(agent)
    policy = still.policy
    obs = observations(still, T, 2 * B)
    first = tree_map(lambda x: x[:, :B].clone(), obs)
    second = tree_map(lambda x: x[:, B:].clone(), obs)
    reset = torch.zeros(T, B, dtype=torch.bool)
    reset[0] = reset[6] = True
    action = torch.zeros((T, B, *policy.event_shape), dtype=policy.action_dtype)
    reward = torch.zeros(T, B)

    def outputs(stream: Obs, action: Tensor = action, reward: Tensor = reward) -> Tensor:
        out: Tensor = still.update.outputs(policy.prepare(stream), reset, action, reward)
        return out

    before = outputs(first)

    mixed = tree_map(lambda a, b: torch.cat((b[:6], a[6:])), first, second)
    turned, paid = action.clone(), reward.clone()
    turned[:6] += 1 if turned.dtype != torch.float32 else 0.5  # previous ones of rows 0 to 5
    paid[:7] += 5.0  # and of row 6, which a reset must drop
    turned[6] = turned[5]
    gap = float((before - outputs(mixed, turned, paid))[6:].abs().max())
    yield judged(
        "an episode ends at its reset", gap == 0,
        f"another first episode changes the second by {gap:.1e}",
        "The second episode still knows the first: its observations, its last action or reward.",
        "Clear the carry, the previous action and the previous reward where reset is true.",
    )  # fmt: skip

    future = tree_map(lambda a, b: torch.cat((a[:9], b[9:])), first, second)
    gap = float((before - outputs(future))[:9].abs().max())
    yield judged(
        "nothing looks ahead", gap == 0, f"another future changes the past by {gap:.1e}",
        "An output depends on observations that have not been made yet.",
        "Mask what comes later; no statistics over time.",
    )  # fmt: skip

    neighbours = tree_map(lambda a, b: torch.cat((a[:, :1], b[:, 1:]), dim=1), first, second)
    gap = float((before - outputs(neighbours))[:, 0].abs().max())
    yield judged(
        "environments do not mix", gap < CLOSE,
        f"other environments change one by {gap:.1e}",
        "A row of the batch depends on the others: batch statistics, or a view for a transpose.",
        "Normalise over features or running statistics, never over the batch.",
    )  # fmt: skip


def _memory_learns(agent: Agent) -> Result:
    """Measures the gradient that the algorithm's own loss sends into the memory in one update."""
    fresh = variant(agent)
    memories = [t.memory for t in fresh.policy.torsos]
    own = [p for memory in memories for p in memory.parameters()]
    if not agent.policy.recurrent or not own:
        return Result("the loss reaches the memory", "ok", "nothing to learn in it")
    before = [p.detach().clone() for p in own]
    learn_a_little(fresh)
    moved = sum(not torch.equal(a, b.detach()) for a, b in zip(before, own, strict=True))
    return judged(
        "the loss reaches the memory", moved == len(own),
        f"{moved} of {len(own)} memory parameters moved",
        "The memory keeps its initial values: its output is detached, or no optimizer steps it.",
        "Let the loss that owns the memory go through it; check what the optimizer was given.",
    )  # fmt: skip


def _owned(agent: Agent) -> Result:
    fresh = variant(agent)
    trained = {n: p for n, p in fresh.policy.named_parameters() if p.requires_grad}
    before = {n: p.detach().clone() for n, p in trained.items()}
    optimizers = list(fresh.update.optimizers.values())
    lists = [[p for g in o.param_groups for p in g["params"]] for o in optimizers]
    owners = {n: sum(any(p is q for q in given) for given in lists) for n, p in trained.items()}
    wrong = [n for n in trained if owners[n] != 1]
    learn_a_little(fresh)
    still = [n for n in trained if torch.equal(before[n], trained[n].detach())]
    steps = {
        int(slot["step"].item()) for optimizer in optimizers for slot in optimizer.state.values()
    }
    most = fresh.update.gradient_steps
    doubled = max(steps, default=0) > most
    bad = [f"{n} has {owners[n]} owners" for n in wrong] + [f"{n} never moved" for n in still]
    bad += [f"{max(steps)} optimizer steps in {most} updates"] if doubled else []
    return judged(
        "each parameter has one owner and moves", not bad,
        "; ".join(bad[:3]) or f"{len(trained)} parameters, {most} updates",
        "A parameter is stepped twice per update, or never.",
        "Give every parameter to exactly one optimizer, and step each once per update.",
    )  # fmt: skip


def _snapshot(agent: Agent) -> list[Tensor]:
    tensors, _ = agent.collector.state()
    learner, _ = agent.learner_state()
    everything = [*tensors.values(), *learner.values(), *agent.policy.state_dict().values()]
    generators = [agent.act_generator.get_state(), torch.get_rng_state()]
    return [x.detach().clone() for x in everything] + generators


def _evaluation(agent: Agent) -> Result:
    fresh = variant(agent, time_limit=50)
    fresh.iterate(lambda: 0.0)
    before = _snapshot(fresh)
    training = fresh.policy.training
    fresh.evaluate(2)
    pairs = zip(before, _snapshot(fresh), strict=True)
    changed = sum(not torch.equal(a, b) for a, b in pairs) + (training != fresh.policy.training)
    return judged(
        "evaluation leaves training untouched", changed == 0, f"{changed} tensors changed",
        "A run with evaluations learns something other than one without.",
        "Evaluate with separate environments, carries and generators; restore the mode.",
    )  # fmt: skip


def _round_trip(agent: Agent) -> Result:
    fresh = variant(agent)
    fresh.iterate(lambda: 0.0)
    with tempfile.TemporaryDirectory() as folder:
        fresh.save(Path(folder) / "agent")
        again = load(Path(folder) / "agent", env=fresh.env)
        fresh.iterate(lambda: 0.0)
        again.iterate(lambda: 0.0)
    state, other = fresh.policy.state_dict(), again.policy.state_dict()
    differs = [name for name in state if not torch.equal(state[name], other[name])]
    return judged(
        "a checkpoint restores everything", not differs,
        "the next update is bit-identical" if not differs else f"{differs[0]} differs after it",
        "A resumed run learns something other than one that never stopped.",
        "Save what the next update reads: optimizers, generators, statistics, carries, episodes.",
    )  # fmt: skip


def _normaliser(agent: Agent) -> Result:
    fresh = variant(agent, learning_rate=0.0)
    normaliser = fresh.policy.normaliser
    assert normaliser is not None
    seen: list[list[Tensor]] = []

    def keep(module: nn.Module, *_: Any) -> None:
        seen.append([x.clone() for x in normaliser.state_dict().values()])

    fresh.iterate(lambda: 0.0)
    handle = normaliser.register_forward_pre_hook(keep)
    fresh.iterate(lambda: 0.0)
    handle.remove()
    drifted = sum(
        any(not torch.equal(a, b) for a, b in zip(seen[0], other, strict=True)) for other in seen
    )
    after = list(normaliser.state_dict().values())
    moved = any(not torch.equal(a, b) for a, b in zip(seen[0], after, strict=True))
    return judged(
        "the normaliser stands still in between", drifted == 0 and moved,
        f"{drifted} of {len(seen)} uses saw other statistics",
        "Acting and training normalise differently, or the statistics never move.",
        "Update the statistics once, after the update on a segment.",
    )  # fmt: skip
