"""Does an agent keep the invariants that learning rests on? Almost nothing is learned here."""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn

from retain.doctor.report import Result, guarded, judged
from retain.envs.make import EnvLike
from retain.train.agent import Agent
from retain.train.agents import AGENTS, PPO, OffPolicyAgent, load
from retain.types import Obs, tree_leaves, tree_map

CLOSE = 1e-4
SAMPLES = 16_384
"""Actions that a Monte-Carlo gradient is estimated from."""


def settings_of(agent: Agent) -> dict[str, Any]:
    """Every setting an agent was made with."""
    parts = (agent.run, agent.config)
    return {f.name: getattr(part, f.name) for part in parts for f in fields(part)}


def small(agent: Agent, **changes: Any) -> dict[str, Any]:
    """The agent's settings with short segments and few environments."""
    now = settings_of(agent) | {"num_envs": 4, "env_groups": 1, "workers": 0}
    if isinstance(agent, PPO):
        recurrent = agent.config.memory != "none"
        now |= {"num_steps": 32, "batch_size": 64, "epochs": 2, "target_kl": None,
                "sequence_length": 16 if recurrent else None}  # fmt: skip
    else:
        now |= {"num_envs": 2, "batch_size": 64, "learning_starts": 60, "sequence_length": 8,
                "burn_in": min(agent.config.burn_in, 4), "num_steps": 60, "buffer_size": 2000,
                "update_ratio": 0.5, "buffer_folder": None}  # fmt: skip
    return now | changes


def variant(agent: Agent, env: EnvLike | None = None, **changes: Any) -> Agent:
    """A small agent of the same kind; with the same parameters where the environment is."""
    new = AGENTS[agent.algo](agent.env if env is None else env, **small(agent, **changes))  # type: ignore[arg-type]
    if env is None:
        new.policy.load_state_dict(agent.policy.state_dict())
    return new


def agent_results(agent: Agent) -> Iterator[Result]:
    """The results of every invariant that applies to the agent; it is left as it is."""
    checks: list[Callable[[Agent], Result | Iterator[Result]]]
    if isinstance(agent, PPO):
        checks = [_parity, _segment_again, _carried_on, _entropy]
    else:
        checks = [_replayed, _actor_alone, _targets]
    checks += [_perturbed, _memory_learns, _owned, _bootstrap, _evaluation, _round_trip]
    checks += [_normaliser] if agent.config.normalise_obs else []
    for check in checks:
        yield from guarded(check, agent)


def _parity(agent: Agent) -> Result:
    still = variant(agent, learning_rate=0.0, entropy_coef=0.0)
    worst = max(still.iterate(lambda: 0.0)["max_log_ratio"] for _ in range(3))
    return judged(
        "acting and training agree", worst < CLOSE, f"largest |log ratio| {worst:.1e} at rate 0",
        "Training evaluates another policy than the one that acted: a state not cleared, a stale "
        "carry, shuffled time, a drifting normaliser, or a transformed action.",
        "Compare what the policy reads in both (observation, carry, reset, previous action).",
    )  # fmt: skip


def _again(agent: Agent, rollout: Any) -> tuple[Tensor, Tensor]:
    """Log-probabilities and values of a segment, in one forward from its first carry."""
    with torch.no_grad():
        dist, value, _ = agent.policy(
            agent.policy.prepare(rollout.obs), rollout.carries[0], rollout.reset,
            rollout.previous_action, rollout.previous_reward,
        )  # fmt: skip
        return dist.log_prob(rollout.action), value


def _segment_again(agent: Agent) -> Result:
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


def _carried_on(agent: Agent) -> Result:
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
        "Keep the carry between segments; clear it at episode starts alone.",
    )  # fmt: skip


