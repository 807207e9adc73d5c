"""Verdicts of planted outcomes: what is said, what is not, and what to try instead."""

import numpy as np
import pytest

import retain
from retain.study import Study
from retain.study.compare import Variant, variants_of
from retain.study.memory_length import CLEARINGS, WHOLE
from retain.study.outcome import Outcome, rise_at_end
from retain.study.summary import memory_lines, table
from retain.study.sweep import Fresh
from retain.study.verdict import Evidence, judge
from retain.train.yardstick import random_return, reference

FIVE = (-2, -1, 0, 1, 2)
NONE_LSTM = variants_of("memory", ["none", "lstm"])


def study(seeds=5, variants=NONE_LSTM, **changes):
    return Study("MyTask-v0", "ppo", variants, 100_000, seeds, **changes)


def runs(around, spread=FIVE, random=-235.0, rise=0.0, pace=1000.0, cleared=None):
    """One outcome for each entry of `spread`."""
    return [
        Outcome(around + x, around, around, pace, cleared or {}, random + y, rise)
        for x, y in zip(spread, FIVE, strict=False)
    ]


@pytest.mark.parametrize("seeds", [3, 5])
def test_memory_never_hurts_where_the_memory_learned_nothing(seeds):
    # The case that must never come back: -188 without memory, -232 with, -235 at random.
    found = {"none": runs(-188.0)[:seeds], "lstm": runs(-232.0)[:seeds]}
    verdict = judge(study(seeds), found)
    assert verdict.kind == "memory did not learn"
    assert ("-232 against -235" if seeds == 5 else "-233 against -236") in verdict.headline
    assert "its settings, not memory, are the question" in verdict.headline
    assert "hurts" not in str(verdict)
    assert verdict.advice[0].startswith("retain doctor ppo --env MyTask-v0 --memory lstm")
    assert verdict.advice[1].startswith("--tune")


def test_no_verdict_where_nobody_is_better_than_random_actions():
    spread = (-20, 30, -40, 25, 10)
    verdict = judge(study(), {"none": runs(-233, spread), "lstm": runs(-232, spread)})
    assert verdict.kind == "nothing learned"
    assert verdict.headline.startswith("no verdict: no variant is better than random by more")
    assert "the settings or the budget, not memory, are the question" in verdict.headline
    rising = judge(study(), {"none": runs(-233, spread), "lstm": runs(-232, spread, rise=5.0)})
    assert "its curve still rises" in rising.headline
    assert rising.advice[0].startswith("--steps 300000")


def test_a_reference_says_how_little_was_learned(monkeypatch):
    found = {"none": runs(-225), "lstm": runs(-222)}
    assert judge(study(), found).kind == "helps"
    monkeypatch.setattr(Evidence, "reference", 10.0)
    verdict = judge(study(), found)
    assert verdict.kind == "nothing learned"
    assert "much better" in verdict.headline


def test_too_few_seeds_carry_no_headline_however_far_apart():
    verdict = judge(study(3), {"none": runs(-200)[:3], "lstm": runs(10)[:3]})
    assert verdict.kind == "too few seeds"
    assert "no p-value can go below 0.1" in verdict.headline
    assert "can never reach 0.05" in verdict.doubt
    assert verdict.advice == ("--seeds 5: the runs that are there are kept",)
    # Of three that the best is picked from, four seeds are too few as well.
    three = study(4, variants_of("memory", ["none", "lstm", "gru", "window"]))
    found = {
        "none": runs(-200)[:4],
        "lstm": runs(10)[:4],
        "gru": runs(0)[:4],
        "window": runs(-9)[:4],
    }
    assert judge(three, found).kind == "too few seeds"
    assert judge(study(4), {name: found[name] for name in ("none", "lstm")}).kind == "helps"


def test_no_verdict_while_the_one_behind_is_still_rising():
    found = {"none": runs(-100), "lstm": runs(-50, rise=40.0)}
    assert judge(study(), found).kind == "helps"  # the one ahead may rise
    found = {"none": runs(-100, rise=40.0), "lstm": runs(-50)}
    verdict = judge(study(), found)
    assert verdict.kind == "still rising"
    assert "none is still rising (by 40 in the last quarter" in verdict.headline
    assert verdict.advice[0].startswith("--steps 300000")
    level = {"none": runs(-50, rise=40.0), "lstm": runs(-50.5)}
    assert judge(study(), level).kind == "still rising"
    assert judge(study(), {"none": runs(-50, rise=10.0), "lstm": runs(-50.5)}).decided


