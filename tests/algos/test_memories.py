"""Every registered memory in every algorithm: it trains, acting and training agree, a run resumes."""

import shutil

import pytest
import torch

import retain
from retain.errors import UsageError
from retain.memory import MEMORIES
from retain.train import checkpoint as store
from retain.train.resume import resume

NAMES = sorted(MEMORIES)
KERNELS = [*((name, "torch") for name in NAMES), *((name, "native") for name in NAMES)]
NETWORK = {"memory_hidden": 16, "hidden": (16,), "num_envs": 2, "seed": 3}
OFF_POLICY = NETWORK | {"learning_starts": 20, "num_steps": 40, "batch_size": 32,
                        "buffer_size": 2000, "sequence_length": 8, "update_ratio": 0.1}  # fmt: skip
ON_POLICY = NETWORK | {"num_steps": 32, "batch_size": 64, "epochs": 1,
                       "sequence_length": None, "normalise_obs": True}  # fmt: skip


def make(algo, env, **settings):
    """An agent with those of the settings that mean anything for its memory."""
    kind = getattr(retain, algo)
    return kind(env, **kind.useful(settings, env))


@pytest.mark.parametrize(("name", "kernels"), KERNELS)
def test_at_learning_rate_zero_every_ratio_is_one(name, kernels):
    cut = {"sequence_length": 16} if name != "none" else {}  # without a memory nothing is cut
    settings = ON_POLICY | cut | {
        "learning_rate": 0.0, "num_envs": 4, "memory_layers": 2, "kernels": kernels,
    }  # fmt: skip
    agent = make("PPO", "CartPoleNoVel-v1", memory=name, **settings)
    for _ in range(3):
        rollout = agent.collector.collect(32)
        assert agent.update.update(rollout, 0.0)["max_log_ratio"] < 1e-5


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("algo", "env"),
    [("SAC", "PendulumNoVel-v1"), ("TD3", "PendulumNoVel-v1"), ("DQN", "CartPoleNoVel-v1")],
)
def test_every_memory_learns_from_a_replay(name, algo, env):
    agent = make(algo, env, memory=name, **OFF_POLICY)
    before = {k: v.clone() for k, v in agent.policy.critic.torso.memory.named_parameters()}
    agent.learn(160)
    assert agent.update.gradient_steps > 3
    for key, parameter in agent.policy.critic.torso.memory.named_parameters():
        assert torch.isfinite(parameter).all()
        assert not torch.equal(parameter, before[key]), key


@pytest.mark.parametrize(
    ("name", "kernels"), [*KERNELS[: len(NAMES)], ("lstm", "native"), ("none", "native")]
)
@pytest.mark.parametrize("algo", ["PPO", "SAC"])
def test_a_run_resumes_bit_identically(name, kernels, algo, tmp_path):
    settings = (ON_POLICY if algo == "PPO" else OFF_POLICY) | {
        "checkpoint_every": 1, "tensorboard": False, "keep": 10, "kernels": kernels,
    }  # fmt: skip
    steps = 64 * 4 if algo == "PPO" else 80 * 4
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    make(algo, "CartPoleNoVel-v1", memory=name, **settings).learn(steps, out=whole)
    saved = store.checkpoints(whole)
    shutil.copytree(whole, cut)
    for folder in store.checkpoints(cut)[-2:]:
        shutil.rmtree(folder)
    again = resume(cut)
    assert again.config.kernels == kernels
    assert len(store.checkpoints(cut)) == len(saved) > 3
    last = store.load_tensors(saved[-1], store.MODEL)
    for key, value in again.policy.state_dict().items():
        assert torch.equal(value, last[key]), key


def test_carries_that_dwarf_the_observations_are_refused():
    settings = {"memory": "delta", "buffer_size": 1_000_000}
    with pytest.raises(UsageError, match=r"store 1,\d\d\d MiB of carries for 8 MiB .* at most 256"):
        retain.SAC("PendulumNoVel-v1", **settings)
    retain.SAC("PendulumNoVel-v1", **settings, store_carries=False, burn_in=8)
    retain.SAC("PendulumNoVel-v1", **settings | {"buffer_size": 100_000})
    retain.SAC("PendulumNoVel-v1", **settings, sequence_length=256)


def test_pieces_from_nothing_store_nothing_and_burn_in():
    """The features of a piece's losses are those of an unroll that began `burn_in` steps early."""
    agent = retain.SAC(
        "PendulumNoVel-v1", memory="mingru", store_carries=False, burn_in=5, **OFF_POLICY
    )
    agent.learn(160)
    assert agent.replay.carry is None
    batch = agent.update.batch(0.0)
    assert batch.before == 5
    assert batch.sample.reset.shape[0] == 5 + 8 + 1
    torso, carry = agent.policy.critic.torso, batch.carries[0]
    assert not any(leaf.any() for leaf in carry)
    obs, previous, reset = batch.part(0)
    whole = torso.forward(obs, previous, carry, reset)[0]
    torch.testing.assert_close(batch.features, whole[5:13], atol=1e-5, rtol=1e-5)
    with pytest.raises(UsageError, match="store_carries False would do nothing"):
        retain.SAC("PendulumNoVel-v1", memory="attention", store_carries=False, **OFF_POLICY)
