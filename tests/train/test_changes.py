"""Settings over an agent's life: what may change, when, and what the line says where not."""

import csv

import pytest
import torch

import retain
from retain.algos import schedules
from retain.cli import main as cli
from retain.errors import UsageError
from retain.train.changes import fixed
from retain.train.checkpoint import read_json
from retain.types import restore_generator

SMALL = {"num_envs": 2, "num_steps": 16, "batch_size": 16, "preset": "none", "seed": 3}


@pytest.mark.parametrize(
    ("assign", "name"),
    [
        (lambda a: setattr(a, "config", a.config), "config"),
        (lambda a: setattr(a, "learning_rate", 1e-4), "learning_rate"),
        (lambda a: setattr(a.config, "learning_rate", 1e-4), "learning_rate"),
    ],
)
def test_assigning_a_setting_is_refused_rather_than_ignored(assign, name):
    agent = retain.PPO("CartPole-v1", **SMALL)
    with pytest.raises(
        UsageError, match=rf"{name} cannot be assigned.*retain.load\(path, learning"
    ):
        assign(agent)
    agent.note = "people may keep things of their own"


def learned(kind, parts, of=None, **settings):
    """An agent that learned in several calls, and the learning rates it was stepped with."""
    agent = kind("CartPole-v1", **settings)
    for steps in parts:
        agent.learn(steps, of=of)
    return agent


def same(one, two):
    state = two.policy.state_dict()
    return all(value.equal(state[name]) for name, value in one.policy.state_dict().items())


OFF = {"preset": "none", "learning_starts": 20, "num_steps": 30, "batch_size": 16, "hidden": (8,)}


@pytest.mark.parametrize(
    ("kind", "settings", "parts"),
    [
        (retain.PPO, SMALL | {"clip_schedule": "linear", "entropy_schedule": "linear"}, (64, 32, 64)),
        (retain.DQN, OFF | {"seed": 2, "exploration_fraction": 0.9}, (45, 30, 85)),
    ],
)  # fmt: skip
def test_several_calls_of_learn_share_one_schedule(kind, settings, parts, tmp_path):
    whole = learned(kind, [sum(parts)], **settings)
    shared = learned(kind, parts, of=sum(parts), **settings)
    assert shared.steps == whole.steps == sum(parts)
    assert same(whole, shared)
    assert not same(whole, learned(kind, parts, **settings))
    saved = learned(kind, parts[:1], of=sum(parts), **settings)
    saved.save(tmp_path / "agent")
    again = retain.load(tmp_path / "agent")
    for steps in parts[1:]:
        again.learn(steps, of=sum(parts))
    assert same(whole, again)


def test_an_end_of_schedules_that_is_past_is_refused():
    agent = learned(retain.PPO, [64], **SMALL)
    with pytest.raises(UsageError, match="of is 64, but 64 steps are done"):
        agent.learn(32, of=64)


def test_a_loaded_agent_learns_on_with_another_rate_and_keeps_its_optimizer(tmp_path):
    agent = learned(retain.PPO, [64], **SMALL, lr_schedule="constant")
    agent.save(tmp_path / "agent")
    again = retain.load(tmp_path / "agent", learning_rate=1e-5, epochs=2, hidden=[64, 64])
    assert (again.config.learning_rate, again.config.epochs) == (1e-5, 2)
    before, after = (a.update.state()[0] for a in (agent, again))
    moments = [name for name in before if name.endswith("exp_avg")]
    assert moments
    assert all(before[name].equal(after[name]) for name in moments)
    again.learn(32)
    unmoved = max(float((a - b).detach().abs().max()) for a, b in
                  zip(agent.policy.parameters(), again.policy.parameters(), strict=True))  # fmt: skip
    assert 0 < unmoved < 32 * 1e-5
    again.save(tmp_path / "later")
    assert retain.load(tmp_path / "later").config.learning_rate == 1e-5


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        (retain.PPO, {"hidden": [8]}, r"hidden stays \(64, 64\): the saved networks are built with it"),
        (retain.PPO, {"seed": 4}, "seed stays 3: every episode's seed derives from it"),
        (retain.PPO, {"num_envs": 4}, "num_envs stays 2: the saved episodes are played with it"),
        (retain.PPO, {"time_limit": 4}, "time_limit stays None: the saved episodes"),
        (retain.PPO, {"normalise_reward": True}, "normalise_reward stays False"),
        (retain.PPO, {"learning_rat": 4}, "did you mean 'learning_rate'"),
        (retain.PPO, {"clip_coef": 4}, "CleanRL's name for clip_range"),
        (retain.PPO, {"epochs": 0}, "epochs is 0"),
        (retain.PPO, {"sequence_length": 8}, "sequence_length 8 would do nothing: there is no memory"),
        (retain.DQN, {"n_step": 3}, r"n_step stays 1: the saved replay.*may change: learning_rate"),
        (retain.DQN, {"dueling": True}, "dueling stays False: the saved networks"),
        (retain.DQN, {"priority_beta": 0.5}, "priority_beta 0.5 would do nothing: prioritized is"),
    ],
)  # fmt: skip
def test_what_cannot_change_is_told_with_the_reason(kind, changes, message, tmp_path):
    settings = SMALL if kind is retain.PPO else {"preset": "none"}
    kind("CartPole-v1", **settings).save(tmp_path / "agent")
    with pytest.raises(UsageError, match=message):
        retain.load(tmp_path / "agent", **changes)


