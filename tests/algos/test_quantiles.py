"""QR-DQN and TQC: what their critics, targets and losses are, against loops."""

import pytest
import torch

import retain
from retain.errors import UsageError

SMALL = {"learning_starts": 20, "num_steps": 40, "batch_size": 32, "hidden": (16,), "window": 3,
         "memory_hidden": 8, "buffer_size": 2000, "sequence_length": 8, "quantiles": 5,
         "gamma": 0.9, "seed": 3, "update_ratio": 0.5}  # fmt: skip
CASES = [("QRDQN", "CartPoleNoVel-v1"), ("TQC", "PendulumNoVel-v1")]


def make(algo, **changes):
    kind = getattr(retain, algo)
    agent = kind.exactly(dict(CASES)[algo], SMALL | changes)
    agent.iterate(lambda: 0.0)
    return agent


def loop_loss(theta, y, kappa):
    """sum_i mean_j |tau_i - 1[u < 0]| Huber(u) / kappa of one step."""
    total, M = 0.0, len(theta)
    for i in range(M):
        for j in range(len(y)):
            u = float(y[j] - theta[i])
            size = 0.5 * u * u / kappa if abs(u) <= kappa else abs(u) - 0.5 * kappa
            total += abs((i + 0.5) / M - (u < 0)) * size / len(y)
    return total


@pytest.mark.parametrize(("algo", "env"), CASES)
@pytest.mark.parametrize("memory", ["none", "lstm", "window"])
def test_the_loss_is_quantile_regression_on_the_steps_that_count(algo, env, memory):
    agent = make(algo, memory=memory, n_step=2)
    update = agent.update
    batch = update.batch(0.0)
    target, value = update.target(batch), update.predicted(batch).detach()
    K, L, N, M = value.shape
    kept = M if algo == "QRDQN" else 2 * (M - 2)
    assert (1 if algo == "QRDQN" else 2, 5) == (K, M)
    assert target.shape == (L, N, kept)
    rows = [(t, n) for t in range(L) for n in range(N) if batch.mask is None or batch.mask[t, n]]
    expected = sum(
        loop_loss(value[k, t, n], target[t, n], 1.0) for k in range(K) for t, n in rows
    ) / len(rows)  # fmt: skip
    if algo == "TQC":
        expected /= M
    assert update.critic_loss(batch, value, target).item() == pytest.approx(expected, rel=1e-4)


def test_qrdqn_takes_the_quantiles_of_the_action_with_the_highest_mean():
    agent = make("QRDQN", double=False)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in agent.policy.target_critic.parameters():
            parameter.normal_()
    batch = agent.update.batch(0.0)
    after = 10 * torch.randn(1, 32, agent.policy.critic.torso.features)
    out = agent.policy.target_critic.forward(after)[0]  # [1, N, M, n]
    found = agent.update.next_value(batch, after, None)
    differs = 0
    for n in range(32):
        best = max(range(2), key=lambda a, n=n: out[0, n, :, a].mean().item())
        assert torch.equal(found[0, n], out[0, n, :, best])
        differs += best
    assert 0 < differs < 32


def test_qrdqn_acts_on_the_mean_of_its_quantiles():
    agent = make("QRDQN")
    obs = torch.randn(1, 64, 2)
    features, _ = agent.policy.critic.torso.forward(
        obs, [], agent.policy.initial_carry(64)[0], torch.ones(1, 64, dtype=torch.bool)
    )
    mean = agent.policy.critic.forward(features)[0, 0].mean(-2)
    chosen, _ = agent.act(obs[0].numpy(), deterministic=True)
    assert (chosen == mean.argmax(-1).numpy()).all()


def test_dueling_quantiles_are_a_value_and_advantages_of_mean_zero():
    agent = make("QRDQN", dueling=True)
    critic, features = agent.policy.critic, torch.randn(1, 9, 2)
    raw = critic.net.forward(features).view(1, 1, 9, 5, 3)
    torch.testing.assert_close(critic.forward(features).mean(-1), raw[..., 0])


@pytest.mark.parametrize(("drop", "critics"), [(0, 2), (2, 3), (4, 1)])
def test_tqc_pools_all_quantiles_and_leaves_the_largest_out(drop, critics):
    agent = make("TQC", drop=drop, critics=critics, alpha=0.4)
    update, nets = agent.update, agent.policy
    batch = update.batch(0.0)
    after = torch.randn(1, 32, nets.critic.torso.features)
    batch.features_after = after
    dist = nets.actor.forward(after)
    action = dist.sample(torch.Generator().manual_seed(5))
    quantiles = nets.target_critic.forward(after, torch.tanh(action))
    update.generator.manual_seed(5)
    found = update.next_value(batch, after, None)
    entropy = 0.4 * dist.log_prob(action)
    for n in range(32):
        pool = sorted(q for k in range(critics) for q in quantiles[k, 0, n].tolist())
        kept = torch.tensor(pool[: critics * (5 - drop)]) - entropy[0, n]
        torch.testing.assert_close(found[0, n], kept)


def test_tqcs_actor_climbs_the_mean_of_all_critics_and_moves_none():
    agent = make("TQC", alpha=0.4, critics=3)
    update, nets = agent.update, agent.policy
    batch = update.batch(0.0)
    features = update.actor_features(batch)
    dist = nets.actor.forward(features)
    action = dist.reparameterised(torch.Generator().manual_seed(4))
    value = nets.critic.forward(features, torch.tanh(action)).mean((0, -1))
    update.generator.manual_seed(4)
    loss, _ = update.actor_loss(batch, features)
    torch.testing.assert_close(loss, (0.4 * dist.log_prob(action) - value).mean())
    nets.zero_grad(set_to_none=True)
    loss.backward()
    assert all(p.grad is None for p in nets.critic.parameters())


@pytest.mark.parametrize(("algo", "env"), CASES)
def test_a_run_resumes_bit_identically(algo, env, tmp_path):
    one = make(algo, memory="lstm", prioritized=True)
    one.save(tmp_path / "agent")
    two = retain.load(tmp_path / "agent")
    for agent in (one, two):
        agent.iterate(lambda: 0.5)
    for a, b in zip(
        one.policy.state_dict().values(), two.policy.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("algo", "changes", "message"),
    [
        ("QRDQN", {"quantiles": 0}, "quantiles is 0"),
        ("QRDQN", {"memory_owner": "separate"}, "qrdqn has no actor"),
        ("TQC", {"drop": 5}, "leaves none of 5 quantiles"),
        ("TQC", {"critics": 0}, "critics is 0"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(algo, changes, message):
    with pytest.raises(UsageError, match=message):
        make(algo, **changes)


def test_tqc_refuses_discrete_actions_and_names_what_learns_them():
    with pytest.raises(UsageError, match=r"tqc needs Box actions.*qrdqn"):
        retain.TQC("CartPole-v1")
