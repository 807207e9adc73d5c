"""Numbers depend on the shards, not on the ranks that execute them."""

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
import rank_cases
import torch
from rank_cases import CASES, SHARDS, agent_of, learned, model_of
from safetensors.torch import load_file

import retain
from retain.data.rollout import Rollout
from retain.data.shards import Layout, Shards, tree_sum
from retain.errors import UsageError
from retain.train.launch import attempt
from retain.types import tree_map


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What 2 and 4 ranks learned, and one process with as many shards."""
    folder = tmp_path_factory.mktemp("ranks")
    for ranks in (2, 4):
        cases = CASES if ranks == 2 else ("none", "lstm", "mingru", "sac")
        assert attempt([rank_cases.__file__, str(folder), *cases], ranks, 60.0) == 0
    return folder


@pytest.fixture(scope="module")
def alone():
    return {case: learned(case)[1] for case in CASES}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Checkpoints of one process after ten updates, and the parameters after one more."""
    folder, found = tmp_path_factory.mktemp("alone"), {}
    for case in ("mingru", "sac"):
        agent, _ = learned(case)
        saved = agent.save(folder / f"{case}-1")
        agent.iterate(lambda: 0.5)
        found[case] = saved, model_of(agent)
    return found


def results(folder, case):
    """What each rank of each group wrote."""
    files = sorted(folder.glob(f"{case}-*-*.safetensors"))
    assert len(files) in (2, 6)
    return {file.stem: load_file(file) for file in files}


def part(found, prefix):
    return {name: x for name, x in found.items() if name.startswith(prefix)}


def same(a, b):
    assert a.keys() == b.keys()
    return [name for name in a if not torch.equal(a[name].nan_to_num(7), b[name].nan_to_num(7))]


@pytest.mark.parametrize("case", CASES)
def test_ten_updates_give_the_same_bits_on_any_number_of_ranks(folder, alone, case):
    whole = part(alone[case], "model.")
    first = agent_of(case)
    assert any(not torch.equal(x, whole[f"model.{n}"]) for n, x in model_of(first).items())
    for found in results(folder, case).values():
        assert same(part(found, "model."), whole) == []


@pytest.mark.parametrize("case", CASES)
def test_every_rank_knows_the_metrics_of_all(folder, alone, case):
    for found in results(folder, case).values():
        assert same(part(found, "metric."), part(alone[case], "metric.")) == []


@pytest.mark.parametrize("case", CASES)
def test_rollouts_do_not_depend_on_the_ranks(folder, alone, case):
    shards = part(alone[case], "shard.")
    found = results(folder, case)
    for ranks in {name.split("-")[1] for name in found}:
        parts = {}
        for name in found:
            own = part(found[name], "shard.") if f"-{ranks}-" in name else {}
            assert not own.keys() & parts.keys()
            parts |= own
        assert same(parts, shards) == []


def test_target_kl_ends_an_update_on_all_ranks_at_once(alone):
    steps = alone["lstm"]["metric.gradient_steps"]
    most = rank_cases.UPDATES * 2 * 2  # two epochs of two minibatches
    assert 0 < int(steps[-1]) < most


def test_a_number_that_is_not_finite_on_one_rank_stops_all_and_is_named(folder):
    lines = {(folder / f"broken-2-{rank}").read_text() for rank in range(2)}
    assert len(lines) == 1
    assert re.match(r"policy_loss is not finite .*; 0 steps; unchanged True", lines.pop())


@pytest.mark.parametrize("case", ["mingru", "sac"])
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_what_any_number_of_ranks_saved_continues_in_one_process(folder, undisturbed, ranks, case):
    """The checkpoint of R ranks is that of one process."""
    alone, after = undisturbed[case]
    saved = alone if ranks == 1 else folder / f"{case}-{ranks}"
    names = ["model.safetensors", "training.safetensors"]
    names += ["replay/rows_000001.safetensors"] if case == "sac" else []
    for name in names:
        assert (saved / name).read_bytes() == (alone / name).read_bytes()
    again = retain.load(saved)
    assert again.run_settings.shards == SHARDS
    again.iterate(lambda: 0.5)
    assert same(model_of(again), after) == []


