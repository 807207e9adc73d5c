"""A2C, V-trace and PQN: their losses against numbers worked by hand, and parity with every memory."""

import math

import pytest
import torch

import retain
from retain.data.rollout import RewardedSequences, Sequences
from retain.errors import UsageError
from retain.nn.greedy import epsilon_greedy

MEMORIES = [{"memory": "none"}, {"memory": "lstm"}, {"memory": "gru", "sequence_length": 8},
            {"memory": "window", "window": 4}]  # fmt: skip
SMALL = {"num_envs": 4, "num_steps": 16, "memory_hidden": 8, "hidden": (16,), "seed": 2}


def make(algo, env="CartPoleNoVel-v1", **changes):
    kind = getattr(retain, algo)
    return kind(env, **kind.useful(SMALL | changes, env))


def name_of(value):
    return "-".join(str(v) for v in value.values()) if isinstance(value, dict) else str(value)


@pytest.mark.parametrize("memory", MEMORIES, ids=name_of)
@pytest.mark.parametrize(
    ("algo", "env", "gap"),
    [("A2C", "PendulumNoVel-v1", "log_ratio"), ("VTrace", "CartPoleNoVel-v1", "log_ratio"),
     ("PQN", "CartPoleNoVel-v1", "value_gap")],
)  # fmt: skip
def test_at_learning_rate_zero_training_computes_what_acting_did(algo, env, gap, memory):
    settings = {"learning_rate": 0.0, "normalise_obs": True, "previous_action": True}
    agent = make(algo, env, **settings, **memory)
    rows = [agent.iterate(lambda: 0.0) for _ in range(4)]
    assert max(row[f"max_{gap}"] for row in rows) < 1e-5
    assert agent.update.gradient_steps > 0


@pytest.mark.parametrize("algo", ["A2C", "VTrace", "PQN"])
def test_a_run_resumes_bit_identically(algo, tmp_path):
    one = make(algo, memory="lstm").learn(256)
    one.save(tmp_path / "agent")
    two = retain.load(tmp_path / "agent")
    for agent in (one, two):
        agent.iterate(lambda: 0.5)
    for a, b in zip(
        one.policy.state_dict().values(), two.policy.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b)


def columns(**rows):
    """`[L, 1]` tensors of lists."""
    return {name: torch.tensor(row).unsqueeze(1) for name, row in rows.items()}


def batch(kind=Sequences, **rows):
    length = len(next(iter(rows.values())))
    blank = torch.zeros(length, 1)
    named = dict.fromkeys(("obs", "action", "log_prob", "value", "advantage", "target"), blank)
    return kind(**named | {"reset": blank.bool(), "carry": ()} | columns(**rows))


def test_a2cs_loss_worked_by_hand():
    update = make("A2C").update
    given = batch(advantage=[1.0, -2.0], target=[2.0, 0.0])
    log_prob = columns(x=[math.log(0.5), math.log(0.25)])["x"].requires_grad_()
    policy, critic, _ = update.parts(given, log_prob, columns(x=[1.0, 2.0])["x"], 0.0)
    assert policy.item() == pytest.approx((math.log(2) * 1 - math.log(4) * 2) / 2)
    assert critic.item() == pytest.approx((1 + 4) / 2 / 2)
    policy.backward()
    assert log_prob.grad.flatten().tolist() == pytest.approx([-0.5, 1.0])


def test_a2c_makes_one_step_a_segment_and_refuses_more():
    agent = make("A2C")
    agent.iterate(lambda: 0.0)
    assert agent.update.gradient_steps == 1
    with pytest.raises(UsageError, match="ppo takes several"):
        make("A2C", epochs=2)


def test_vtraces_targets_are_those_of_a_loop_over_the_papers_sum():
    """v_s = V_s + sum_t gamma^(t-s) (prod_{i<t} c_i) rho_t delta_t, over random segments with
    ends, an older policy that acted, and successors' values that are the current critic's."""
    torch.manual_seed(0)
    L, gamma, lam, rho_clip, c_clip = 7, 0.9, 0.8, 1.2, 0.7
    update = make("VTrace", gamma=gamma, gae_lambda=lam, rho_clip=rho_clip, c_clip=c_clip).update
    behaviour, current = -torch.rand(L), -torch.rand(L)
    reward, value, stored = torch.randn(L), torch.randn(L), torch.randn(L)
    terminated, truncated = [False] * L, [False] * L
    terminated[2] = truncated[4] = True
    given = batch(RewardedSequences, log_prob=behaviour.tolist(), reward=reward.tolist(),
                  terminated=terminated, truncated=truncated, next_value=stored.tolist())  # fmt: skip
    ratio = (current - behaviour).exp()

    def successor(t):
        if terminated[t]:
            return torch.zeros(())
        return stored[t] if truncated[t] or t == L - 1 else value[t + 1]

    def target(s):
        total, weight = value[s].clone(), 1.0
        for t in range(s, L):
            delta = reward[t] + gamma * successor(t) - value[t]
            total += weight * ratio[t].clamp(max=rho_clip) * delta
            if terminated[t] or truncated[t]:
                break
            weight *= gamma * lam * ratio[t].clamp(max=c_clip)
        return total

    policy, critic = torch.zeros(()), torch.zeros(())
    for t in range(L):
        inside = t < L - 1 and not (terminated[t] or truncated[t])
        after = target(t + 1) if inside else successor(t)
        advantage = ratio[t].clamp(max=rho_clip) * (reward[t] + gamma * after - value[t])
        policy -= current[t] * advantage / L
        critic += (value[t] - target(t)) ** 2 / 2 / L
    found = update.parts(given, current.unsqueeze(1), value.unsqueeze(1), 0.0)
    torch.testing.assert_close(found[0], policy)
    torch.testing.assert_close(found[1], critic)


