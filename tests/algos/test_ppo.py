"""PPO over the timeline: parity of acting and training, boundaries, the safe step."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import retain
from retain.algos.adam import SWEEP, Adam
from retain.algos.optim import SafeStep, check_ownership
from retain.algos.ppo import PPOConfig
from retain.algos.schedules import scheduled
from retain.errors import NonFiniteError, UsageError

PLAIN = {
    "num_envs": 4,
    "num_steps": 32,
    "batch_size": 64,
    "hidden": (16,),
    "previous_action": False,
}
BASE = PLAIN | {"memory_hidden": 16}


def parity(agent, segments=6):
    """Largest |log ratio| of any minibatch over several segments."""
    worst = 0.0
    before = {k: v.clone() for k, v in agent.policy.named_parameters()}
    for _ in range(segments):
        rollout = agent.collector.collect(agent.config.num_steps)
        metrics = agent.update.update(rollout, 0.0)
        worst = max(worst, metrics["max_log_ratio"])
    for name, parameter in agent.policy.named_parameters():
        assert torch.equal(parameter, before[name]), name
    return worst


@pytest.mark.parametrize(
    ("memory", "sequence_length"),
    [("none", None), ("lstm", None), ("lstm", 8), ("gru", None), ("gru", 8), ("window", 8)],
)
@pytest.mark.parametrize("env", ["CartPoleNoVel-v1", "PendulumNoVel-v1"])
def test_at_learning_rate_zero_every_ratio_is_one(memory, env, sequence_length):
    settings = BASE | {
        "memory": memory, "learning_rate": 0.0, "normalise_obs": True,
        "sequence_length": sequence_length,
    }  # fmt: skip
    assert parity(retain.PPO(env, **retain.PPO.useful(settings))) < 1e-5


@pytest.mark.parametrize(
    "changes",
    [
        {"separate_memory": True, "shortcut": True, "memory_layers": 2},
        {"previous_action": True, "previous_reward": True},
        {"use_sde": True, "sde_sample_freq": 3},
        {"squash": True, "entropy_coef": 0.1},
        {"refresh_carries": True, "sequence_length": 8, "encoder_hidden": (16,)},
        {"memory": "window", "summary": "stack", "previous_action": True, "previous_reward": True},
        {"memory": "window", "summary": "attention", "window": 5, "sequence_length": 8},
    ],
    ids=lambda changes: "-".join(changes),
)
def test_parity_holds_for_every_network_option(changes):
    settings = BASE | {
        "memory": "lstm", "learning_rate": 0.0, "native": False, "sequence_length": None,
        "use_sde": False,
    }  # fmt: skip
    settings |= changes
    assert parity(retain.PPO("PendulumNoVel-v1", **settings)) < 1e-5


def test_a_stale_carry_breaks_parity():
    """The parity check can fail: with zeros for the stored carries it does."""
    agent = retain.PPO("CartPoleNoVel-v1", **BASE, memory="lstm", learning_rate=0.0)
    for _ in range(4):
        rollout = agent.collector.collect(32)
        zeros = tuple(agent.policy.initial_carry(4) for _ in rollout.carries)
        metrics = agent.update.update(replace(rollout, carries=zeros), 0.0)
    assert metrics["max_log_ratio"] > 1e-5


def test_chunks_carry_what_acting_left():
    agent = retain.PPO("CartPoleNoVel-v1", **BASE, memory="lstm", sequence_length=8)
    agent.collector.collect(32)
    rollout = agent.collector.collect(32)
    obs = agent.policy.prepare(rollout.obs)
    sequences = rollout.sequences(obs=obs, advantage=rollout.value, target=rollout.value)
    assert len(sequences) == 16
    assert sequences.reset.shape == (8, 16)
    dist, value, _ = agent.policy(sequences.obs, sequences.carry, sequences.reset)
    torch.testing.assert_close(value, sequences.value, atol=1e-6, rtol=0)
    torch.testing.assert_close(
        dist.log_prob(sequences.action), sequences.log_prob, atol=1e-6, rtol=0
    )


def test_steps_of_one_environment_stay_together_through_the_cut():
    agent = retain.PPO("CartPoleNoVel-v1", **BASE, memory="lstm", sequence_length=8)
    rollout = agent.collector.collect(32)
    tags = torch.arange(32 * 4, dtype=torch.float32).view(32, 4)  # t * 4 + environment
    sequences = rollout.sequences(obs=tags, advantage=tags, target=tags)
    order = sequences.order(3, torch.Generator().manual_seed(0))
    shuffled = list(sequences.minibatches(3, order))
    assert sum(len(part) for part in shuffled) == 16
    seen = torch.cat([part.obs for part in shuffled], dim=1)
    assert torch.all(seen[1:] - seen[:-1] == 4)  # next step, same environment
    assert sorted(seen.flatten().tolist()) == list(range(128))


def test_minibatches_are_reshuffled_and_cover_everything():
    agent = retain.PPO("CartPole-v1", **PLAIN)
    rollout = agent.collector.collect(32)
    tags = torch.arange(128.0).view(32, 4)
    sequences = rollout.sequences(obs=tags, advantage=tags, target=tags)
    generator = torch.Generator().manual_seed(0)
    first, second = (
        torch.cat([part.obs[0] for part in sequences.minibatches(50, order)]).tolist()
        for order in (sequences.order(50, generator), sequences.order(50, generator))
    )
    assert sorted(first) == sorted(second) == list(range(128))
    assert first != second


def test_refreshed_carries_are_those_of_the_current_parameters():
    agent = retain.PPO("CartPoleNoVel-v1", **BASE, memory="gru", sequence_length=8)
    rollout = agent.collector.collect(32)
    with torch.no_grad():
        for parameter in agent.policy.parameters():
            parameter.mul_(1.1)
    refreshed = agent.update._refreshed(rollout, agent.policy.prepare(rollout.obs))
    _, whole, _ = agent.policy(rollout.obs, rollout.carries[0], rollout.reset)
    sequences = refreshed.sequences(obs=rollout.obs, advantage=whole, target=whole)
    _, value, _ = agent.policy(sequences.obs, sequences.carry, sequences.reset)
    torch.testing.assert_close(value, sequences.target, atol=1e-6, rtol=0)
    stale = rollout.sequences(obs=rollout.obs, advantage=whole, target=whole)
    _, value, _ = agent.policy(stale.obs, stale.carry, stale.reset)
    assert (value - stale.target).abs().max() > 1e-4


@pytest.mark.parametrize(("memory", "calls"), [("none", 3), ("lstm", 3), ("attention", 33)])
def test_normaliser_is_the_same_for_acting_and_training_and_moves_only_after(memory, calls):
    agent = retain.PPO("CartPole-v1", **PLAIN, memory=memory, normalise_obs=True)
    seen = []
    forward = agent.policy.normaliser.forward

    def spy(obs):
        seen.append(agent.policy.normaliser.entries["entry_0"].mean.clone())
        return forward(obs)

    agent.policy.normaliser.forward = spy
    rollout = agent.collector.collect(32)
    agent.update.update(rollout, 0.0)
    assert len(seen) >= calls
    assert all(torch.equal(mean, seen[0]) for mean in seen)
    mean = agent.policy.normaliser.entries["entry_0"].mean
    torch.testing.assert_close(mean, rollout.obs.double().mean((0, 1)))


def test_non_finite_gradient_stops_before_the_step_and_names_the_tensor():
    agent = retain.PPO("CartPole-v1", **PLAIN)
    rollout = agent.collector.collect(32)
    broken = rollout.reward.clone()
    broken[3, 1] = float("nan")
    before = {k: v.clone() for k, v in agent.policy.named_parameters()}
    with pytest.raises(NonFiniteError, match=r"policy_loss is not finite") as caught:
        agent.update.update(replace(rollout, reward=broken), 0.0)
    assert torch.isnan(caught.value.batch["advantage"]).any()
    for name, parameter in agent.policy.named_parameters():
        assert torch.equal(parameter, before[name])
    assert agent.update.gradient_steps == 0


def test_non_finite_run_saves_the_minibatch_and_keeps_checkpoints(tmp_path):
    from safetensors.torch import load_file

    agent = retain.PPO("CartPole-v1", **PLAIN, checkpoint_every=128)
    collect = agent.collector.collect

    def poisoned(steps):
        rollout = collect(steps)
        if agent.steps > 400:
            rollout = replace(rollout, reward=rollout.reward * float("inf"))
        return rollout

    agent.collector.collect = poisoned
    with pytest.raises(NonFiniteError, match="non_finite_batch"):
        agent.learn(2000, out=tmp_path)
    assert "advantage" in load_file(tmp_path / "non_finite_batch.safetensors")
    assert retain.load(tmp_path).steps == 384  # the last whole update before the poison


def test_the_entropy_in_the_loss_is_the_analytic_one():
    agent = retain.PPO("CartPole-v1", **PLAIN, entropy_coef=0.5)
    rollout = agent.collector.collect(32)
    sequences = rollout.sequences(obs=rollout.obs, advantage=rollout.value, target=rollout.value)
    found = agent.update.loss(sequences, 0.0)
    loss, terms = found.total, found.terms
    dist, _, _ = agent.policy(sequences.obs, sequences.carry, sequences.reset)
    assert terms["entropy"].item() == pytest.approx(dist.entropy().mean().item(), abs=1e-7)
    whole = terms["policy_loss"] + agent.config.value_coef * terms["value_loss"]
    assert (whole - loss).item() == pytest.approx(0.5 * terms["entropy"].item(), abs=1e-6)


def test_every_parameter_has_exactly_one_optimizer():
    module = torch.nn.Linear(2, 2)
    one = Adam([module.weight], lr=0.1, eps=1e-8)
    with pytest.raises(UsageError, match="parameter bias belongs to 0 optimizers"):
        SafeStep(module, one, None)
    both = Adam(module.parameters(), lr=0.1, eps=1e-8)
    with pytest.raises(UsageError, match="parameter weight belongs to 2 optimizers"):
        check_ownership(module, one, both)


def test_gradient_norm_is_clipped_to_the_bound():
    module = torch.nn.Linear(3, 1)
    step = SafeStep(module, Adam(module.parameters(), lr=0.0, eps=1e-8), 0.5)
    norms, norm = step(100 * module(torch.ones(1, 3)).sum(), 0.0)
    after = torch.cat([p.grad.flatten() for p in module.parameters()]).norm()
    assert norm.item() == pytest.approx(200.0)
    assert norms.tolist() == pytest.approx([100 * 3**0.5, 100.0])
    assert after.item() == pytest.approx(0.5, abs=1e-5)
    moment = [slot["exp_avg"].clone() for slot in step.optimizer.state.values()]
    for _ in range(2):
        step(100 * module(torch.ones(1, 3)).sum(), 0.0)
        after = torch.cat([p.grad.flatten() for p in module.parameters()]).norm()
        assert after.item() == pytest.approx(0.5, abs=1e-5)
        for p, slot, before in zip(
            module.parameters(), step.optimizer.state.values(), moment, strict=True
        ):
            before.lerp_(p.grad, 0.1)
            torch.testing.assert_close(slot["exp_avg"], before)
    _, norm = step(0.01 * module(torch.ones(1, 3)).sum(), 0.0)
    assert norm.item() == pytest.approx(0.02)
    after = torch.cat([p.grad.flatten() for p in module.parameters()]).norm()
    assert after.item() == pytest.approx(0.02)  # left alone


@pytest.mark.parametrize("max_norm", [None, 0.5, 100.0])
def test_the_native_step_is_torchs(max_norm):
    found = {}
    for kernels in ("torch", "native"):
        torch.manual_seed(0)
        module = torch.nn.Sequential(
            torch.nn.Linear(5, 33), torch.nn.Tanh(), torch.nn.Linear(33, 3)
        )
        optimizer = Adam(module.parameters(), lr=0.01, eps=1e-5)
        step = SafeStep(module, optimizer, max_norm, kernels=kernels)
        norms = []
        for count in range(20):
            before = [parameter.clone() for parameter in module.parameters()]
            loss = module(torch.randn(8, 5)).square().sum()
            skip = torch.tensor(count == 7)
            each, whole = step(loss, 0.01, skip=skip)
            norms.append(torch.cat((each, whole.unsqueeze(0))))
            if count == 7:
                assert all(map(torch.equal, module.parameters(), before))
        assert not step.broken
        state = optimizer.tensors()
        assert state["0.step"] == 19
        loss = module(torch.full((8, 5), torch.nan)).sum()
        before = [parameter.clone() for parameter in module.parameters()]
        for _ in range(2):
            step(loss, 0.01)
            loss = module(torch.ones(8, 5)).sum()
        assert step.broken == 1
        assert all(map(torch.equal, module.parameters(), before))
        found[kernels] = [torch.stack(norms), *before, *state.values()]
    for ours, theirs in zip(found["native"], found["torch"], strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-6, rtol=1e-5)


def test_a_native_step_that_reaches_some_parameters_is_torchs():
    weights = {}
    for kernels in ("torch", "native"):
        torch.manual_seed(0)
        module = torch.nn.ModuleList(torch.nn.Linear(3, 2) for _ in range(2))
        step = SafeStep(module, Adam(module.parameters(), lr=0.1, eps=1e-8), 1.0, kernels=kernels)
        for reached in (1, 1, 2):
            step(sum(one(torch.ones(1, 3)).sum() for one in module[:reached]), 0.1)
        weights[kernels] = [*module.parameters()]
    assert all(map(torch.equal, weights["native"], weights["torch"]))


@pytest.mark.parametrize("alone", [None, 0, 2])
def test_quick_adam_steps_as_torchs_does(alone):
    """Also where one step reaches only some parameters, whose counts of steps differ then."""
    torch.manual_seed(0)
    ours, theirs = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    theirs.load_state_dict(ours.state_dict())
    quick = Adam(ours.parameters(), lr=0.1, eps=1e-5)
    plain = torch.optim.Adam(theirs.parameters(), lr=0.1, eps=1e-5, fused=True)
    for number in range(6):
        x = torch.randn(4, 3)
        for module in (ours, theirs):
            module.zero_grad()
            if number == alone:
                module.weight.square().sum().backward()
            else:
                module(x).square().sum().backward()
            if number == alone:
                module.bias.grad = None
        if number == 3:  # a checkpoint in between
            quick.load_state_dict(quick.state_dict())
        quick.param_groups[0]["lr"] = plain.param_groups[0]["lr"] = 0.1 / (number + 1)
        quick.quick_step([p.grad for p in ours.parameters()], rate=0.1 / (number + 1))
        plain.step()
        assert torch.equal(ours.weight, theirs.weight)
        assert torch.equal(ours.bias, theirs.bias)


@pytest.mark.parametrize("how", ["eager", "compiled", "native"])
def test_moments_of_a_parameter_that_no_longer_learns_become_zero(how, monkeypatch):
    """Not numbers too small for the processor's full speed, where 0.9 ** n would leave them."""
    module = torch.nn.Linear(40, 3)
    adam = Adam(module.parameters(), lr=1e-3, eps=1e-8)
    first = [torch.rand_like(p) - 0.5 for p in module.parameters()]
    first[0][0] *= 1e-20  # its square is such a number at once
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: how == "compiled")
    smallest = torch.finfo(torch.float32).tiny
    for number in range(1100):
        gradients = [g * (number == 0) for g in first]
        if how == "native":
            adam.native_step(
                gradients, loss=torch.zeros(()), rate=1e-3, skip=None, broken=torch.zeros(()),
                max_norm=None,
            )  # fmt: skip
        else:
            adam.quick_step(gradients, rate=1e-3)
        for slot in adam.state.values() if number >= SWEEP else ():
            for moment in (slot["exp_avg"], slot["exp_avg_sq"]):
                assert not ((moment != 0) & (moment.abs() < smallest)).any(), number
    assert not adam.state[module.weight]["exp_avg"].any()
    assert adam.state[module.weight]["exp_avg_sq"][1:].all()


