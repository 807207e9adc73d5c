"""Tiny tasks with known answers; for each, one kind of fault makes learning impossible.

A probe trains for seconds with the algorithm's real code. Then the agent is asked for its expected
value at a known place, or for its return.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from retain.doctor.report import Result, Verdict, judged
from retain.envs.options import BARE
from retain.train.agent import Agent

CUE = 3
"""Number of steps between a cue and its use."""


@dataclass(frozen=True)
class Plan:
    """The plan of a probe's episode.

    Args:
        length: number of steps.
        cut: whether the end is a truncation.
        cue: whether a cue of -1 or 1 is shown, at the first step only.
        shown: whether the cue is shown at every step.
        pays: the reward. "one": 1 at the last step. "cue": the cue's sign at the last step.
            "action": at the last step, 1 or -1 for the right action (the cue's sign, or the upper
            one). "each": 1 at every step. "last action": at the last step, by the previous action.
        varied: whether episodes are up to two steps longer.
    """

    length: int = 1
    cut: bool = False
    cue: bool = False
    shown: bool = False
    pays: str = "one"
    varied: bool = False


class Probe(gym.Env[Any, Any]):
    """Observes (1, last step, cue)."""

    observation_space = gym.spaces.Box(-1, 1, (3,), np.float32)

    def __init__(self, plan: Plan, discrete: bool) -> None:
        self.plan = plan
        self.action_space: gym.Space[Any] = (
            gym.spaces.Discrete(2) if discrete else gym.spaces.Box(-1, 1, (1,), np.float32)
        )

    def _see(self) -> Any:
        shown = self.cue if self.plan.shown or (self.plan.cue and self.t == 0) else 0.0
        return np.array([1.0, self.t == self.length - 1, shown], np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        """Draws the cue."""
        super().reset(seed=seed)
        cued = self.plan.cue or self.plan.shown
        self.cue = float(2 * self.np_random.integers(2) - 1) if cued else 1.0
        self.length = self.plan.length + (self.np_random.integers(3) if self.plan.varied else 0)
        self.t, self.before = 0, 0.0
        return self._see(), {}

    def step(self, action: Any) -> Any:
        """Pays according to the plan."""
        plan, last = self.plan, self.t == self.length - 1
        side = (
            2.0 * float(action) - 1.0 if np.ndim(action) == 0 else float(np.clip(action[0], -1, 1))
        )
        self.t += 1
        reward = 0.0
        if plan.pays == "each" or (last and plan.pays == "one"):
            reward = 1.0
        elif last and plan.pays == "cue":
            reward = self.cue
        elif last and plan.pays == "action":
            reward = self.cue * side
        elif last and plan.pays == "last action":
            reward = self.before
        self.before = side
        return self._see(), reward, last and not plan.cut, last and plan.cut, {}


def trained(agent: Agent, plan: Plan, *, steps: int, gamma: float = 0.5, **changes: Any) -> Agent:
    """An agent of the same kind that has learned a probe."""
    discrete = isinstance(agent.action_space, gym.spaces.Discrete | gym.spaces.MultiDiscrete
                          | gym.spaces.MultiBinary)  # fmt: skip
    memory = agent.config.memory
    now = agent.settings | BARE | {
        "gamma": gamma, "seed": 1, "encoder": "auto", "encoder_hidden": (), "hidden": (32,),
        "memory_hidden": 32,
        "memory_layers": 1, "normalise_obs": False, "window": 8, "precision": "float32",
        "workers": 0, "env_groups": 1,
    }  # fmt: skip
    now |= agent.config.probing()
    now |= changes | {"memory": memory}
    new = type(agent).exactly(lambda: Probe(plan, discrete), now)
    new.learn(int(steps * agent.update.probe_share))
    return new


@torch.no_grad()
def values(agent: Agent, plan: Plan, cue: float, warm: float | None = None) -> Tensor:
    """`[length]` the agent's expected return at each step of an episode that it plays.

    Args:
        warm: the cue of an episode played just before, whose carry is passed on.
    """
    env = Probe(plan, isinstance(agent.action_space, gym.spaces.Discrete))
    carry: Any = agent.initial_carry(1)
    found: list[float] = []
    reward: Any = 0.0
    for episode_cue in ([] if warm is None else [warm]) + [cue]:
        found, reset = [], True
        env.reset(seed=0)
        env.cue = episode_cue if plan.cue or plan.shown else 1.0
        env.length = plan.length
        obs, over = env._see(), False
        while not over:
            value, action, carry = _value(agent, obs, carry, reset, reward)
            found.append(value)
            obs, reward, terminated, truncated, _ = env.step(action)
            over, reset = terminated or truncated, False
    return torch.tensor(found)


def _value(agent: Agent, obs: Any, carry: Any, reset: bool, reward: Any) -> tuple[float, Any, Any]:
    policy = agent.policy
    last: Any = carry[1]
    previous = last.unsqueeze(0), torch.full((1, 1), float(reward))
    rows, flag = torch.from_numpy(obs).view(1, 1, -1), torch.tensor([[reset]])
    prepared = policy.prepare(rows)
    action, after = agent.act(obs, carry, reset, deterministic=True, reward=reward)
    acted: Any = after[1]
    found = agent.update.expected(prepared, carry[0], flag, *previous, acted.unsqueeze(0))
    return float(found), action, after


def _right(agent: Agent, plan: Plan) -> float:
    """The mean return of deterministic play over both cues, 16 episodes."""
    return float(agent.evaluate(16, seed=3).return_mean)


def _near(
    name: str,
    got: list[float],
    wanted: list[float],
    close: float,
    meaning: str,
    mend: str,
    otherwise: Verdict = "fail",
) -> Result:
    gap = max(abs(a - b) for a, b in zip(got, wanted, strict=True))
    shown = ", ".join(f"{a:.2f} for {b:.2f}" for a, b in zip(got, wanted, strict=True))
    return judged(f"probe: {name}", gap < close, shown, meaning, mend, otherwise=otherwise)


def probe_results(agent: Agent) -> Iterator[Result]:
    """The results of every probe that fits the agent's algorithm and memory."""
    remembers = agent.policy.recurrent
    plan = Plan()
    yield _near(
        "the value of a constant", [float(values(trained(agent, plan, steps=4000), plan, 1)[0])],
        [1.0], 0.15, "The critic does not learn even a constant.",
        "Look at the value loss, its sign, and whether the critic is stepped.",
    )  # fmt: skip
    plan = Plan(shown=True, pays="cue")
    agent_ = trained(agent, plan, steps=6000)
    yield _near(
        "the value of an observation", [float(values(agent_, plan, c)[0]) for c in (-1, 1)],
        [-1.0, 1.0], 0.25, "The critic learns a constant, not a function of what it sees.",
        "Is the observation the one the reward belongs to? Is it normalised away?",
    )  # fmt: skip
    plan = Plan(length=2)
    yield _near(
        "discounting", values(trained(agent, plan, steps=8000), plan, 1).tolist(),
        [0.5, 1.0], 0.12, "A value one step early is not discounted by gamma.",
        "Check gamma, the trace's boundary mask, and which step a reward is written to.",
    )  # fmt: skip
    plan = Plan(length=4, cut=True, pays="each")
    agent_ = trained(agent, plan, steps=20_000)
    yield _near(
        "truncation is no end", [float(values(agent_, plan, 1).mean())], [2.0], 0.3,
        "Truncated episodes are valued as if nothing followed: V is not r / (1 - gamma).",
        "Bootstrap at truncations from the final observation; two masks, never one.",
    )  # fmt: skip
    yield _reached(
        agent, "the choice of an action", Plan(pays="action"), 6000, 0.7,
        "The policy does not learn which of two actions pays.",
        "Check the advantage's sign and the log-probability of the stored action.",
    )  # fmt: skip
    yield _reached(
        agent, "acting on an observation", Plan(pays="action", shown=True), 10_000, 0.7,
        "The policy does not learn to act on what it sees.",
        "Do actions, observations and advantages of a minibatch belong together?",
    )  # fmt: skip
    plan = Plan(length=CUE + 1, cue=True, shown=True, pays="action", varied=True)
    yield _reached(
        agent, "a fully observed control", plan, 16_000, 0.7,
        "The agent fails in episodes of several steps although it sees everything.",
        "See the probes before; with memory, see the invariants of resets.",
    )  # fmt: skip
    if agent.config.reads_action or "last action" in agent.update.probes:
        yield _reached(
            agent, "reward for the last action", Plan(length=2, pays="last action"), 20_000, 0.6,
            "A reward one step late is not credited to the action that earned it.",
            "Check the trace and the discount; the reward at t belongs to action t.",
        )  # fmt: skip
    if remembers:
        yield from _memory_probes(agent)
    else:
        plan = Plan(length=CUE + 1, cue=True, pays="action")
        score = _right(trained(agent, plan, steps=12_000), plan)
        yield judged(
            "probe: impossible without memory", score < 0.5, f"return {score:.2f}, chance 0",
            "A policy without memory does what only memory can: something leaks.",
            "Look for state that survives between steps.",
        )  # fmt: skip