def joined(rollouts):
    """Several shards' segments as one."""
    first, whole = rollouts[0], {}
    for field in fields(Rollout):
        values = [getattr(one, field.name) for one in rollouts]
        if values[0] is None:
            whole[field.name] = None
        elif field.name in ("carries", "carry_out"):
            whole[field.name] = tree_map(lambda *x: torch.cat(x), *values)
        else:
            whole[field.name] = tree_map(lambda *x: torch.cat(x, 1), *values)
    return replace(first, **whole)


@pytest.mark.parametrize("memory", ["none", "lstm", "mingru"])
def test_an_update_of_shards_is_the_update_of_the_whole(memory):
    """The same segment in four parts and in one: statistics, advantages and gradients are the
    whole's, to rounding."""
    more = {} if memory == "none" else {"memory_hidden": 8}
    settings = {**rank_cases.SETTINGS, "memory": memory, "epochs": 1, "batch_size": 64, **more}
    parts = retain.PPO("CartPoleNoVel-v1", **settings)
    whole = retain.PPO("CartPoleNoVel-v1", **{**settings, "shards": 1})
    assert same(model_of(parts), model_of(whole)) == []
    for _ in range(2):
        rollouts = parts.collector.collect_shards(8)
        one, two = parts.update.update(rollouts, 0.0), whole.update.update(joined(rollouts), 0.0)
        assert one.keys() == two.keys()
        for name in one:
            assert one[name] == pytest.approx(two[name], rel=1e-3, abs=1e-5, nan_ok=True), name
    for name, value in model_of(parts).items():
        assert torch.allclose(value, model_of(whole)[name], atol=1e-5), name


def test_target_kl_looks_at_the_whole_minibatch():
    steps = []
    for bound in np.geomspace(1e-5, 1e-1, 12):
        settings = {**rank_cases.SETTINGS, "batch_size": 64, "epochs": 12, "learning_rate": 3e-3}
        parts = retain.PPO("CartPole-v1", **settings, target_kl=float(bound))
        whole = retain.PPO("CartPole-v1", **{**settings, "shards": 1}, target_kl=float(bound))
        rollouts = parts.collector.collect_shards(8)
        one, two = parts.update.update(rollouts, 0.0), whole.update.update(joined(rollouts), 0.0)
        assert one["gradient_steps"] == two["gradient_steps"]
        steps.append(one["gradient_steps"])
    assert len(set(steps)) > 3


def test_shards_have_their_own_noise_and_their_own_episodes():
    agent = agent_of("none")
    rollouts = agent.collector.collect_shards(8)
    assert len(rollouts) == SHARDS
    for field in ("action", "obs"):
        first = getattr(rollouts[0], field)
        assert not any(torch.equal(first, getattr(other, field)) for other in rollouts[1:])
    for generators in (agent.collector.generators, agent.update.generators):
        states = {bytes(generator.get_state().numpy()) for generator in generators.values()}
        assert len(states) == SHARDS
    one = agent_of("none", shards=1)
    assert torch.equal(one.collector.collect(8).obs[0], torch.cat([r.obs[0] for r in rollouts]))


def test_halves_of_a_sum_may_be_added_elsewhere():
    numbers = [torch.tensor(float(x)) for x in np.random.default_rng(0).normal(size=8) * 1e6]
    by_rank = [tree_sum(numbers[n : n + 2]) for n in range(0, 8, 2)]
    assert torch.equal(tree_sum(by_rank), tree_sum(numbers))
    in_order = sum(numbers[1:], numbers[0])
    assert not torch.equal(tree_sum(numbers), in_order)


class Room:
    """An exchange of ranks that are threads."""

    def __init__(self, size):
        self.size, self.slots, self.barrier = size, [None] * size, Barrier(size)

    def seat(self, rank):
        room = self

        class Seat:
            size = room.size

            def gather(self, x):
                return torch.stack(room.told(rank, x))

            def swap(self, x):
                return torch.stack([each[rank] for each in room.told(rank, x)])

        return Seat()

    def told(self, rank, x):
        self.slots[rank] = x
        self.barrier.wait(10)
        heard = list(self.slots)
        self.barrier.wait(10)
        return heard