def _entropy(agent: Agent) -> Result:
    """The entropy bonus' gradient against the score function's, on the last layer."""
    policy, head = variant(agent).policy, "head."
    obs = _observations(agent, 1, 1)
    rows = tree_map(lambda x: x.expand(1, SAMPLES, *x.shape[2:]), obs)
    names = [n for n, p in policy.named_parameters() if n.startswith(head) and p.dim() == 1]
    chosen = [dict(policy.named_parameters())[name] for name in names]
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():  # away from where every gradient of an entropy is zero
        for parameter in chosen:
            parameter += 0.7 * torch.randn(parameter.shape, generator=generator)
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


def _observations(agent: Agent, T: int, B: int) -> Obs:
    """`[T, B, ...]` sampled from the space, bounded entries and unbounded ones alike."""

    def draw(space: gym.Space[Any], seed: int) -> Tensor:
        space.seed(seed)
        rows = [space.sample() for _ in range(T * B)]
        array = np.stack([np.asarray(row) for row in rows])
        if array.dtype.kind == "f":
            array = np.clip(array, -3, 3)
        return torch.from_numpy(array).view(T, B, *array.shape[1:])

    space = agent.observation_space
    if isinstance(space, gym.spaces.Dict):
        return {key: draw(inner, n) for n, (key, inner) in enumerate(space.spaces.items())}
    return draw(space, 0)


def _outputs(agent: Agent, obs: Obs, reset: Tensor, action: Tensor, reward: Tensor) -> Tensor:
    """`[T, B, F]` everything that a policy or a critic makes of a stream."""
    policy, B = agent.policy, reset.shape[1]
    carry, prepared = policy.initial_carry(B), policy.prepare(obs)
    if isinstance(agent, PPO):
        dist, value, _ = policy(prepared, carry, reset, action, reward)
        return torch.stack((value, dist.log_prob(action)), -1)
    previous = policy.previous(action, reward, reset)
    found = [
        torso.forward(prepared, previous, one, reset)[0]
        for torso, one in zip(policy.torsos, carry, strict=True)
    ]
    return torch.cat(found, -1)


@torch.no_grad()
def _perturbed(agent: Agent) -> Iterator[Result]:
    """The whole network on a stream of two episodes, of which parts are changed."""
    T, B = 12, 4
    still = variant(agent)
    policy = still.policy
    obs = _observations(still, T, 2 * B)
    first = tree_map(lambda x: x[:, :B].clone(), obs)
    second = tree_map(lambda x: x[:, B:].clone(), obs)
    reset = torch.zeros(T, B, dtype=torch.bool)
    reset[0] = reset[6] = True
    action = torch.zeros((T, B, *policy.event_shape), dtype=policy.action_dtype)
    reward = torch.zeros(T, B)
    before = _outputs(still, first, reset, action, reward)

    mixed = tree_map(lambda a, b: torch.cat((b[:6], a[6:])), first, second)
    turned, paid = action.clone(), reward.clone()
    turned[:6] += 1 if turned.dtype != torch.float32 else 0.5  # previous ones of rows 0 to 5
    paid[:7] += 5.0  # and of row 6, which a reset must drop
    turned[6] = turned[5]
    changed = _outputs(still, mixed, reset, turned, paid)
    columns = slice(0, 1) if isinstance(agent, PPO) else slice(None)
    gap = float((before - changed)[6:, :, columns].abs().max())
    yield judged(
        "an episode ends at its reset", gap == 0,
        f"another first episode changes the second by {gap:.1e}",
        "The second episode still knows the first: its observations, its last action or reward.",
        "Clear the carry, the previous action and the previous reward where reset is true.",
    )  # fmt: skip

    future = tree_map(lambda a, b: torch.cat((a[:9], b[9:])), first, second)
    gap = float((before - _outputs(still, future, reset, action, reward))[:9].abs().max())
    yield judged(
        "nothing looks ahead", gap == 0, f"another future changes the past by {gap:.1e}",
        "An output depends on observations that have not been made yet.",
        "Mask what comes later; no statistics over time.",
    )  # fmt: skip

    neighbours = tree_map(lambda a, b: torch.cat((a[:, :1], b[:, 1:]), dim=1), first, second)
    gap = float((before - _outputs(still, neighbours, reset, action, reward))[:, 0].abs().max())
    yield judged(
        "environments do not mix", gap < CLOSE,
        f"other environments change one by {gap:.1e}",
        "A row of the batch depends on the others: batch statistics, or a view for a transpose.",
        "Normalise over features or running statistics, never over the batch.",
    )  # fmt: skip