def test_vtrace_sees_the_whole_segment_without_memory_too():
    agent = make("VTrace", memory="none")
    rollout = agent.collector.collect(16)
    advantage, target = agent.update.targets(rollout)
    sequences = agent.update.cut(rollout, rollout.obs, advantage, target)
    assert sequences.reward.shape == (16, 4)
    assert agent.config.sequence == 16


def test_pqns_loss_is_the_squared_error_of_what_was_done():
    agent = make("PQN", memory="lstm", gamma=0.9, q_lambda=0.5)
    agent.iterate(lambda: 0.0)
    rollout = agent.collector.collect(16)
    advantage, target = agent.update.targets(rollout)
    obs = agent.policy.prepare(rollout.obs)
    sequences = rollout.sequences(obs=obs, advantage=advantage, target=target)
    previous = rollout.previous_action, rollout.previous_reward
    value, _ = agent.policy.action_values(obs, rollout.carries[0], rollout.reset, *previous)
    expected = sum(
        (value[t, b, rollout.action[t, b]] - target[t, b]) ** 2 / 2
        for t in range(16) for b in range(4)
    ) / 64  # fmt: skip
    found = agent.update.loss(sequences, 0.0)
    torch.testing.assert_close(found.total, expected)
    following = value.amax(-1)[1:]
    goes_on = ~(rollout.terminated | rollout.truncated)[:-1]
    torch.testing.assert_close(rollout.next_value[:-1][goes_on], following[goes_on])
    ended = rollout.terminated
    assert torch.equal(target[ended], rollout.reward[ended])


def test_pqn_normalises_layers_and_keeps_neither_replay_nor_target():
    agent = make("PQN")
    names = [type(module).__name__ for module in agent.policy.values]
    assert names == ["Linear", "LayerNorm", "Activation", "Linear"]
    assert all(p.requires_grad for p in agent.policy.parameters())
    assert not hasattr(agent, "replay")


def test_pqn_explores_by_its_schedule_and_acts_greedily_when_asked():
    agent = make("PQN", epsilon=0.8, epsilon_final=0.6, exploration_fraction=0.5)
    seen = [agent.update.explore(p)["exploration"] for p in (0.0, 0.25, 0.5, 1.0)]
    assert seen == pytest.approx([0.8, 0.7, 0.6, 0.6])
    assert agent.policy.head.epsilon.item() == pytest.approx(0.6)
    obs = torch.randn(500, 2).numpy()
    reset = torch.ones(1, 500, dtype=torch.bool)
    value, _ = agent.policy.action_values(
        torch.from_numpy(obs).unsqueeze(0), agent.policy.initial_carry(500), reset
    )
    chosen, _ = agent.act(obs, deterministic=True)
    assert (chosen == value[0].argmax(-1).numpy()).all()
    agent.update.explore(0.0)
    again, _ = agent.act(obs, deterministic=True)
    assert (again == chosen).all()
    sampled, _ = agent.act(obs)
    assert 0.2 < (sampled != chosen).mean() < 0.4  # half of the run's last epsilon


def test_epsilon_greedy_worked_by_hand():
    value, mask = torch.tensor([5.0, 2.0, 9.0, 1.0]), torch.tensor([True, True, False, True])
    dist = epsilon_greedy(value, torch.tensor(0.3), mask)
    assert dist.log_probs.exp().tolist() == pytest.approx([0.8, 0.1, 0.0, 0.1])
    assert dist.mode().item() == 0
    assert epsilon_greedy(value, torch.tensor(1.0), mask).mode().item() == 0
    assert epsilon_greedy(value, torch.tensor(0.0), mask).entropy().item() == pytest.approx(0)


def test_pqn_refuses_box_actions():
    with pytest.raises(UsageError, match="pqn needs Discrete actions"):
        make("PQN", "Pendulum-v1")
