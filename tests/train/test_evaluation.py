"""Evaluation while training, the best checkpoint, and the pictures of both."""

import csv
import shutil

import gymnasium as gym
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import retain
from retain.cli.main import run as command_line
from retain.errors import CheckpointError, UsageError
from retain.train import checkpoint as store
from retain.train.callbacks.best import Best
from retain.train.callbacks.evaluation import MOVE
from retain.train.plot import colours, plot, settled
from retain.train.resume import resume

SMALL = {"num_envs": 4, "num_steps": 32, "batch_size": 64, "epochs": 1, "hidden": (8,), "seed": 3,
         "tensorboard": False, "record_episodes": False}  # fmt: skip


def column(folder, name):
    with (folder / "metrics.csv").open() as file:
        return [float(row[name]) for row in csv.DictReader(file)]


def test_it_is_due_at_multiples_and_at_the_end_and_its_episodes_are_its_own(tmp_path):
    agent = retain.PPO("CartPole-v1", **SMALL, eval_every=300, eval_episodes=3)
    agent.learn(700, out=tmp_path)
    found = column(tmp_path, "eval_return_mean")
    # Rows every 128 steps: 300 is passed at 384, 600 at 640; 768 is the end.
    assert [not np.isnan(value) for value in found] == [False, False, True, False, True, True]
    same = agent.evaluate(3, seed=3 ^ MOVE)
    assert found[-1] == same.return_mean
    assert column(tmp_path, "eval_return_std")[-1] == same.return_std
    assert agent.evaluate(3).returns != same.returns  # `retain eval` plays others
    with pytest.raises(UsageError, match="eval_episodes 5 would do nothing: eval_every is 0"):
        retain.PPO("CartPole-v1", eval_episodes=5)


def test_it_is_refused_where_only_the_training_environment_exists():
    class Alone(type(gym.make("CartPole-v1").unwrapped)):
        spec = None

    agent = retain.PPO(Alone(), num_envs=1, num_steps=32, batch_size=32, eval_every=64)
    with pytest.raises(retain.RetainError, match="eval_every needs separate environments"):
        agent.learn(64)


def test_evaluating_leaves_the_noise_of_acting_alone():
    acted = []
    for played in (False, True):
        agent = retain.PPO("Pendulum-v1", seed=1, hidden=(8,))
        if played:
            agent.evaluate(1, deterministic=False)
        acted.append([agent.act(np.zeros(3))[0] for _ in range(3)])
    assert np.array_equal(*acted)


def best_model(run):
    return load_file(store.find_checkpoint(run, "best") / store.MODEL)


def test_the_best_checkpoint_is_the_agent_that_was_evaluated_best(tmp_path):
    class Keep(retain.Callback):
        def __init__(self):
            self.agents = []

        def on_evaluation(self, event):
            weights = {k: v.clone() for k, v in event.run.agent.policy.state_dict().items()}
            self.agents.append((event.evaluation.return_mean, event.run.steps, weights))

    seen = Keep()
    agent = retain.PPO("CartPole-v1", **SMALL, eval_every=128, eval_episodes=2,
                       learning_rate=0.03, checkpoint_every=10**6)  # fmt: skip
    agent.learn(1500, out=tmp_path, callbacks=[seen])
    scores = [score for score, _, _ in seen.agents]
    assert len(scores) == 12
    first = int(np.argmax(scores))
    assert 0 < first < 11  # neither the first nor the last agent
    assert (
        store.load_state(store.find_checkpoint(tmp_path, "best"))["collector"]["steps"]
        == (seen.agents[first][1])
    )
    for name, value in best_model(tmp_path).items():
        assert torch.equal(value, seen.agents[first][2][name])


def test_without_evaluation_the_best_has_a_full_window_of_episodes(tmp_path, capsys):
    agent = retain.PPO("CartPole-v1", **SMALL, checkpoint_every=128)
    agent.learn(700, out=tmp_path)
    assert 0 < agent.collector.statistics.total < 100
    with pytest.raises(CheckpointError, match="no best checkpoint: one needs 100 finished"):
        retain.load(tmp_path, which="best")
    resume(tmp_path, steps=4000)
    assert agent.collector.statistics.total < 100 < column(tmp_path, "episodes")[-1]
    returns, episodes, steps = (column(tmp_path, n) for n in ("return_mean", "episodes", "step"))
    full = [(r, -s) for r, n, s in zip(returns, episodes, steps, strict=True) if n >= 100]
    best = store.load_state(store.find_checkpoint(tmp_path, "best"))["collector"]["steps"]
    assert best == -max(full)[1]


def test_a_best_checkpoint_whose_copy_was_missed_is_copied_at_the_resume(tmp_path):
    class Stop(retain.Callback):
        def on_row(self, event):
            return event.run.steps == 256

    settings = SMALL | {"eval_every": 256, "eval_episodes": 2}
    retain.PPO("CartPole-v1", **settings).learn(1000, out=tmp_path, callbacks=[Stop()])
    wanted = best_model(tmp_path)
    shutil.rmtree(tmp_path / "checkpoints" / "best")
    resume(tmp_path, steps=257, callbacks=[Stop])
    assert store.load_state(store.find_checkpoint(tmp_path))["progress"]["callbacks"]["best"]
    again = best_model(tmp_path)
    if column(tmp_path, "eval_return_mean")[-1] <= column(tmp_path, "eval_return_mean")[1]:
        assert all(torch.equal(wanted[name], again[name]) for name in wanted)
    assert isinstance(Best().state(), dict)


