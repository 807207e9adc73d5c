"""First lines of people who come from another library are answered with what to write here."""

import pytest

import retain
from retain.cli import main as cli
from retain.errors import UsageError
from retain.train import foreign
from retain.train.algorithms import AGENTS
from retain.train.config import RunConfig, field_names

ARGUMENTS = {"env", "steps", "out", "preset", "callbacks", "progress", "episodes", "obs", "carry",
             "state", "reset", "eval_every", "eval_episodes", "quantiles"}  # fmt: skip


def test_the_table_names_nothing_that_does_not_exist():
    """Ours are settings or arguments; theirs are not ours as well."""
    fields = {name for kind in AGENTS.values() for name in field_names(RunConfig, kind.config_kind)}
    assert len(foreign.RENAMED) + len(foreign.OTHER) + len(foreign.COUNTED) >= 60
    for name, (_, ours) in foreign.RENAMED.items():
        assert set(ours.split()) <= fields | ARGUMENTS, name
    import re

    texts = [text for _, text in foreign.OTHER.values()]
    texts += [count(4, {"num_envs": 8, "num_steps": 128}) for _, count in foreign.COUNTED.values()]
    for text in texts:
        assert set(re.findall(r"`(\w+)`", text)) <= fields | ARGUMENTS, text
    tables = [set(foreign.RENAMED), set(foreign.OTHER), set(foreign.COUNTED)]
    assert sum(map(len, tables)) == len(set.union(*tables))
    assert not set.union(*tables) & fields - {"eval_episodes"}


@pytest.mark.parametrize(
    ("algo", "settings", "message"),
    [
        ("PPO", {"n_steps": 2048}, "'n_steps', Stable-Baselines3's name for num_steps$"),
        ("DQN", {"n_steps": 3}, "'n_steps', Stable-Baselines3's name for num_steps$"),
        ("PPO", {"ent_coef": 0.0}, "name for entropy_coef$"),
        ("SAC", {"ent_coef": 0.1}, "name for alpha$"),
        ("PPO", {"lr": 1e-3}, "RLlib's and TorchRL's name for learning_rate$"),
        ("DQN", {"clip_coef": 0.1}, "CleanRL's name for clip_range, which does not exist here$"),
        ("PPO", {"policy": "MlpPolicy"}, "the networks follow from the settings memory, hidden"),
        ("PPO", {"policy_kwargs": {}}, "its entries are settings here: hidden, activation"),
        ("PPO", {"verbose": 1}, r"progress=True"),
        ("PPO", {"total_timesteps": 100}, r"name for what learn\(steps\) takes$"),
        ("PPO", {"num_minibatches": 4},
         "num_envs 8 times num_steps 128 are 1024 steps a segment, and 4 minibatches of it are "
         "batch_size 256$"),
        ("PPO", {"num_envs": 4, "num_steps": 100, "num_mini_batches": 8}, "batch_size 50$"),
        ("PPO", {"num_envs": 4, "frames_per_batch": 2000}, "num_steps 500 of each of num_envs 4"),
        ("SAC", {"train_freq": 4}, "update_ratio 0.25"),
        ("PPO", {"anneal_lr": True}, "CleanRL's: use lr_schedule"),
        ("PPO", {"learning_rat": 1}, "'learning_rat'; did you mean 'learning_rate'"),
    ],
)  # fmt: skip
def test_a_setting_of_another_library_is_answered_with_ours(algo, settings, message):
    with pytest.raises(UsageError, match=message):
        getattr(retain, algo)("CartPole-v1", **settings)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--n-steps 5", "unknown flag '--n-steps', Stable-Baselines3's name for --num-steps"),
        ("--total-timesteps 1000", "Stable-Baselines3's name for --steps"),
        ("--env-id CartPole-v1", "CleanRL's name for --env"),
        ("--no-anneal-lr", "CleanRL's: use --lr-schedule"),
        (
            "--num_minibatches=8 --num-steps 64",
            "--num-steps 64 are 512 steps a segment, and 8 minib",
        ),
        ("--vf-coef 0.5", "name for --value-coef"),
        ("--epoch 3", "did you mean '--epochs'"),
    ],
)
def test_a_flag_of_another_library_is_answered_with_ours(line, message, capsys):
    assert cli.run(["train", "ppo", *line.split()]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("arguments", [("MlpPolicy", "CartPole-v1"), ("MlpLstmPolicy",)])
def test_a_policy_in_the_first_place_is_told_apart_from_an_environment(arguments):
    with pytest.raises(
        UsageError, match=r"a policy of Stable-Baselines3.*PPO\((env|'CartPole-v1'),"
    ):
        retain.PPO(*arguments)
    with pytest.raises(UsageError, match=r"PPO takes only the environment by position"):
        retain.PPO("CartPole-v1", 8)


@pytest.fixture(scope="module")
def agent():
    return retain.PPO("CartPole-v1", num_envs=2, num_steps=8, batch_size=8, preset="none")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a: a.learn(total_timesteps=9), "learn has no argument 'total_timesteps', Stable-Basel.*"
         r"name for steps: agent.learn\(100_000\)"),
        (lambda a: a.learn(9, callback=print), "learn has no argument 'callback', Stable-Basel.*name for"),
        (lambda a: a.learn(9, progress_bar=True), "name for progress"),
        (lambda a: a.learn(9, outt="x"), "learn has no argument 'outt'; did you mean 'out'"),
        (lambda a: a.learn(), "learn needs steps"),
        (lambda a: a.learn(9, 9), "learn takes 1 argument by position"),
        (lambda a: a.evaluate(n_eval_episodes=3), "name for episodes"),
        (lambda a: a.act(observation=1), "act has no argument 'observation', .*name for obs"),
        (lambda a: a.act(), "act needs obs"),
        (lambda a: a.save(), "save needs path"),
        (lambda a: retain.load(), "load needs path"),
        (lambda a: retain.load("x", "last"), "load takes 1 argument by position"),
    ],
)  # fmt: skip
def test_a_wrong_call_is_one_clear_line(agent, call, message):
    with pytest.raises(UsageError, match=message) as caught:
        call(agent)
    assert "\n" not in str(caught.value)


def test_an_error_from_inside_a_call_stays_what_it_is(agent, monkeypatch):
    monkeypatch.setattr(agent.policy, "prepare", lambda obs: obs + "text")
    with pytest.raises(TypeError, match=r"text|unsupported|str"):
        agent.act([0.0] * 4)
