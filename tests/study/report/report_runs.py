"""Run folders for the report's tests, written by hand in a moment."""

import json
import math

import numpy as np

import retain
from retain.train import checkpoint as store

SEEN: dict[str, dict] = {}


def facts_of(memory="none", seed=1, env="CartPoleNoVel-v1", **settings):
    """What an agent with these settings writes as config.json."""
    key = json.dumps([memory, env, settings])
    if key not in SEEN:
        agent = retain.PPO(env, memory=memory, **settings)
        SEEN[key] = json.loads(json.dumps(agent.description() | {"steps": 10_000}))
    facts = json.loads(json.dumps(SEEN[key]))
    facts["run"]["seed"] = seed
    return facts


def columns_of(rows, seed=1):
    """Metrics that look like a run's."""
    rng = np.random.default_rng(seed)
    step = np.arange(1, rows + 1) * 100.0
    return {
        "step": step, "episodes": step / 10, "return_mean": np.linspace(20, 200, rows) + seed,
        "length_mean": np.linspace(20, 200, rows), "approx_kl": rng.uniform(0.004, 0.02, rows),
        "entropy": np.linspace(0.69, 0.3, rows), "policy_loss": rng.normal(size=rows),
        "value_clip_fraction": np.zeros(rows), "seconds": step / 1000,
        "steps_per_second": rng.uniform(900, 1100, rows),
    }  # fmt: skip


def write_metrics(folder, columns):
    lines = [
        ",".join(columns),
        *(",".join(map(repr, map(float, row))) for row in zip(*columns.values(), strict=True)),
    ]
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")


def write_run(folder, *, memory="none", seed=1, rows=40, facts=None, episodes=30, **columns):
    """A run folder; further columns are added to the usual ones."""
    folder.mkdir(parents=True)
    store.write_json(folder / store.CONFIG, facts or facts_of(memory, seed))
    write_metrics(folder, columns_of(rows, seed) | columns)
    line = '{{"env": {0}, "episode": 0, "seed": 1, "first": {1}, "length": {2}, "ret": {2}.0}}\n'
    text = "".join(line.format(n % 8, n * 10, 10 + n) for n in range(episodes))
    (folder / "episodes.jsonl").write_text(text)
    return folder


def write_comparison(folder, seeds=3, **more):
    """A comparison of two memories, as `retain compare` leaves it."""
    cleared = {"1": 20.0, "2": 60.0, "4": 180.0, "never": 200.0}
    for memory in ("none", "lstm"):
        for seed in range(1, seeds + 1):
            run = write_run(folder / memory / f"seed{seed}", memory=memory, seed=seed, **more)
            outcome = {"evaluation": 200.0 + seed if memory == "lstm" else 45.0 + seed,
                       "final": 100.0, "random": 20.0, "rise": 0.0, "efficiency": 1.0,
                       "steps_per_second": 1.0, "cleared": cleared if memory == "lstm" else {}}  # fmt: skip
            store.write_json(run / "outcome.json", outcome)
    study = {"env": "CartPoleNoVel-v1", "algo": "ppo", "steps": 10_000, "settings": {"num_envs": 8},
             "episodes": 5}  # fmt: skip
    store.write_json(folder / "study.json", study)
    (folder / "report.md").write_text(
        "# ppo on CartPoleNoVel-v1: none, lstm\n\n**memory helps**.\n\n"
        "| | return |\n|---|---|\n| lstm | 201 |\n\n![curves](compare.png)\n"
    )
    return folder


NAN = math.nan
