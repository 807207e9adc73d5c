"""A setting that would do nothing, or cannot mean anything, is refused in one line."""

import pytest

import retain
from retain.cli import main as cli
from retain.errors import UsageError

IDLE = [
    ("dqn --actor-learning-rate 1e-4", "actor_learning_rate 0.0001 would do nothing: dqn has no actor"),
    ("ddpg --env Pendulum-v1 --burn-in 8", "burn_in 8 would do nothing: memory 'none' stores no carry"),
    ("ddpg --env Pendulum-v1 --memory window --burn-in 8", "memory 'window' stores no carry"),
    ("ddpg --env Pendulum-v1 --window 9", "window 9 would do nothing: there is no memory"),
    ("ddpg --env Pendulum-v1 --memory lstm --window 9", "memory 'lstm' does not read it"),
    ("ddpg --env Pendulum-v1 --no-shortcut", "shortcut False would do nothing: there is no memory"),
    ("ppo --memory-hidden 8", "memory_hidden 8 would do nothing: there is no memory"),
    ("ppo --memory window --memory-layers 2", "memory 'window' does not read it"),
    ("ppo --memory lstm --refresh-carries", "sequence_length is None"),
    ("ppo --separate-memory", "there is nothing to separate"),
    ("ppo --entropy-coef 0 --entropy-schedule linear", "entropy_coef is 0.0"),
    ("ppo --log-std-init -1", "the actions are Discrete(2)"),
    ("ppo --env Pendulum-v1 --sde-sample-freq 4 --no-use-sde", "use_sde is False"),
    ("ppo --precision bfloat16", "no part of the observation is an image"),
    ("ppo --frame-stack 2", "it applies only to Atari"),
    ("ppo --worker-timeout 5", "workers is 0"),
    ("sac --env Pendulum-v1 --alpha 0.1 --alpha-init 2", "alpha is 0.1, a fixed weight"),
    ("dqn --priority-beta 0.5 --no-prioritized", "prioritized is False"),
    ("td3 --env Pendulum-v1 --target-noise 0 --target-noise-clip 1", "target_noise is 0.0"),
]  # fmt: skip
WRONG = [
    (
        "ppo --memory lstm --sequence-length 0",
        "sequence_length is 0 (expected at least 1, or None)",
    ),
    ("ppo --memory lstm --sequence-length -4", "sequence_length is -4"),
    ("ppo --entropy-coef nan", "entropy_coef is nan"),
    ("ppo --entropy-coef -0.1", "entropy_coef is -0.1 (expected at least 0)"),
    ("ppo --learning-rate inf", "learning_rate is inf"),
    ("ppo --reward-scale nan", "reward_scale is nan (expected a finite number)"),
    ("ppo --log-std-init inf", "log_std_init is inf (expected a finite number)"),
    ("ppo --hidden 0", "hidden is (0,) (expected at least 1)"),
    ("ppo --hidden 64 -5", "hidden is (64, -5)"),
    ("ppo --encoder-hidden 0", "encoder_hidden is (0,)"),
    ("ppo --adam-eps 0", "adam_eps is 0.0 (expected more than 0)"),
    ("ppo --sde-sample-freq 0", "sde_sample_freq is 0"),
    ("ppo --seed -1", "seed is -1 (expected 0 to"),
    ("ppo --threads 100000", "threads is 100000 (expected 0 to 1024)"),
    ("sac --target-entropy nan", "target_entropy is nan"),
]


@pytest.mark.parametrize(("line", "message"), [*IDLE, *WRONG], ids=lambda value: value[:48])
def test_what_would_do_nothing_or_mean_nothing_is_refused(line, message, capsys, tmp_path):
    out = tmp_path / "run"
    assert cli.run(["train", *line.split(), "--out", str(out)]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not out.exists()


def test_a_default_asks_for_nothing_and_passes():
    retain.PPO("CartPole-v1", memory_hidden=128, sequence_length=None, use_sde=False)


def test_useful_leaves_out_what_a_memory_has_no_use_for():
    settings = {"memory_hidden": 8, "window": 3, "sequence_length": 16, "gamma": 0.9}
    kept = {
        memory: list(retain.DDPG.useful(settings | {"memory": memory}))
        for memory in ("none", "lstm", "window")
    }
    assert kept == {
        "none": ["gamma", "memory"],
        "lstm": ["memory_hidden", "sequence_length", "gamma", "memory"],
        "window": ["memory_hidden", "window", "gamma", "memory"],
    }
    settings = {"memory": "none", "memory_hidden": 64, "sequence_length": 32}
    assert retain.PPO.useful(settings) == {"memory": "none"}
    settings = {"memory_hidden": 8, "window": 3, "sequence_length": 16, "gamma": 0.9}
    for names in kept.values():
        chosen = {name: (settings | {"memory": "none"}).get(name) for name in names}
        assert retain.DDPG.useful(chosen).keys() <= set(names)


def test_an_agent_of_exactly_these_settings_is_asked_nothing():
    agent = retain.DDPG.exactly("Pendulum-v1", {"burn_in": 8, "window": 9})
    assert (agent.config.burn_in, agent.config.gamma) == (8, 0.99)
    with pytest.raises(UsageError, match="did you mean 'window'"):
        retain.DDPG.exactly("Pendulum-v1", {"windo": 9})