@pytest.mark.parametrize("ranks", [2, 3, 4, 6])
@pytest.mark.parametrize("size", [5, 18_003])
def test_the_mean_has_the_same_bits_for_any_number_of_ranks(ranks, size):
    """Large tensors are summed in slices; 3 and 6 ranks are no power of two."""
    numbers = list(torch.randn(12, size, generator=torch.Generator().manual_seed(0)))
    alone = Shards(Layout(12, range(12))).mean(numbers)
    each, room = 12 // ranks, Room(ranks)

    def mean(rank):
        own = range(rank * each, rank * each + each)
        return Shards(Layout(12, own), room.seat(rank)).mean([numbers[n] for n in own])

    with ThreadPoolExecutor(ranks) as pool:
        for found in pool.map(mean, range(ranks)):
            assert torch.equal(found, alone)
    assert torch.allclose(alone, torch.stack(numbers).mean(0), atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (
            {"shards": 3, "num_envs": 8},
            "num_envs 8 cannot be cut into 3 shards; nearest that can: 9",
        ),
        ({"shards": 0}, r"shards is 0 \(expected at least 1\)"),
        (
            {"shards": 4, "num_envs": 8, "batch_size": 30},
            "batch_size 30 cannot be cut into 4 shards; nearest that can: 32",
        ),
        (
            {"shards": 4, "num_envs": 8, "memory": "lstm", "num_steps": 16, "batch_size": 32},
            "batch_size 32 cannot be cut into 4 shards of whole sequences of 16 steps; nearest "
            "that can: 64",
        ),
    ],
)
def test_what_cannot_be_divided_is_refused(settings, line):
    with pytest.raises(UsageError, match=line):
        retain.PPO("CartPole-v1", preset="none", **settings)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"batch_size": 30}, "batch_size 30 cannot be cut into 4 shards; nearest that can: 32"),
        ({"buffer_folder": "there"}, "buffer_folder is there and shards is 4"),
        ({"compile": True}, "compile is on and shards is 4"),
    ],
)
def test_what_a_replay_of_shards_cannot_do_is_refused(settings, line):
    with pytest.raises(UsageError, match=line):
        retain.DQN("CartPole-v1", preset="none", num_envs=4, shards=4, **settings)


def test_one_object_cannot_be_divided():
    env = retain.PPO("CartPole-v1", preset="none", num_envs=2).backends[0]
    with pytest.raises(UsageError, match=r"shards is 2, but .* is one object"):
        retain.PPO(env, preset="none", shards=2)


def test_shards_stay_for_the_life_of_a_run(tmp_path):
    agent_of("none").save(tmp_path / "saved")
    with pytest.raises(UsageError, match="shards stays 4"):
        retain.load(tmp_path / "saved", shards=2)


SLOW = """
import os, sys, time
from pathlib import Path
import torch.distributed as dist
import retain

rank, done = int(os.environ["RANK"]), Path(sys.argv[1])
make = dist.init_process_group

def slowly(*given, **named):
    make(*given, **named)
    if rank == int(sys.argv[2]):
        time.sleep(1.0)
        done.touch()

dist.init_process_group = slowly
retain.join_ranks()
sys.exit(0 if done.exists() else 3)
"""


@pytest.mark.parametrize("slow", [0, 2])
def test_no_rank_goes_on_while_another_still_connects(slow, tmp_path):
    script = tmp_path / "slow.py"
    script.write_text(SLOW)
    assert attempt([str(script), str(tmp_path / "connected"), str(slow)], 3, 60.0) == 0


def run(*arguments):
    command = [sys.executable, "-m", "retain", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_the_command_line_trains_on_ranks_and_says_what_is_wrong_once(tmp_path):
    small = ("--preset", "none", "--num-envs", "6", "--num-steps", "16", "--batch-size", "96")
    done = run("train", "ppo", *small, "--steps", "96", "--ranks", "2", "--shards", "3",
               "--out", str(tmp_path / "a"))  # fmt: skip
    line = "retain: shards is 3, which 2 ranks cannot share equally; nearest that they can: 4\n"
    assert (done.returncode, done.stderr) == (2, line)
    done = run(
        "train", "ppo", *small, "--steps", "192", "--ranks", "2", "--out", str(tmp_path / "b")
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("run folder") == 1
    agent = retain.load(tmp_path / "b")
    assert agent.run_settings.shards == 2
    assert agent.steps == 192
    episodes = (tmp_path / "b" / "episodes.jsonl").read_text()
    assert {int(env) for env in re.findall(r'"env": (\d)', episodes)} & {3, 4, 5}
    assert Path(tmp_path / "b" / "actions.bin").stat().st_size == 32 * 6