def write_run(folder, memory, points, *, seed=0, extra=None):
    folder.mkdir(parents=True)
    facts = retain.PPO("CartPole-v1").description()
    facts |= {"env_name": "E", "ppo": facts["ppo"] | {"memory": memory}}
    store.write_json(folder / store.CONFIG, facts)
    names = ["step", "episodes", "return_mean", *(extra or {})]
    with (folder / "metrics.csv").open("w") as file:
        print(",".join(names), file=file)
        for n, (step, episodes, value) in enumerate(points):
            values = [step, episodes, value + seed, *(v[n] for v in (extra or {}).values())]
            print(",".join(map(str, values)), file=file)
    return folder


def test_curves_begin_where_their_window_is_full(tmp_path):
    many = [(0, 0, float("nan")), (10, 3, -900.0), (20, 99, 5.0), (30, 100, 6.0), (40, 500, 7.0)]
    run = write_run(tmp_path / "many", "none", many)
    curve = (np.array([10.0, 20, 30, 40]), np.array([-900.0, 5, 6, 7]))
    assert settled(run, curve)[0].tolist() == [30, 40]
    few = write_run(tmp_path / "few", "none", [(10, 2, -900.0), (20, 6, 5.0), (30, 20, 6.0)])
    assert settled(few, (curve[0][:3], curve[1][:3]))[0].tolist() == [20, 30]


def lines_of(monkeypatch, *arguments, **more):
    """What a plot draws: (label, colour, style, first and last x)."""
    found = []
    monkeypatch.setattr(plt, "close", lambda figure: found.extend(
        (line.get_label(), line.get_color(), line.get_linestyle(), *line.get_xdata()[[0, -1]])
        for axes in figure.axes for line in axes.lines))  # fmt: skip
    plot(*arguments, **more)
    return found


@pytest.mark.parametrize(("count", "beside"), [(3, False), (4, True)])
def test_the_legend_of_many_groups_stands_beside_the_curves(tmp_path, monkeypatch, count, beside):
    points = [(10, 100, 0.0), (20, 200, 6.0)]
    runs = [write_run(tmp_path / f"run{n}", "none", points, seed=n) for n in range(count)]
    figures = []
    monkeypatch.setattr(plt, "close", figures.append)
    plot(runs, tmp_path / "picture.png", name=lambda run: run.name)
    axes, picture = figures[0].axes[0], figures[0].bbox
    legend = axes.get_legend().get_window_extent()
    assert (legend.x0 >= axes.bbox.x1) == beside
    assert legend.x1 <= picture.x1


def test_a_memory_has_its_colour_in_every_picture_and_evaluations_are_dashed(tmp_path, monkeypatch):
    points = [(10, 3, -900.0), (20, 100, 5.0), (30, 200, 6.0)]
    evaluated = {"eval_return_mean": ["nan", 1.0, 2.0]}
    lstm = [
        write_run(tmp_path / f"lstm{n}", "lstm", points, seed=n, extra=evaluated) for n in (1, 2)
    ]
    none = write_run(tmp_path / "none", "none", points)
    mine = write_run(tmp_path / "mine", "my:Memory", points)
    drawn = {}
    for runs in ([none, *lstm], [*lstm, mine, none], [mine]):
        for label, colour, style, first, _ in lines_of(monkeypatch, runs, tmp_path / "a.png"):
            assert first == 20
            if label.startswith("E"):
                drawn.setdefault((label, style), set()).add(colour)
    assert set(drawn) == {("E  ppo  none", "-"), ("E  ppo  lstm  (n=2)", "-"),
                          ("E  ppo  lstm  evaluated  (n=2)", "--"), ("E  ppo  my:Memory", "-")}  # fmt: skip
    assert all(len(found) == 1 for found in drawn.values())
    assert drawn["E  ppo  lstm  (n=2)", "-"] == drawn["E  ppo  lstm  evaluated  (n=2)", "--"]
    assert len(set.union(*drawn.values())) == 3
    assert colours(["lstm", "lstm"]) == ["C0", "C1"]  # what differs is not the memory
    assert len(set(colours(["none", "a", "b", "c", "d", "e", "f", "g", "h"]))) == 9


def test_a_run_draws_its_return_and_each_info(tmp_path, monkeypatch):
    points = [(10, 100, 1.0), (20, 120, 5.0)]
    run = write_run(tmp_path / "run", "gru", points, extra={"is_success": [0.1, 0.9]})
    assert command_line(["plot", str(run), "--metric", "return_mean", "is_success", "--out",
                         str(tmp_path / "two.png")]) == 0  # fmt: skip
    assert command_line(["plot", str(run), "--out", str(tmp_path / "one.png")]) == 0
    heights = [Image.open(tmp_path / name).size[1] for name in ("one.png", "two.png")]
    assert heights[1] > 1.4 * heights[0]


def test_a_trained_agent_is_filmed(tmp_path, capsys):
    run, video = tmp_path / "run", tmp_path / "film.gif"
    agent = retain.PPO("CartPoleNoVel-v1", memory="lstm", memory_hidden=8, **SMALL)
    agent.learn(256, out=run)
    assert command_line(["eval", str(run), "--episodes", "2", "--video", str(video)]) == 0
    said = capsys.readouterr().out
    first = agent.evaluate(1)
    assert (
        f"video: {video} (return {first.return_mean:.1f}, length {first.length_mean:.0f})" in said
    )
    with Image.open(video) as image:
        assert image.n_frames == first.length_mean + 1
    assert command_line(["eval", str(run), "--video", str(tmp_path / "film.avi")]) == 2
    assert "expected a name that ends in .gif or .mp4" in capsys.readouterr().err