def _memory_learns(agent: Agent) -> Result:
    """The gradient that the algorithm's own loss sends into the memory, one update's worth."""
    fresh = variant(agent)
    memories = [t.memory for t in fresh.policy.torsos]
    own = [p for memory in memories for p in memory.parameters()]
    if agent.config.memory == "none" or not own:
        return Result("the loss reaches the memory", "ok", "nothing to learn in it")
    before = [p.detach().clone() for p in own]
    _learn_a_little(fresh)
    moved = sum(not torch.equal(a, b.detach()) for a, b in zip(before, own, strict=True))
    return judged(
        "the loss reaches the memory", moved == len(own),
        f"{moved} of {len(own)} memory parameters moved",
        "The memory stays as it was initialised: its output is detached, or nobody steps it.",
        "Let the loss that owns the memory go through it; check what the optimizer was given.",
    )  # fmt: skip


def _learn_a_little(agent: Agent) -> None:
    for _ in range(2):
        agent.iterate(lambda: 0.0)


def _optimizers(agent: Agent) -> dict[str, Any]:
    if isinstance(agent, PPO):
        return {"policy": agent.update.optimizer}
    return dict(agent.update.optimizers)


def _owned(agent: Agent) -> Result:
    fresh = variant(agent)
    trained = {n: p for n, p in fresh.policy.named_parameters() if p.requires_grad}
    before = {n: p.detach().clone() for n, p in trained.items()}
    lists = [[p for g in o.param_groups for p in g["params"]] for o in _optimizers(fresh).values()]
    owners = {n: sum(any(p is q for q in given) for given in lists) for n, p in trained.items()}
    used = {n for n in trained if not n.startswith("temperature") or fresh.config.alpha is None}
    wrong = [n for n in used if owners[n] != 1]
    _learn_a_little(fresh)
    still = [n for n in used if torch.equal(before[n], trained[n].detach())]
    steps = {
        int(slot["step"].item())
        for optimizer in _optimizers(fresh).values()
        for slot in optimizer.state.values()
    }
    most = fresh.update.gradient_steps
    doubled = max(steps, default=0) > most
    bad = [f"{n} has {owners[n]} owners" for n in wrong] + [f"{n} never moved" for n in still]
    bad += [f"{max(steps)} optimizer steps in {most} updates"] if doubled else []
    return judged(
        "each parameter has one owner and moves", not bad,
        "; ".join(bad[:3]) or f"{len(used)} parameters, {most} updates",
        "A parameter is stepped twice an update, or never.",
        "Give every parameter to exactly one optimizer, and step each once an update.",
    )  # fmt: skip


def _replayed(agent: Agent) -> Result:
    """The carry that acting has, against one unroll over the replay's rows."""
    assert isinstance(agent, OffPolicyAgent)
    still = variant(agent, update_ratio=0.0)
    assert isinstance(still, OffPolicyAgent)
    if still.policy.normaliser is not None:  # carries of older statistics would differ rightly
        still.policy.normaliser.update = lambda obs: None
    for _ in range(2):
        still.iterate(lambda: 0.0)
    replay, nets, stream = still.replay, still.policy, still.collector.stream
    worst = 0.0
    for index in range(still.run.num_envs):
        rows = np.arange(replay.written[index])
        read = replay.read(rows, np.full(len(rows), index))
        obs: Any = {k.removeprefix("obs."): x.unsqueeze(1) for k, x in read.items()
                    if k.startswith("obs.")}  # fmt: skip
        obs = obs[""] if list(obs) == [""] else obs
        reset = (read["flags"] & 1).bool().unsqueeze(1)
        acted = (read["flags"] & 8).bool()
        action, reward = read["action"].roll(1, 0).unsqueeze(1), read["reward"].roll(1).unsqueeze(1)
        keep = acted.nonzero().flatten()
        parts = (tree_map(lambda x, k=keep: x[k], obs), action[keep], reward[keep], reset[keep])
        previous = nets.previous(*parts[1:])
        with torch.no_grad():
            for torso, first, acting in zip(
                nets.torsos, nets.initial_carry(1), stream.carry, strict=True
            ):
                prepared = nets.prepare(parts[0])
                after = torso.absorb(prepared, previous, first, parts[3])
                for a, b in zip(tree_leaves(after), tree_leaves(acting), strict=True):
                    worst = max(worst, float((a[0] - b[index]).abs().max()))
    return judged(
        "acting and the replay agree", worst < CLOSE, f"carries differ by {worst:.1e}",
        "The replayed timeline gives another memory than acting had: rows in the wrong order, a "
        "reset lost, or another previous action or reward.",
        "Compare the replay's rows with what the policy read when it acted.",
    )  # fmt: skip


