"""What every rank of tests/train/test_ranks.py runs: `rank_cases.py FOLDER`."""

import atexit
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

import retain
from retain.data import shards
from retain.train import distributed

SHARDS = 4
SETTINGS = {
    "preset": "none", "seed": 3, "shards": SHARDS, "num_envs": 8, "num_steps": 8, "epochs": 2,
    "normalise_obs": True, "normalise_reward": True, "hidden": (8,),
}  # fmt: skip
CASES = {
    "none": {"algo": "PPO", "memory": "none", "batch_size": 32},
    "lstm": {"algo": "PPO", "memory": "lstm", "memory_hidden": 8, "batch_size": 32,
             "target_kl": 1e-7, "learning_rate": 1e-2},
    "mingru": {"algo": "PPO", "memory": "mingru", "memory_hidden": 8, "batch_size": 32,
               "sequence_length": 4, "refresh_carries": True},
    "pqn": {"algo": "PQN", "memory": "none", "batch_size": 32, "normalise_obs": False},
    "vtrace": {"algo": "VTrace", "memory": "none", "epochs": 1},
    "sac": {"algo": "SAC", "memory": "lstm", "memory_hidden": 8, "sequence_length": 4,
            "batch_size": 32, "normaliser": "steady", "reward_scale": 1e4},
    "dqn": {"algo": "DQN", "memory": "none", "batch_size": 32, "prioritized": True},
}  # fmt: skip
OFF_POLICY = ("sac", "dqn")
UPDATES = 10


def agent_of(case, **changes):
    settings = {**SETTINGS, **CASES[case], **changes}
    if case in OFF_POLICY:
        settings |= {"num_steps": 2, "buffer_size": 400, "learning_starts": 64}
        settings |= {"epochs": None}
    kind = getattr(retain, settings.pop("algo"))
    env = "PendulumNoVel-v1" if case in ("none", "sac") else "CartPoleNoVel-v1"
    return kind(env, **{name: x for name, x in settings.items() if x is not None})


def model_of(agent):
    return {k: v.clone() for k, v in agent.policy.state_dict().items()}


def learned(case):
    """Parameters and metrics after ten updates, and the segment that this process then collects."""
    agent = agent_of(case)
    rows = []
    for number in range(UPDATES):
        rows.append(agent.iterate(lambda n=number: n / UPDATES))
    found = {f"model.{name}": x for name, x in model_of(agent).items()}
    for name in rows[0]:
        values = [row[name] for row in rows]
        found[f"metric.{name}"] = torch.tensor(values, dtype=torch.float64)
    if case in OFF_POLICY:
        for shard, replay in zip(agent.layout.own, agent.replays, strict=True):
            rows = replay.read(*replay.rows_since(replay.written * 0))
            found |= {f"shard.{shard}.{name}": x.contiguous() for name, x in rows.items()}
        return agent, found
    segments = agent.collector.collect_shards(SETTINGS["num_steps"])
    for shard, rollout in zip(agent.layout.own, segments, strict=True):
        for name in ("obs", "action", "reward", "reset", "log_prob", "value"):
            found[f"shard.{shard}.{name}"] = getattr(rollout, name).contiguous()
    return agent, found


def main():
    folder = Path(sys.argv[1])
    ranks = retain.join_ranks()
    shards.LARGE = 100  # 4 ranks sum in slices, as with large networks
    for case in sys.argv[2:]:
        agent, found = learned(case)
        save_file(found, folder / f"{case}-{ranks.size}-{ranks.rank}.safetensors")
        agent.save(folder / f"{case}-{ranks.size}")
    # Only rank 1 meets a reward that is not a number; all must stop at the same step.
    agent = agent_of("vtrace")
    segments = agent.collector.collect_shards(8)
    if ranks.rank == 1:
        segments[0].reward[3, 1] = float("nan")
    before = [x.detach().clone() for x in agent.policy.parameters()]
    try:
        agent.update.update(segments, 0.0)
        text = "nothing was found"
    except ArithmeticError as error:
        text = str(error)
    unchanged = all(map(torch.equal, agent.policy.parameters(), before))
    text += f"; {agent.update.gradient_steps} steps; unchanged {unchanged}"
    (folder / f"broken-{ranks.size}-{ranks.rank}").write_text(text)
    atexit.unregister(distributed._leave)
    distributed._leave()
    if left := [name for name in thread_names() if "gloo" in name]:
        sys.exit(f"rank {ranks.rank}: threads that outlive the group: {left}")


def thread_names():
    """The names of this process's threads, where the system tells them."""
    return [path.read_text() for path in Path("/proc/self/task").glob("*/comm")]


if __name__ == "__main__":
    main()