def test_kl_bound_ends_the_update():
    agent = retain.PPO("CartPole-v1", **PLAIN, learning_rate=0.1, target_kl=0.001, epochs=10)
    agent.update.update(agent.collector.collect(32), 0.0)
    assert 0 < agent.update.gradient_steps < 20


def test_linear_schedule_falls_to_zero():
    assert scheduled(2.0, "linear", 0.25) == 1.5
    assert scheduled(2.0, "linear", 1.0) == 0.0
    assert scheduled(2.0, "constant", 0.9) == 2.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gamma": 1.5}, "gamma is 1.5"),
        ({"value_clip": 0.0}, "value_clip is 0.0 .*or None"),
        ({"memory": "lstm", "sequence_length": 7}, "does not divide num_steps 128; nearest .* 8"),
        ({"memory": "lstm", "batch_size": 200}, "batch_size 200 .*nearest that is: 256"),
        ({"num_steps": 0}, "num_steps is 0"),
    ],
)
def test_meaningless_settings_are_refused_with_the_nearest_valid(changes, message):
    with pytest.raises(UsageError, match=message):
        PPOConfig(**changes)


def test_value_clip_is_reported_in_an_update():
    agent = retain.PPO("CartPole-v1", **PLAIN, value_clip=1e-4, learning_rate=0.01)
    metrics = agent.update.update(agent.collector.collect(32), 0.0)
    assert metrics["value_clip_fraction"] > 0.5
    plain = retain.PPO("CartPole-v1", **PLAIN, learning_rate=0.01)
    assert plain.update.update(plain.collector.collect(32), 0.0)["value_clip_fraction"] == 0.0


def test_reward_normaliser_equals_the_definition():
    agent = retain.PPO("PendulumNoVel-v1", **(PLAIN | {"normalise_reward": True, "gamma": 0.9}))
    running, returns = np.zeros(4), []
    for _ in range(8):
        rollout = agent.collector.collect(32)
        boundary = (rollout.terminated | rollout.truncated).numpy()
        for reward, ended in zip(rollout.reward.numpy(), boundary, strict=True):
            running = running * 0.9 + reward
            returns.append(running.copy())
            running[ended] = 0
        scaled = agent.update.reward_normaliser(rollout.reward, torch.from_numpy(boundary))
        expected = rollout.reward.numpy() / np.sqrt(np.var(returns) + 1e-8)
        np.testing.assert_allclose(scaled.numpy(), expected, rtol=1e-4)