def _actor_alone(agent: Agent) -> Result:
    fresh = variant(agent)
    for _ in range(2):
        fresh.iterate(lambda: 0.0)
    update, nets = fresh.update, fresh.policy
    if nets.actor is None:
        return Result("the actor's gradient stays with the actor", "ok", "there is no actor")
    nets.zero_grad(set_to_none=True)
    batch = update._batch(0.0)
    loss, _ = update.actor_loss(batch, update._actor_features(batch))
    loss.backward()
    leaked = sum(float(p.grad.abs().sum()) for p in nets.critic.parameters() if p.grad is not None)
    mine = sum(float(p.grad.abs().sum()) for p in nets.actor.parameters() if p.grad is not None)
    return judged(
        "the actor's gradient stays with the actor", leaked == 0 and mine > 0,
        f"into the critic {leaked:.1e}, into the actor {mine:.1e}",
        "The actor's loss moves the critic (or its memory), or does not reach the actor.",
        "Hold the critic's parameters fixed in the actor's loss; give the actor features without "
        "gradient where the critic owns the memory.",
    )  # fmt: skip


def _targets(agent: Agent) -> Result:
    """Targets are copies, the memory included, and move by tau towards the online networks."""
    fresh = variant(agent, tau=0.25, update_ratio=0.0)
    for _ in range(2):
        fresh.iterate(lambda: 0.0)
    nets, update = fresh.policy, fresh.update
    pairs = [(nets.critic, nets.target_critic)]
    if nets.target_actor is not None:
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
        "A target moves with what it is a target for: values chase themselves.",
        "Copy everything a value rests on, the memory too, and let a share tau flow after each "
        "update.",
    )  # fmt: skip