def test_every_setting_of_an_algorithm_but_its_networks_can_be_told_apart():
    free = {name for name in retain.DQN.config_kind.__dataclass_fields__
            if name not in fixed(retain.DQN.config_kind)}  # fmt: skip
    assert {"learning_rate", "lr_schedule", "batch_size", "gamma", "tau", "epsilon"} <= free
    assert not free & {"memory", "hidden", "normalise_obs", "buffer_size", "burn_in", "dueling"}


def test_a_run_goes_on_with_what_was_changed_for_good(tmp_path, capsys):
    run = tmp_path / "run"
    settings = SMALL | {"checkpoint_every": 64, "lr_schedule": "constant"}
    retain.PPO("CartPole-v1", **settings).learn(128, out=run)
    retain.resume(run, steps=192, learning_rate=1e-4)
    assert read_json(run / "config.json")["ppo"]["learning_rate"] == 1e-4
    assert cli.run(["resume", str(run), "--steps", "256", "--entropy-coef", "0.5"]) == 0
    capsys.readouterr()
    with (run / "metrics.csv").open() as file:
        rates = [float(row["learning_rate"]) for row in csv.DictReader(file)]
    assert rates == [2.5e-4] * 4 + [1e-4] * 4
    agent = retain.load(run)
    assert (agent.config.learning_rate, agent.config.entropy_coef) == (1e-4, 0.5)
    for line, message in (
        ("--hidden 8", "hidden stays (64, 64): the saved networks are built with it"),
        ("--learning-rat 8", "did you mean '--learning-rate'"),
        ("--n-epochs 8", "Stable-Baselines3's name for --epochs"),
        ("--epochs 0 --steps 999", "epochs is 0"),
    ):
        assert cli.run(["resume", str(run), *line.split()]) == 2
        assert message in capsys.readouterr().err


def warm(progress):
    return 0.5 + progress


def test_a_schedule_is_a_name_or_any_function(tmp_path):
    def rates(**changes):
        agent = retain.PPO("CartPole-v1", **SMALL, learning_rate=1.0e-3, **changes)
        seen = []
        for share in (0.0, 0.5, 1.0):
            seen.append(agent.iterate(lambda share=share: share)["learning_rate"])
        return pytest.approx(seen)

    assert rates(lr_schedule="linear") == [1e-3, 5e-4, 0]
    assert rates(lr_schedule="cosine") == [1e-3, 5e-4, 0]
    assert rates(lr_schedule="constant") == [1e-3] * 3
    assert rates(lr_schedule=warm) == [5e-4, 1e-3, 1.5e-3]
    with pytest.raises(UsageError, match=r"unknown schedule 'cosin'; did you mean 'cosine'"):
        rates(clip_schedule="cosin")
    with pytest.raises(UsageError, match=r"gives -1.0 at 0 of the run"):
        rates(entropy_schedule=lambda progress: -1.0)
    agent = retain.DQN("CartPole-v1", **OFF, lr_schedule=lambda progress: 1 - progress**2)
    assert agent.learn(60).update.state() is not None
    agent.save(tmp_path / "agent")
    assert retain.load(tmp_path / "agent").config.lr_schedule == agent.config.lr_schedule


def test_a_function_of_another_process_is_asked_for_when_training_needs_it(tmp_path):
    agent = retain.PPO("CartPole-v1", **SMALL, lr_schedule=lambda progress: 1.0)
    agent.save(tmp_path / "agent")
    schedules._given.clear()
    again = retain.load(tmp_path / "agent")
    again.act([0.0] * 4)
    with pytest.raises(UsageError, match=r"pass it again, e.g. retain.load\(path, lr_schedule"):
        again.learn(32)
    retain.load(tmp_path / "agent", lr_schedule=warm).learn(32)


def test_a_generator_of_another_kind_of_device_leaves_ours_as_it_was_seeded():
    ours, other = torch.Generator().manual_seed(3), torch.Generator().manual_seed(4)
    restore_generator(ours, torch.zeros(16, dtype=torch.uint8))  # as a GPU's
    assert torch.rand(1, generator=ours) == torch.rand(
        1, generator=torch.Generator().manual_seed(3)
    )
    restore_generator(ours, other.get_state())
    assert torch.rand(1, generator=ours) == torch.rand(1, generator=other)


def test_off_policy_rates_follow_their_schedule():
    agent = retain.DQN("CartPole-v1", **OFF, lr_schedule="linear", learning_rate=1e-3)
    rates = [agent.iterate(lambda s=share: s)["learning_rate"] for share in (0.0, 0.25, 1.0)]
    assert rates == pytest.approx([1e-3, 7.5e-4, 0.0])
    before = [p.detach().clone() for p in agent.policy.critic.parameters()]
    agent.iterate(lambda: 1.0)
    assert all(map(torch.equal, before, agent.policy.critic.parameters()))


def test_what_was_changed_holds_though_the_run_is_killed_at_once(tmp_path, monkeypatch):
    run = tmp_path / "run"
    retain.PPO("CartPole-v1", **SMALL).learn(64, out=run)

    def killed(*arguments, **named):
        raise KeyboardInterrupt

    monkeypatch.setattr("retain.train.resume.go_on", killed)
    with pytest.raises(KeyboardInterrupt):
        retain.resume(run, steps=96, learning_rate=1e-5)
    monkeypatch.undo()
    assert retain.resume(run, steps=96).config.learning_rate == 1e-5