def test_a_sweep_asks_what_is_best_after_its_steps_rising_or_not():
    variants = Variant("default", {"memory": "gru"}), Variant("tuned", {"memory": "gru"})
    found = {"default": runs(-100, rise=40.0), "tuned": runs(-50, rise=40.0)}
    assert judge(study(variants=variants), found).kind == "still rising"
    fresh = Fresh("MyTask-v0", "ppo", variants, 100_000, 5, trials=20)
    assert judge(fresh, found).headline.startswith("tuned helps: tuned against default +50")
    unlearned = {"default": runs(-235), "tuned": runs(-235)}
    advice = judge(fresh, unlearned).advice
    assert advice[0].startswith("retain doctor ppo --env MyTask-v0 --memory gru")
    assert not any("--tune" in line for line in advice)


def test_no_verdict_where_seeds_disagree():
    found = {"none": runs(-190), "lstm": runs(-100, (-130, 110, -125, 105, 0))}
    verdict = judge(study(), found)
    assert verdict.kind == "seeds disagree"
    assert "(lstm from -230 to 10" in verdict.headline
    assert verdict.advice[0].startswith("--seeds 10")
    assert verdict.advice[1].startswith("--tune")
    assert not any("--tune" in line for line in judge(study(trials=8), found).advice)


def test_a_verdict_says_helps_hurts_or_no_difference():
    low, high = runs(-100), runs(-50, pace=500.0)
    helps = judge(study(), {"none": low, "lstm": high})
    assert helps.headline.startswith("memory helps: lstm against none +50 [")
    assert helps.headline.endswith("p = 0.0079")
    assert helps.advice == ()
    hurts = judge(study(), {"none": high, "lstm": low})
    assert hurts.headline.startswith(
        "memory hurts here with these settings: lstm is below none, -50"
    )
    assert "with these settings" not in judge(study(trials=8), {"none": high, "lstm": low}).headline
    same = judge(study(), {"none": low, "lstm": runs(-100.5, pace=500.0)})
    assert same.kind == "no difference"
    assert (
        "does not help here with these settings: none is as good and 2.0x faster" in same.headline
    )
    rates = study(variants=variants_of("learning_rate", [1e-3, 3e-4]))
    verdict = judge(rates, {"learning_rate 0.001": low, "learning_rate 0.0003": high})
    assert verdict.headline.startswith("learning_rate 0.0003 helps")
    lines = table({"none": low, "lstm": high})
    assert "| lstm | -50 [" in lines[3]
    assert "| 1 [1, 1] | 0.008 |" in lines[3]


def test_the_length_of_a_memory_is_given_only_where_something_was_learned():
    cleared = {str(k): -230.0 + k for k in CLEARINGS} | {WHOLE: -100.0}
    found = {"none": runs(-100), "lstm": runs(-235, cleared=cleared)}
    assert memory_lines(study(), found)[-1].endswith("| not given: it did not learn |")
    found["lstm"] = runs(-100, cleared=cleared)
    assert memory_lines(study(), found)[-1].endswith("steps |")


def test_the_rise_at_the_end_is_that_of_the_last_quarter():
    steps = np.arange(1.0, 101.0)
    assert rise_at_end(steps, np.minimum(steps, 60.0)) == pytest.approx(0.0, abs=1e-9)
    assert rise_at_end(steps, np.maximum(steps - 70, 0)) == pytest.approx(25.0)
    assert rise_at_end(steps[:2], steps[:2]) == 0.0


def test_random_actions_are_measured_in_the_agents_own_environment():
    agent = retain.PPO("CartPole-v1", seed=3)
    assert 15 < random_return(agent, 20) < 30
    assert random_return(agent, 20) == random_return(agent, 20)
    short = retain.PPO("CartPole-v1", seed=3, time_limit=5)
    assert random_return(short, 20) == 5.0


def test_a_reference_is_the_catalogues_or_the_registered_threshold():
    assert reference("CartPoleNoVel-v1") == 500
    assert reference("LunarLanderContinuous-v3") == 200
    assert reference("nowhere:MyTask-v0") is None