class Clock(gym.Env[Any, Any]):
    """Observes (1, episode parity, step / 4); five steps, then cut or over by turns; reward 1."""

    observation_space = gym.spaces.Box(-2, 2, (3,), np.float32)

    def __init__(self, actions: gym.Space[Any]) -> None:
        self.action_space = actions
        self.episode = 0

    def _see(self) -> Any:
        return np.array([1.0, self.episode % 2, self.t / 4], np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        """Starts an episode."""
        super().reset(seed=seed)
        self.t, self.episode = 0, self.episode + 1
        return self._see(), {}

    def step(self, action: Any) -> Any:
        """Counts."""
        self.t += 1
        over = self.t == 5
        return self._see(), 1.0, over and self.episode % 2 == 0, over and self.episode % 2 == 1, {}


def on_clock(agent: Agent, **changes: Any) -> Agent:
    """An agent of the same kind in the `Clock`."""
    plain = {"normalise_obs": False, "encoder": (), "frame_skip": 1, "hide": (), "obs_noise": 0.0,
             "flicker": 0.0, "sticky_actions": 0.0, "time_limit": None, "mask_actions": False,
             "reward_scale": 1.0, "reward_clip": None}  # fmt: skip
    make: Callable[[], Any] = lambda: Clock(agent.action_space)  # noqa: E731
    return variant(agent, make, **plain | changes)


def _bootstrap(agent: Agent) -> Result:
    gap = _ppo_bootstrap(agent) if isinstance(agent, PPO) else _replay_bootstrap(agent)
    return judged(
        "truncations bootstrap from the true successor", gap < 1e-3, f"off by {gap:.1e}",
        "At a truncation or a segment's end the value that follows is not that of the final "
        "observation under the carry before the reset, or a termination is bootstrapped.",
        "Evaluate the final observation, not the next episode's first, before any reset; stop at "
        "terminations alone.",
    )  # fmt: skip


@torch.no_grad()
def _ppo_bootstrap(agent: Agent) -> float:
    """Against a step loop over single environments, and the advantage's own equation."""
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


def _advantage_gap(agent: Agent, rollout: Any) -> float:
    """The targets that PPO trains on at steps that end an episode, against r + gamma V."""
    seen: list[Any] = []
    original = type(rollout).sequences

    def spy(self: Any, **named: Any) -> Any:
        seen.append(named["target"])
        return original(self, **named)

    try:
        type(rollout).sequences = spy
        with torch.enable_grad():
            agent.update.update(rollout, 0.0)
    finally:
        type(rollout).sequences = original
    gamma = agent.config.gamma
    ended = rollout.terminated | rollout.truncated
    follows = torch.where(rollout.terminated, torch.zeros(()), rollout.next_value)
    expected = rollout.reward + gamma * follows
    return float((seen[0] - expected)[ended].abs().max())


def _replay_bootstrap(agent: Agent) -> float:
    """Targets of transitions that end an episode, where every successor is worth its clock."""
    here = on_clock(agent, n_step=1, update_ratio=0.0)
    for _ in range(3):
        here.iterate(lambda: 0.0)
    update = here.update

    def worth(batch: Any, after: Tensor, actor_after: Tensor | None) -> Tensor:
        clock: Tensor = batch.obs[batch.before + 1 :][..., 2]
        return clock + 1.0

    kept = update.next_value
    update.next_value = worth
    try:
        worst, gamma = 0.0, here.config.gamma
        for _ in range(8):
            batch = update._batch(0.0)
            target = update._target(batch)
            rows = slice(batch.before, batch.before + batch.length)
            clock = batch.obs[rows][..., 2] + 0.25
            follows = torch.where(batch.sample.terminated[rows], torch.zeros(()), clock + 1.0)
            gap = (target - (1.0 + gamma * follows)).abs()
            acted = batch.sample.acted[rows]
            worst = max(worst, float(gap[acted].max()))
        return worst
    finally:
        update.next_value = kept


def _snapshot(agent: Agent) -> list[Tensor]:
    tensors, _ = agent.collector.state()
    learner, _ = agent._learner_state()
    everything = [*tensors.values(), *learner.values(), *agent.policy.state_dict().values()]
    generators = [agent._act_generator.get_state(), torch.get_rng_state()]
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
        "A run that is evaluated learns something else than one that is not.",
        "Evaluate in environments, carries and generators of its own; restore the mode.",
    )  # fmt: skip


def _round_trip(agent: Agent) -> Result:
    fresh = variant(agent)
    fresh.iterate(lambda: 0.0)
    with tempfile.TemporaryDirectory() as folder:
        fresh.save(Path(folder) / "agent")
        again = load(Path(folder) / "agent", env=agent.env)
        fresh.iterate(lambda: 0.0)
        again.iterate(lambda: 0.0)
    state, other = fresh.policy.state_dict(), again.policy.state_dict()
    differs = [name for name in state if not torch.equal(state[name], other[name])]
    return judged(
        "a checkpoint restores everything", not differs,
        "the next update is bit-identical" if not differs else f"{differs[0]} differs after it",
        "A resumed run learns something else than one that was never stopped.",
        "Save what the next update reads: optimizers, generators, statistics, carries, episodes.",
    )  # fmt: skip


def _normaliser(agent: Agent) -> Result:
    fresh = variant(agent, learning_rate=0.0)
    normaliser = fresh.policy.normaliser
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
