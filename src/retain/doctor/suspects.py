"""Finds the setting that is most probably wrong, from a short training."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray

from retain.doctor.environment import LARGE, raw_scale
from retain.nn.q_networks import OffPolicyNets
from retain.train.agent import Agent

Row = dict[str, float]


@dataclass
class Look:
    """Random play in the environment."""

    returns: list[float]
    rewards: NDArray[np.float64]
    wait: float
    """Median steps to the next reward that differs from the most frequent one; an episode without
    any counts with its length."""
    length: float
    """Mean steps of an episode, or of the part that was played if none ended."""


@dataclass
class Trained:
    """The outcome of half a minute of training."""

    agent: Agent
    look: Look
    rows: list[Row]
    returns: list[float]
    """Returns of the training episodes, in the order in which they ended."""
    broke: str = ""
    """The error that ended the training, if any."""

    def setting(self, name: str) -> Any:
        """A setting's value; None if the algorithm has no such setting."""
        return self.agent.settings.get(name)

    def metric(self, name: str, share: float = 1.0) -> float:
        """The median of a metric over the last `share` of the rows; NaN if it is missing."""
        rows = self.rows[-max(1, round(len(self.rows) * share)) :]
        values = [row[name] for row in rows if not math.isnan(row.get(name, math.nan))]
        return float(np.median(values)) if values else math.nan

    @property
    def steps(self) -> int:
        """Number of environment steps that the agent was trained on."""
        return self.agent.steps

    @property
    def late(self) -> list[float]:
        """The returns of the last third of the training episodes, at least 5."""
        return self.returns[-max(5, len(self.returns) // 3) :]

    @property
    def rose(self) -> bool:
        """Whether the late returns exceed random play by more than three standard errors of
        both."""
        if len(self.returns) < 5 or len(self.look.returns) < 2:
            return False
        spread = [np.var(x, ddof=1) / len(x) for x in (self.late, self.look.returns)]
        gap = np.mean(self.late) - np.mean(self.look.returns)
        return bool(gap > 3 * math.sqrt(sum(spread)) + 1e-9)


@dataclass(frozen=True)
class Rule:
    """A setting that may be wrong.

    Args:
        seen: the evidence from the training; "" if there is none.
        mend: the flag to change.
        always: whether the rule also applies if the return rose.
    """

    seen: Callable[[Trained], str]
    mend: str
    always: bool = False


def _broke(t: Trained) -> str:
    return f"a number was not finite after {t.steps:,} steps" if t.broke else ""


def _observations(t: Trained) -> str:
    if t.setting("normalise_obs") or t.agent.env is None:
        return ""
    largest = raw_scale(t.agent.env, t.agent.run_settings)
    return f"observations of up to {largest:.3g} are read as they are" if largest else ""


def _rewards(t: Trained) -> str:
    settings = t.agent.run_settings
    size = float(np.abs(settings.learned_reward(t.look.rewards)).max(initial=0.0))
    if t.setting("normalise_reward") or size == 0.0 or 0.01 <= size <= LARGE:
        return ""
    return f"rewards of up to {size:.3g} are learned from as they are"


def _clipped_rewards(t: Trained) -> str:
    bound = t.setting("reward_clip")
    if bound is None:
        return ""
    scaled = np.abs(t.look.rewards * t.setting("reward_scale"))
    share = float((scaled > bound).mean())
    return f"{share:.0%} of the rewards are clipped" if share > 0.5 else ""


def _discount(t: Trained) -> str:
    kept = float(t.setting("gamma")) ** t.look.wait
    if kept >= 0.02:
        return ""
    return (
        f"rewards that matter are about {t.look.wait:.0f} steps away, where gamma "
        f"{t.setting('gamma'):g} leaves {kept:.1g} of them"
    )


def _clip(t: Trained) -> str:
    bound, share = t.setting("clip_range"), t.metric("clip_fraction")
    small = bound is not None and bound < 0.05 and share > 0.3
    return f"{share:.0%} of the steps leave a clip range of {bound:g}" if small else ""


def _passes(t: Trained) -> str:
    epochs = t.setting("epochs") or 0
    return f"{epochs} passes over each segment" if epochs > 30 else ""


def _large_steps(t: Trained) -> str:
    kl, share = t.metric("approx_kl"), t.metric("clip_fraction")
    if kl > 0.15 or share > 0.55:
        return f"each update moves the policy by a KL of {kl:.2g}, clip fraction {share:.2g}"
    size = t.metric("q_mean", 0.2)
    largest = float(np.abs(t.look.rewards).max(initial=0.0))
    if isinstance(nets := t.agent.policy, OffPolicyNets):
        largest = float(nets.sized(torch.tensor(largest)))
    bound = 10 * largest / max(1e-3, 1 - t.setting("gamma"))
    diverges = abs(size) > bound > 0
    return f"action values of {size:.3g} are beyond any possible return" if diverges else ""


def _rough_steps(t: Trained) -> str:
    kl, share = t.metric("approx_kl"), t.metric("clip_fraction")
    if kl > 0.05 or share > 0.4:
        return f"each update moves the policy by a KL of {kl:.2g}, clip fraction {share:.2g}"
    jump = max((row.get("approx_kl", 0.0) for row in t.rows), default=0.0)
    if jump > 1 and kl < 1e-3:  # a policy that became certain at once moves no more
        return f"an update moved the policy by a KL of {jump:.2g}, and hardly any has since"
    first, last = t.rows[0].get("entropy", math.nan), t.metric("entropy", 0.2)
    blown = last > first + 1.0 and not (t.setting("entropy_coef") or 0.0) >= 0.03
    return f"entropy went from {first:.2g} to {last:.2g} with almost no bonus" if blown else ""


def _bonus(t: Trained) -> str:
    coef, first, last = t.setting("entropy_coef") or 0.0, t.rows[0], t.metric("entropy", 0.2)
    stays = last >= first.get("entropy", math.inf) * 0.97
    held = coef >= 0.03 and stays
    return f"entropy stays at {last:.2g} under a bonus of {coef:g}" if held else ""


def _spread(t: Trained) -> str:
    space = t.agent.action_space
    spread = t.setting("log_std_init")
    if spread is None or not isinstance(space, gym.spaces.Box) or not space.is_bounded():
        return ""
    half = (
        1.0 if t.setting("scale_actions") or t.setting("squash") else (space.high - space.low) / 2
    )
    ratio = float(np.max(math.exp(spread) / half))
    return f"exploration is {ratio:.2g} times as wide as the actions' bounds" * (ratio > 4)


def _small_steps(t: Trained) -> str:
    kl = t.metric("approx_kl")
    return f"updates hardly move the policy: KL {kl:.1g}" if kl < 1e-3 else ""


def _critic(t: Trained) -> str:
    if (t.setting("value_coef") or 0.0) < 0.01 and t.setting("value_coef") is not None:
        return f"the value's error counts {t.setting('value_coef'):g} times"
    dead = t.metric("value_std", 0.5) < 0.05 * t.metric("target_std", 0.5)
    blind = t.metric("explained_variance", 0.5) < 0.02
    return "the value function explains nothing of the returns" if dead and blind else ""


def _sequence(t: Trained) -> str:
    length = t.setting("sequence_length")
    short = (
        t.agent.policy.recurrent and length is not None and length < 8 and length < t.look.length
    )
    return f"gradients reach {length} steps back" if short else ""


def _segment(t: Trained) -> str:
    if t.setting("buffer_size") is not None:
        return ""
    segment = t.setting("num_envs") * t.setting("num_steps")
    if segment >= min(512, 8 * t.look.length):
        return ""
    return f"a segment holds {segment} steps of {t.setting('num_envs')} environments"


def _updates(t: Trained) -> str:
    ratio = t.setting("update_ratio")
    return f"{ratio:g} updates per step" if ratio is not None and ratio < 0.02 else ""


def _memory_of_steps(t: Trained) -> str:
    size = t.setting("buffer_size")
    return f"the replay holds {size:,} steps" if size is not None and size < 2000 else ""


RULES = (
    Rule(_broke, "--learning-rate: a tenth of it.", always=True),
    Rule(_observations, "--normalise-obs."),
    Rule(_rewards, "--normalise-reward (on-policy), or --reward-scale."),
    Rule(_clipped_rewards, "--reward-clip: larger, or none."),
    Rule(_clip, "--clip-range 0.2.", always=True),
    Rule(_passes, "--epochs 10."),
    Rule(_large_steps, "--learning-rate: a tenth of it.", always=True),
    Rule(_bonus, "--entropy-coef 0 (Box actions) or 0.01 (discrete ones)."),
    Rule(_rough_steps, "--learning-rate: a tenth of it."),
    Rule(_spread, "--log-std-init 0 with --scale-actions."),
    Rule(_discount, "--gamma: nearer to 1, 1 - 1 / (steps until a reward)."),
    Rule(_small_steps, "--learning-rate: ten times larger."),
    Rule(_critic, "--value-coef 0.5."),
    Rule(_sequence, "--sequence-length 32."),
    Rule(_segment, "--num-envs 16, or more --num-steps."),
    Rule(_updates, "--update-ratio 1."),
    Rule(_memory_of_steps, "--buffer-size 1000000."),
)
"""The rules, in the order in which they are tried."""