def _reached(
    agent: Agent, name: str, plan: Plan, steps: int, least: float, meaning: str, mend: str
) -> Result:
    score = _right(trained(agent, plan, steps=steps), plan)
    return judged(f"probe: {name}", score >= least, f"return {score:.2f} of 1", meaning, mend)


def _memory_probes(agent: Agent) -> Iterator[Result]:
    plan = Plan(length=CUE + 1, cue=True, pays="cue")
    agent_ = trained(agent, plan, steps=40_000, gamma=0.9)
    yield _near(
        f"the value of a cue {CUE} steps ago",
        [float(values(agent_, plan, c)[-1]) for c in (-1, 1)], [-1.0, 1.0], 0.4,
        "The critic does not remember.", "Does the gradient reach the memory through the segment?",
    )  # fmt: skip
    yield _near(
        "episodes back to back",
        [float(values(agent_, plan, c, warm=-c)[-1]) for c in (-1, 1)], [-1.0, 1.0], 0.4,
        "After another episode the old cue still matters: the carry survives the reset.",
        "Clear the carry at the new episode's first step, in acting and in training.",
    )  # fmt: skip
    plan = Plan(length=CUE + 1, cue=True, pays="action", varied=True)
    yield _reached(
        agent, f"acting on a cue {CUE} to {CUE + 2} steps ago", plan, 80_000, 0.7,
        "The policy cannot use what it saw earlier.",
        "Does the policy's loss reach the memory it reads?",
    )  # fmt: skip
    if "earlier segment" in agent.update.probes:
        plan = Plan(length=7, cue=True, pays="cue")
        agent_ = trained(agent, plan, steps=60_000, gamma=0.9,
                         **agent.config.short_segments())  # fmt: skip
        got = [float(values(agent_, plan, c)[-1]) for c in (-1, 1)]
        yield _near(
            "a cue from before the segment", got, [-1.0, 1.0], 0.5,
            "The agent does not use what it saw in the previous segment. If acting and training "
            "carry the state on (an invariant above), the memory fades, or learns to hold only "
            "what a gradient reaches.",
            "A memory that holds longer, or longer sequences.", otherwise="warn",
        )  # fmt: skip
