"""Off-policy algorithms: who owns the memory, what a target is, what acting and replay agree on."""

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch

import retain
from retain.data.replay import ACTED
from retain.errors import NonFiniteError, UsageError

SMALL = {"learning_starts": 20, "num_steps": 40, "batch_size": 32, "hidden": (16,), "window": 8,
         "memory_hidden": 8, "buffer_size": 2000, "sequence_length": 8, "summary": "lstm",
         "update_ratio": 1.0, "gamma": 0.9}  # fmt: skip

MEMORIES = [
    {"memory": "none"},
    {"memory": "lstm"},
    {"memory": "lstm", "burn_in": 4, "memory_layers": 2, "encoder_hidden": (8,)},
    {"memory": "gru"},
    {"memory": "window", "window": 5, "summary": "stack"},
    {"memory": "window", "window": 5, "summary": "lstm", "encoder_hidden": (8,)},
    {"memory": "window", "window": 3, "summary": "gru"},
    {"memory": "window", "window": 4, "summary": "attention"},
]
ALGOS = [("DDPG", "PendulumNoVel-v1"), ("TD3", "PendulumNoVel-v1"), ("SAC", "PendulumNoVel-v1"),
         ("SAC", "CartPoleNoVel-v1"), ("DQN", "CartPoleNoVel-v1")]  # fmt: skip


def name_of(value):
    return "-".join(str(v) for v in value.values()) if isinstance(value, dict) else str(value)


def make(algo="DDPG", env="PendulumNoVel-v1", **changes):
    kind = getattr(retain, algo)
    return kind(env, **kind.useful(SMALL | {"seed": 3} | changes))


