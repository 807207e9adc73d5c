"""The search before a comparison: the same for every variant, and its winner's settings."""

import json
import math
from dataclasses import replace

import pytest

from retain.errors import NonFiniteError, UsageError
from retain.study import Study, outcome
from retain.study import tune as module
from retain.study.compare import compare, variants_of
from retain.study.outcome import Outcome, RunPlan, run_one
from retain.study.summary import tuned_lines
from retain.study.tune import SEED, candidates, tune


def study(**changes):
    facts = {"env": "TMaze-v0", "algo": "ppo", "variants": variants_of("memory", ["none", "lstm"]),
             "steps": 1000, "seeds": 2, "trials": 5}  # fmt: skip
    return Study(**(facts | changes))


def test_every_variant_is_searched_alike_and_gets_its_best_settings(tmp_path, monkeypatch):
    asked = []

    rates = [choice.get("learning_rate", 0.0) for choice in candidates(study(), 5)]
    broken = max(rates)

    def planted(plans, out, launcher, **_):
        assert all(plan.trial for plan in plans)
        own = [
            {k: v for k, v in plan.settings.items() if k not in ("seed", "threads")}
            for plan in plans
        ]
        asked.extend(
            (settings, plan.settings["seed"]) for settings, plan in zip(own, plans, strict=True)
        )
        rate = [settings.get("learning_rate", 0.0) for settings in own]
        memory = [settings["memory"] == "lstm" for settings in own]
        value = [r if m else -r for r, m in zip(rate, memory, strict=True)]
        return [Outcome(math.nan if v == broken else v, v, v, 1.0) for v in value]

    monkeypatch.setattr(module, "run_all", planted)
    tuned, found = tune(study(), tmp_path)
    assert {seed for _, seed in asked} == {SEED}
    tried = {memory: [{k: v for k, v in s.items() if k != "memory"} for s, _ in asked
                      if s["memory"] == memory] for memory in ("none", "lstm")}  # fmt: skip
    assert tried["none"] == tried["lstm"] == candidates(study(), 5)
    assert len(tried["none"]) == 5
    assert tuned.variants[0].settings == {"memory": "none"}  # its own settings were the best
    best = sorted(rates)[-2]  # the highest broke down
    assert tuned.variants[1].settings["learning_rate"] == best
    assert found[1].evaluation == best
    text = "\n".join(tuned_lines(tuned, found))
    assert "the same 5 trials of 1,000 steps for every variant" in text
    assert "| none | its own settings |" in text
    monkeypatch.setattr(module, "candidates", lambda *_: [{}, {"learning_rate": 1.0}])
    with pytest.raises(UsageError, match="other tuned settings"):
        tune(study(), tmp_path)


def test_what_the_study_sets_or_varies_is_not_searched():
    fields = {name for choice in candidates(study(), 20) for name in choice}
    assert fields == {"learning_rate", "gamma", "entropy_coef"}
    fields = {name for choice in candidates(study(settings={"gamma": 0.9}), 20) for name in choice}
    assert fields == {"learning_rate", "entropy_coef"}
    rates = study(algo="dqn", variants=variants_of("learning_rate", [1e-3, 3e-4]))
    assert {n for choice in candidates(rates, 20) for n in choice} == {"gamma", "update_ratio"}
    with pytest.raises(UsageError, match="at least 2 trials"):
        candidates(study(), 1)


def test_a_tuned_comparison_is_not_the_plain_one(tmp_path):
    module.claim(study(), tmp_path)
    with pytest.raises(UsageError, match="holds another comparison"):
        compare(study(trials=0), tmp_path)


def test_a_trial_that_breaks_is_the_worst_and_no_error(tmp_path, monkeypatch):
    def breaks(*_):
        raise NonFiniteError("planted")

    monkeypatch.setattr(outcome, "_trained", breaks)
    plan = RunPlan("TMaze-v0", "ppo", {}, 10, tmp_path)
    with pytest.raises(NonFiniteError, match="planted"):
        run_one(plan)
    assert math.isnan(run_one(replace(plan, trial=True)).evaluation)
    assert math.isnan(json.loads((tmp_path / outcome.OUTCOME).read_text())["evaluation"])
