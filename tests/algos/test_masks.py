"""Action masks: a forbidden action is never taken, and its value never counts."""

import gymnasium as gym
import numpy as np
import pytest
import torch

import retain
from retain.data.replay import ACTED
from retain.errors import UsageError

SMALL = {"num_steps": 32, "hidden": (16,), "memory_hidden": 8, "gamma": 0.9, "seed": 3,
         "num_envs": 2, "normalise_obs": True}  # fmt: skip
REPLAY = {"learning_starts": 40, "batch_size": 32, "buffer_size": 2000, "sequence_length": 8,
          "update_ratio": 0.1}  # fmt: skip
OFF_POLICY = [("DQN", {"double": True}), ("DQN", {"double": False, "dueling": True}),
              ("QRDQN", {"quantiles": 5}), ("SAC", {}), ("SAC", {"memory_owner": "separate"})]  # fmt: skip
HUGE = 1e6


class Masked(gym.Env):
    """Four actions, of which the last never and another by turns is forbidden; what follows the
    end allows nothing. Taking a forbidden one raises."""

    observation_space = gym.spaces.Dict({
        "see": gym.spaces.Box(-np.inf, np.inf, (2,), np.float32),
        "action_mask": gym.spaces.MultiBinary(4),
    })  # fmt: skip
    action_space = gym.spaces.Discrete(4, start=2)

    def _obs(self, over=False):
        self.mask = np.array([1, 1, 1, 0], np.int8) * (not over)
        self.mask[self.t % 3] = 0
        return {"see": self.np_random.normal(size=2).astype(np.float32), "action_mask": self.mask}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.length = 0, 3 + int(self.np_random.integers(5))
        return self._obs(), {}

    def step(self, action):
        if not self.mask[action - 2]:
            raise ValueError(f"action {action} is forbidden")
        self.t += 1
        over = self.t == self.length
        return self._obs(over), float(action), over, False, {}


def make(algo, memory="none", **changes):
    settings = SMALL | (REPLAY if algo != "PQN" else {}) | {"memory": memory}
    return getattr(retain, algo).exactly(Masked, settings | changes)


def prefer_the_forbidden(agent):
    """Networks that would always take the action that is never allowed."""
    nets = agent.policy
    with torch.no_grad():
        if hasattr(nets, "values"):
            nets.values.out.bias[3] = HUGE
            return
        for critic in (nets.critic, nets.target_critic):
            bias = list(critic.net.parameters())[-1]
            bias.view(critic.count, -1, 4 + critic.dueling)[..., -1] = HUGE
        if nets.actor is not None:
            list(nets.actor.net.parameters())[-1][..., 3] = HUGE


@pytest.mark.parametrize("memory", ["none", "lstm", "window"])
@pytest.mark.parametrize(("algo", "changes"), [*OFF_POLICY, ("PQN", {})])
def test_a_forbidden_action_is_never_taken(algo, changes, memory):
    """At random, exploring, and greedily, whatever the values say."""
    agent = make(algo, memory, **changes)
    prefer_the_forbidden(agent)
    for _ in range(3):
        agent.iterate(lambda: 0.9)
    assert agent.update.gradient_steps > 0
    assert agent.collector.incidents.take() == []
    if algo != "PQN":
        replay = agent.replay
        rows = np.argwhere(replay.flags & ACTED)
        taken = replay.action.numpy()[tuple(rows.T)]
        assert replay.obs["action_mask"][(*rows.T, taken)].all()
        assert len(rows) > 150
        assert set(taken) == {0, 1, 2}
    prefer_the_forbidden(agent)
    obs = {"see": np.zeros((4, 2), np.float32), "action_mask": np.ones((4, 4), np.int8)}
    obs["action_mask"][:, 3] = 0
    for deterministic in (True, False):
        action, _ = agent.act(obs, deterministic=deterministic, reward=0.0)
        assert (action < 5).all()


@pytest.mark.parametrize("memory", ["none", "lstm"])
@pytest.mark.parametrize(("algo", "changes"), OFF_POLICY)
def test_the_huge_value_of_a_forbidden_action_enters_no_target(algo, changes, memory):
    agent = make(algo, memory, **changes)
    for _ in range(2):
        agent.iterate(lambda: 0.0)
    prefer_the_forbidden(agent)
    if changes.get("dueling"):  # a mean over all advantages would move every value
        agent.policy.target_critic.dueling = agent.policy.critic.dueling = False
        agent.policy.target_critic.forward = agent.policy.critic.forward = lambda x, *a, **k: (
            torch.tensor([0.0, 0.0, 0.0, HUGE]).expand(1, *x.shape[:-1], 4))  # fmt: skip
    batch = agent.update.batch(0.0)
    target = agent.update.target(batch)
    counted = target if batch.mask is None else target[batch.mask]
    assert torch.isfinite(target).all()
    assert counted.abs().max() < 100
    if agent.policy.actor is not None:
        loss, terms = agent.update.actor_loss(batch, agent.update.actor_features(batch))
        assert abs(loss.item()) < 100
        assert 0 <= terms["entropy"].item() <= np.log(2) + 1e-5  # of the two that are allowed
        loss.backward()
        assert all(p.grad is None or torch.isfinite(p.grad).all()
                   for p in agent.policy.parameters())  # fmt: skip


def test_pqns_targets_take_the_best_allowed_action():
    agent = make("PQN", "lstm")
    prefer_the_forbidden(agent)
    rollout = agent.collector.collect(32)
    assert rollout.value.abs().max() < 100
    assert agent.update.targets(rollout)[1].abs().max() < 100


@pytest.mark.parametrize("algo", ["DQN", "PQN"])
def test_masks_work_under_workers(algo):
    one, two = make(algo, "lstm"), make(algo, "lstm", workers=2)
    for agent in (one, two):
        for _ in range(2):
            agent.iterate(lambda: 0.0)
    assert two.collector.incidents.take() == []
    for a, b in zip(
        one.policy.state_dict().values(), two.policy.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b)


def test_sacs_target_entropy_is_of_the_actions_that_are_allowed():
    agent = make("SAC")
    for _ in range(2):
        agent.iterate(lambda: 0.0)
    batch = agent.update.batch(0.0)
    assert agent.update.goal(batch).item() == pytest.approx(0.89 * np.log(2))


class MaskedBox(Masked):
    action_space = gym.spaces.Box(-1, 1, (2,), np.float32)


def test_a_mask_of_box_actions_is_refused():
    with pytest.raises(UsageError, match="action mask cannot apply to the action space Box"):
        retain.TD3(MaskedBox)