class Short(gym.Env):
    """Episodes of 3 to 7 steps, observed as (step / 10, a random number); ends alternate."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), dtype=np.float32)
    action_space = gym.spaces.Box(-2.0, 3.0, (2,), dtype=np.float32)

    def _obs(self):
        return np.array([self.t / 10, self.np_random.normal()], dtype=np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.length, self.cut = 0, 3 + seed % 5, bool(seed % 2)
        return self._obs(), {}

    def step(self, action):
        self.t += 1
        over = self.t == self.length
        return self._obs(), float(self.t), over and not self.cut, over and self.cut, {}


class ShortDiscrete(Short):
    action_space = gym.spaces.Discrete(3, start=2)


def batch_of(agent):
    return agent.update.batch(0.0)


def acted(batch):
    return batch.sample.acted[batch.before : batch.before + batch.length]


def gradients(module):
    return {
        name: p.grad is not None and bool(p.grad.any()) for name, p in module.named_parameters()
    }


@pytest.mark.parametrize("owner", ["critic", "separate"])
@pytest.mark.parametrize("memory", MEMORIES, ids=name_of)
def test_acting_features_equal_replayed_features(memory, owner):
    """Without noise a stored action is a function of the features alone, so replaying the rows
    under the same parameters must give the action back, at every episode boundary."""
    agent = make(env=Short, memory_owner=owner, num_envs=3, learning_starts=0, learning_rate=0.0,
                 exploration_noise=0.0, normalise_obs=True, n_step=2, **memory)  # fmt: skip
    with torch.no_grad():
        for parameter in agent.policy.actor.parameters():
            parameter.mul_(2.0)  # far from zero, so that a wrong feature shows
    agent.policy.normaliser.update(torch.randn(1, 50, 2) + 1.0)
    statistics = {k: v.clone() for k, v in agent.policy.normaliser.state_dict().items()}
    for _ in range(2):
        agent.iterate(lambda: 0.0)
        agent.policy.normaliser.load_state_dict(statistics)  # as it was when acting
    batch = batch_of(agent)
    replayed = agent.policy.actor.forward(agent.update.actor_features(batch))
    mask = acted(batch)
    assert mask.sum() > 20
    assert replayed[mask].std() > 0.02
    torch.testing.assert_close(replayed[mask], batch.action[mask], atol=1e-5, rtol=0)


class Dear(Short):
    """Short, with rewards of thousands."""

    def step(self, action):
        obs, reward, *rest = super().step(action)
        return obs, 3000.0 * reward, *rest


def dear(**changes):
    return make(env=Dear, num_envs=2, learning_starts=0, normalise_reward=True, **changes)


def test_rewards_are_read_and_learned_from_in_their_normalised_size():
    agent = dear(memory="lstm", previous_reward=True, learning_rate=0.0, exploration_noise=0.0)
    with torch.no_grad():
        for parameter in agent.policy.actor.parameters():
            parameter.mul_(2.0)
    agent.policy.rewards.merge(torch.tensor([1e9, 1e9 * 3000.0**2]))  # which stays
    for _ in range(2):
        agent.iterate(lambda: 0.0)
    assert float(agent.policy.rewards.size) == pytest.approx(3000.0)
    batch = batch_of(agent)
    mask = acted(batch)
    replayed = agent.policy.actor.forward(agent.update.actor_features(batch))
    assert replayed[mask].std() > 0.02
    torch.testing.assert_close(replayed[mask], batch.action[mask], atol=1e-5, rtol=0)
    zero = agent.update.bootstrapped(batch, torch.zeros_like(batch.sample.reward))
    torch.testing.assert_close(zero[mask], batch.sample.reward[: len(mask)][mask] / 3000.0)
    reward = torch.full((1, 2), 600.0)
    *_, read = agent.policy.previous(torch.zeros(1, 2, 2), reward, torch.zeros(1, 2).bool())
    assert read.flatten().tolist() == pytest.approx([0.2, 0.2])


def test_the_size_of_rewards_is_that_of_the_steps_taken():
    agent = dear(memory="none")
    for _ in range(3):
        agent.iterate(lambda: 0.0)
    steps = (agent.replay.flags & ACTED) > 0
    reward = torch.from_numpy(np.asarray(agent.replay.reward)[steps]).double()
    assert float(agent.policy.rewards.count) == int(steps.sum()) == agent.steps
    assert float(agent.policy.rewards.size) == pytest.approx(float(reward.square().mean().sqrt()))


def test_rows_that_hold_only_a_last_observation_bring_no_reward():
    agent = dear(memory="none", buffer_size=120)  # whose rows are used again
    for _ in range(3):
        agent.iterate(lambda: 0.0)
    assert float(agent.policy.rewards.count) == agent.steps


def test_a_stale_carry_would_be_seen():
    """The check above can fail: with zeros for the stored carries it does."""
    agent = make(memory="lstm", learning_starts=0, learning_rate=0.0, exploration_noise=0.0)
    with torch.no_grad():
        for parameter in agent.policy.actor.parameters():
            parameter.mul_(2.0)
    agent.iterate(lambda: 0.0)
    for leaf in agent.replay.carry[0]:
        leaf.zero_()
    batch = batch_of(agent)
    replayed = agent.policy.actor.forward(agent.update.actor_features(batch))
    assert (replayed - batch.action).abs().max() > 1e-3


@pytest.mark.parametrize("algo", ["DDPG", "TD3", "SAC"])
@pytest.mark.parametrize("memory", ["lstm", "window"])
@pytest.mark.parametrize("owner", ["critic", "separate"])
def test_each_loss_reaches_its_own_side_and_nothing_else(algo, memory, owner):
    agent = make(algo, memory=memory, memory_owner=owner)
    agent.iterate(lambda: 0.0)
    update, nets = agent.update, agent.policy
    for parameter in nets.parameters():
        parameter.grad = None
    batch = batch_of(agent)
    loss, _ = update.actor_loss(batch, update.actor_features(batch))
    loss.backward()
    assert not any(gradients(nets.critic).values())
    assert any(gradients(nets.actor).values())
    assert gradients(nets.actor)["net.weight_0"]
    if owner == "separate":
        assert any(seen for name, seen in gradients(nets.actor).items() if "memory" in name)
    else:
        assert nets.actor.torso is None
    nets.actor.zero_grad()
    batch = batch_of(agent)
    update.predicted(batch).square().mean().backward()
    reached = gradients(nets.critic)
    assert all(seen for name, seen in reached.items() if "memory" in name), reached
    assert not any(gradients(nets.actor).values())


@pytest.mark.parametrize(("algo", "env"), ALGOS)
@pytest.mark.parametrize("memory", ["none", "lstm"])
def test_each_parameter_is_stepped_once_an_update(algo, env, memory):
    agent = make(algo, env, memory=memory)
    agent.iterate(lambda: 0.0)
    updates = agent.update.gradient_steps
    assert updates > 10
    expected = {"critic": updates, "actor": updates, "alpha": updates}
    if algo == "TD3":
        expected["actor"] = updates // 2
    for name, optimizer in agent.update.optimizers.items():
        for slot in optimizer.state.values():
            assert slot["step"].item() == expected[name], name
    owned = [id(p) for o in agent.update.optimizers.values() for p in o.param_groups[0]["params"]]
    trained = [id(p) for p in agent.policy.parameters() if p.requires_grad]
    assert sorted(owned) == sorted(trained)


@pytest.mark.parametrize(("algo", "env"), ALGOS)
def test_targets_copy_the_memory_follow_slowly_and_get_no_gradient(algo, env):
    agent = make(algo, env, memory="lstm", tau=0.1)
    agent.iterate(lambda: 0.0)
    online, target = agent.update._pairs
    names = [n for n, _ in agent.policy.target_critic.named_parameters()]
    assert any("memory" in name for name in names)
    assert not any(p.requires_grad for p in target)
    before = [p.clone() for p in target]
    agent.update.update(0.0)
    for old, new, now in zip(before, target, online, strict=True):
        torch.testing.assert_close(new, old + 0.1 * (now - old), atol=1e-7, rtol=1e-5)
        assert not torch.equal(new, old)
        assert new.grad is None
    frozen = [m for m in (agent.policy.target_critic, agent.policy.target_actor) if m is not None]
    assert {id(p) for m in frozen for p in m.parameters()} == {id(p) for p in target}


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("memory", ["none", "lstm"])
def test_targets_bootstrap_where_an_episode_was_cut_and_not_where_it_ended(n, memory, monkeypatch):
    """With V = 100 everywhere the targets can be written down from step and plan."""
    agent = make(env=Short, n_step=n, gamma=0.5, memory=memory, num_envs=2, batch_size=512)
    agent.iterate(lambda: 0.0)
    monkeypatch.setattr(
        agent.update, "next_value",
        lambda batch, after, actor_after: torch.full(after.shape[:2], 100.0),
    )  # fmt: skip
    batch = batch_of(agent)
    target = agent.update.target(batch)
    seen = set()
    obs, sample = batch.sample.obs, batch.sample
    for t in range(batch.length):
        for i in range(target.shape[1]):
            if not sample.acted[t, i]:
                continue
            step = round(obs[t, i, 0].item() * 10)
            value, ended = 0.0, "no"
            for k in range(n):
                value += 0.5**k * (step + k + 1)
                if sample.terminated[t + k, i]:
                    ended = "terminated"
                    break
                if sample.truncated[t + k, i] or k == n - 1:
                    ended = "truncated" if sample.truncated[t + k, i] else "no"
                    value += 0.5 ** (k + 1) * 100.0
                    break
            seen.add(ended)
            assert target[t, i].item() == pytest.approx(value)
    assert seen == {"no", "terminated", "truncated"}


def test_final_observations_enter_no_loss():
    """What a row that only holds a final observation says about actions and rewards is noise."""
    agent = make(env=Short, memory="lstm", num_envs=2)
    agent.iterate(lambda: 0.0)
    random = agent.replay.random.bit_generator.state

    def losses():
        agent.replay.random.bit_generator.state = random
        agent.update.generator.manual_seed(0)
        batch = batch_of(agent)
        target = agent.update.target(batch)
        value = agent.update.predicted(batch)
        loss = retain.ops.q_loss(value=value, target=target, mask=batch.mask)
        return loss, agent.update.actor_loss(batch, agent.update.actor_features(batch))[0]

    clean = losses()
    empty = torch.from_numpy((agent.replay.flags & 8) == 0)
    agent.replay.action[empty] = 1e6
    agent.replay._flat_reward[empty.flatten()] = 1e6
    for one, two in zip(clean, losses(), strict=True):
        assert torch.equal(one, two)


def test_burn_in_gets_no_gradient_and_a_windows_history_does():
    for memory, history in (("lstm", False), ("window", True)):
        agent = make(memory=memory, burn_in=4, window=5)
        agent.iterate(lambda: 0.0)
        batch = batch_of(agent)
        batch.obs = batch.obs.clone().requires_grad_()
        torso = agent.policy.critic.torso
        carry = batch.carries[0]
        agent.update._unroll(torso, batch, carry, 1).sum().backward()
        seen = batch.obs.grad.abs().sum((1, 2)) > 0
        assert seen[:4].tolist() == [history] * 4
        assert seen[4]


def test_td3_takes_the_smaller_critic_and_noise_on_the_targets_action():
    agent = make("TD3", target_noise=10.0, target_noise_clip=0.3)
    agent.iterate(lambda: 0.0)
    update, nets = agent.update, agent.policy
    with torch.no_grad():
        for parameter in nets.target_actor.parameters():
            parameter.zero_()
        action = update.next_action(torch.zeros(1, 500, nets.critic.torso.features))
    assert torch.allclose(action.abs(), torch.tensor(0.3), atol=0.02) or action.std() > 0.25
    assert action.abs().max() <= 0.3
    batch = batch_of(agent)
    after = torch.randn(1, 32, nets.critic.torso.features)
    update.next_action = lambda features: torch.zeros(1, 32, 1)
    both = nets.target_critic.forward(after, torch.zeros(1, 32, 1))
    assert torch.equal(update.next_value(batch, after, None), both.min(0).values)
    assert not torch.equal(both[0], both[1])


@pytest.mark.parametrize(
    ("algo", "changes", "reads"),
    [("DDPG", {}, False), ("SAC", {}, True), ("SAC", {"memory_owner": "separate"}, False),
     ("DQN", {"double": True}, True), ("DQN", {"double": False}, False)],
)  # fmt: skip
def test_successors_go_through_the_online_critic_only_where_a_target_reads_them(
    algo, changes, reads
):
    agent = make(algo, "CartPole-v1" if algo == "DQN" else "Pendulum-v1", **changes)
    agent.iterate(lambda: 0.0)
    batch = batch_of(agent)
    assert hasattr(batch, "features_after") == reads
    assert np.isfinite(agent.update.update(0.0)["critic_loss"].item())


def test_double_dqn_lets_the_online_network_choose():
    for double in (True, False):
        agent = make("DQN", "CartPole-v1", double=double)
        agent.iterate(lambda: 0.0)
        batch = batch_of(agent)
        after = torch.randn(1, 32, agent.policy.critic.torso.features)
        batch.features_after = after
        with torch.no_grad():
            for parameter in agent.policy.target_critic.parameters():
                parameter.normal_()
        value = agent.update.next_value(batch, after, None)
        all_of = agent.policy.target_critic.forward(after)[0]
        chooser = agent.policy.critic.forward(after)[0] if double else all_of
        expected = all_of.gather(-1, chooser.argmax(-1, keepdim=True)).squeeze(-1)
        assert torch.equal(value, expected)
        assert (value < all_of.amax(-1)).any() == double


def test_dueling_advantages_have_mean_zero():
    agent = make("DQN", "CartPole-v1", dueling=True)
    critic = agent.policy.critic
    features = torch.randn(1, 9, 4)
    raw = critic.net.forward(features)
    torch.testing.assert_close(critic.forward(features).mean(-1), raw[..., 0])


def test_sac_moves_its_temperature_towards_the_target_entropy():
    for target, sign in ((-50.0, -1), (50.0, 1)):
        agent = make("SAC", target_entropy=target)
        before = agent.update.alpha.item()
        agent.iterate(lambda: 0.0)
        assert np.sign(agent.update.alpha.item() - before) == sign
    fixed = make("SAC", alpha=0.3)
    fixed.iterate(lambda: 0.0)
    assert fixed.update.alpha.item() == pytest.approx(0.3)
    assert "alpha" not in fixed.update.optimizers


@pytest.mark.parametrize("env", ["PendulumNoVel-v1", "CartPoleNoVel-v1"])
def test_sac_actor_gradient_is_that_of_the_soft_value(env):
    """Against finite differences of E[alpha log pi - min Q] in one parameter of the actor."""
    agent = make("SAC", env, alpha=0.4, batch_size=512)
    for _ in range(3):
        agent.iterate(lambda: 0.0)
    update = agent.update
    batch = batch_of(agent)
    features = update.actor_features(batch)
    bias = agent.policy.actor.net._parameters["bias_1"]

    def value(shift):
        update.generator.manual_seed(1)
        with torch.no_grad():
            bias[0, 0, 0] += shift
            loss = update.actor_loss(batch, features)[0].double().item()
            bias[0, 0, 0] -= shift
        return loss

    update.generator.manual_seed(1)
    gradient = torch.autograd.grad(update.actor_loss(batch, features)[0], bias)[0][0, 0, 0].item()
    assert gradient == pytest.approx((value(0.01) - value(-0.01)) / 0.02, rel=0.02, abs=1e-4)
    assert abs(gradient) > 1e-3


def test_sac_losses_are_the_papers():
    agent = make("SAC", "PendulumNoVel-v1", alpha=0.4, batch_size=64)
    for _ in range(2):
        agent.iterate(lambda: 0.0)
    update, nets = agent.update, agent.policy
    batch = batch_of(agent)
    features = update.actor_features(batch)
    dist = nets.actor.forward(features)
    action = dist.reparameterised(torch.Generator().manual_seed(4))
    value = nets.critic.forward(features, torch.tanh(action)).min(0).values
    expected = (0.4 * dist.log_prob(action) - value).mean()
    update.generator.manual_seed(4)
    loss, terms = update.actor_loss(batch, features)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(terms["entropy"], -dist.log_prob(action).mean())
    after = batch.features_after
    dist = nets.actor.forward(after)
    action = dist.sample(torch.Generator().manual_seed(5))
    value = nets.target_critic.forward(after, torch.tanh(action)).min(0).values
    update.generator.manual_seed(5)
    soft = update.next_value(batch, after, None)
    torch.testing.assert_close(soft, value - 0.4 * dist.log_prob(action))


def test_discrete_sac_losses_are_expectations_over_actions():
    agent = make("SAC", "CartPoleNoVel-v1", alpha=0.4, batch_size=64)
    for _ in range(2):
        agent.iterate(lambda: 0.0)
    update, nets = agent.update, agent.policy
    batch = batch_of(agent)
    features = update.actor_features(batch)
    log_probs = nets.actor.forward(features).log_probs
    value = nets.critic.forward(features).min(0).values
    loss = sum((log_probs[..., a].exp() * (0.4 * log_probs[..., a] - value[..., a])).mean()
               for a in range(2))  # fmt: skip
    torch.testing.assert_close(update.actor_loss(batch, features)[0], loss)
    after = batch.features_after
    log_probs = nets.actor.forward(after).log_probs
    value = nets.target_critic.forward(after).min(0).values
    soft = sum(
        log_probs[..., a].exp() * (value[..., a] - 0.4 * log_probs[..., a]) for a in range(2)
    )
    torch.testing.assert_close(update.next_value(batch, after, None), soft)


def test_importance_weights_and_priorities_are_used(monkeypatch):
    agent = make("DQN", "CartPole-v1", prioritized=True, priority_beta=0.5, memory="lstm")
    agent.iterate(lambda: 0.0)
    betas = []
    sample = agent.replay.sample
    monkeypatch.setattr(
        agent.replay,
        "sample",
        lambda *a, beta, **k: betas.append(beta) or sample(*a, beta=beta, **k),
    )
    leaves = agent.replay.tree.nodes[agent.replay.tree.leaves :].copy()
    agent.update.update(0.5)
    assert betas == [0.75]
    assert (agent.replay.tree.nodes[agent.replay.tree.leaves :] != leaves).any()


def test_sequences_of_one_step_still_leave_final_observations_out():
    agent = make(env=Short, memory="lstm", sequence_length=1, num_envs=2)
    agent.iterate(lambda: 0.0)
    batch = batch_of(agent)
    assert not batch.mask.all()
    assert torch.equal(batch.mask, batch.sample.acted)


def test_exploration_falls_as_asked():
    ddpg = make(exploration_noise=0.4, exploration_noise_final=0.1).update
    assert [ddpg.scale(p) for p in (0.0, 0.5, 1.0)] == pytest.approx([0.4, 0.25, 0.1])
    dqn = make("DQN", "CartPole-v1", epsilon_final=0.1, exploration_fraction=0.5).update
    assert [dqn.scale(p) for p in (0.0, 0.25, 0.5, 1.0)] == pytest.approx([1, 0.55, 0.1, 0.1])


@pytest.mark.parametrize(("ratio", "num_envs", "expected"), [(0.5, 1, 20), (2.0, 3, 240)])
def test_update_ratio_counts_updates_per_environment_step(ratio, num_envs, expected):
    agent = make(update_ratio=ratio, num_envs=num_envs, learning_starts=0)
    agent.iterate(lambda: 0.0)
    before = agent.update.gradient_steps
    agent.iterate(lambda: 0.0)
    assert agent.update.gradient_steps - before == expected


def test_a_discrete_space_with_a_start_and_a_box_with_uneven_bounds():
    for algo, env in (
        ("DQN", ShortDiscrete),
        ("SAC", ShortDiscrete),
        ("SAC", Short),
        ("TD3", Short),
    ):
        agent = make(algo, env)
        agent.learn(100)
        action, _ = agent.act(np.zeros(2, dtype=np.float32))
        assert agent.action_space.contains(action), (algo, action)


def test_a_window_of_200_costs_no_more_memory_than_one_of_1():
    sizes = {make("DDPG", memory="window", window=L, buffer_size=5000).replay.nbytes()
             for L in (1, 200)}  # fmt: skip
    assert len(sizes) == 1


def test_a_gradient_that_is_not_finite_stops_before_the_optimizer(tmp_path):
    agent = make(learning_starts=0)
    agent.iterate(lambda: 0.0)
    agent.replay.reward[:] = np.nan
    before = {k: v.clone() for k, v in agent.policy.state_dict().items()}
    with pytest.raises(NonFiniteError, match="critic_loss is not finite"):
        agent.update.update(0.0)
    assert all(torch.equal(v, before[k]) for k, v in agent.policy.state_dict().items())


@pytest.mark.parametrize(
    ("algo", "env", "changes", "message"),
    [
        ("DQN", "Pendulum-v1", {}, "dqn needs Discrete actions"),
        ("DDPG", "CartPole-v1", {}, "ddpg needs Box actions"),
        ("SAC", "Pendulum-v1", {"memory": "lstm", "batch_size": 33}, "nearest that is: 32"),
        ("SAC", "Pendulum-v1", {"tau": 1.5}, "tau is 1.5"),
        ("TD3", "Pendulum-v1", {"policy_delay": 0}, "policy_delay is 0"),
        ("DQN", "CartPole-v1", {"epsilon": 2.0}, "epsilon is 2.0"),
        ("SAC", "Pendulum-v1", {"alpha_init": 0.0}, "alpha_init is 0.0"),
        ("DDPG", "Pendulum-v1", {"memory_owner": "actor"}, "memory_owner is 'actor'"),
        ("DDPG", "Pendulum-v1", {"memory": "window", "window": 0}, "window is 0"),
        ("DDPG", "Pendulum-v1", {"memory": "window", "window": 64, "buffer_size": 65}, "least 66"),
        ("DQN", "CartPole-v1", {"memory_owner": "separate"}, "dqn has no actor"),
        ("SAC", "Pendulum-v1", {"update_rato": 1}, "did you mean 'update_ratio'"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(algo, env, changes, message):
    with pytest.raises(UsageError, match=message):
        make(algo, env, **changes)


def test_means_are_over_the_steps_that_count():
    """Masked rows enter neither q_mean nor the mean in a sequence's priority (worked by hand)."""
    agent = make("DQN", "CartPoleNoVel-v1", memory="lstm", batch_size=16, prioritized=True,
                 burn_in=0, n_step=1, update_ratio=0.1)  # fmt: skip
    agent.iterate(lambda: 0.0)
    update, batch = agent.update, agent.update.batch(0.0)
    acted = torch.ones(8, 2, dtype=torch.bool)
    acted[2:] = False
    acted[1, 1] = False
    batch.sample = replace(batch.sample, acted=acted)
    value, target = torch.full((1, 8, 2), 1e6), torch.zeros(8, 2)
    value[0, :2, 0] = torch.tensor([1.0, 3.0])
    value[0, 0, 1] = 2.0
    assert batch.mean(value).item() == pytest.approx((1 + 3 + 2) / 3)
    priority = update.priority(batch, value, target)
    assert priority.tolist() == pytest.approx([0.9 * 3 + 0.1 * 2, 0.9 * 2 + 0.1 * 2])
