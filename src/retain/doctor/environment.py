"""Checks an environment through gymnasium's own interface."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np

from retain.doctor.report import Report, Result, judged
from retain.envs.make import EnvLike, make_single
from retain.envs.options import PLAIN, EnvOptions
from retain.envs.spaces import action_converter, flat_space, leaves

STEPS = 300
"""Largest number of steps examined in an episode."""
EPISODES = 5
LARGE = 30.0
"""Size of raw observations or rewards beyond which learning is hard."""


@dataclass
class Trace:
    """An episode's responses from the environment, flattened."""

    obs: list[Any] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    terminated: bool = False
    truncated: bool = False

    @property
    def over(self) -> bool:
        """Whether the episode ended by itself."""
        return self.terminated or self.truncated

    def same(self, other: "Trace") -> int | None:
        """The first step at which two episodes differ; None if they are equal."""
        for t, (a, b) in enumerate(zip(self.obs, other.obs, strict=False)):
            if any(not np.array_equal(x, y) for (_, x), (_, y) in zip(a, b, strict=True)):
                return t
        for t, (one, two) in enumerate(zip(self.rewards, other.rewards, strict=False)):
            if one != two:
                return t + 1
        return None if len(self.obs) == len(other.obs) else min(len(self.obs), len(other.obs))


class Player:
    """Plays an environment with fixed actions."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        self.env = env
        self.convert = action_converter(env.action_space)

    def actions(self, seed: int) -> Iterator[Any]:
        """An endless stream of actions that depends only on the seed."""
        self.env.action_space.seed(seed)
        while True:
            yield self.convert(self.env.action_space.sample())

    def play(self, seed: int, steps: int = STEPS, choices: int = 0) -> Trace:
        """Plays an episode and copies its observations."""
        trace = Trace()
        obs, _ = self.env.reset(seed=seed)
        trace.obs.append(self._copy(obs))
        for action, _ in zip(self.actions(choices), range(steps), strict=False):
            obs, reward, terminated, truncated, _ = self.env.step(action)
            trace.obs.append(self._copy(obs))
            trace.rewards.append(float(reward))
            trace.terminated, trace.truncated = bool(terminated), bool(truncated)
            if trace.over:
                break
        return trace

    def _copy(self, obs: Any) -> list[tuple[str, Any]]:
        return [(k, np.array(x)) for k, x in leaves(obs, self.env.observation_space)]


def check_environment(env: EnvLike, options: EnvOptions = PLAIN) -> Report:
    """Runs every check of an environment, for tests.

    Raises:
        AssertionError: something is broken; the lines say what, and how to fix it.
    """
    return Report(list(environment_results(env, options))).require()


def environment_results(
    env: EnvLike, options: EnvOptions = PLAIN, settings: Mapping[str, Any] | None = None
) -> Iterator[Result]:
    """The results of every check.

    Args:
        settings: settings of the agent that is to learn there; None without an agent.
    """
    made = make_single(env, options)
    flat_space(made.observation_space)  # refuses what no policy could read
    player = Player(made)
    try:
        episodes = [player.play(seed, choices=seed) for seed in range(EPISODES)]
        yield _spaces(player)
        isolated = _isolated(player, lambda: Player(make_single(env, options)))
        yield _deterministic(
            player, lambda: Player(make_single(env, options)), episodes[0], isolated.verdict == "ok"
        )
        yield isolated
        yield _seeded(episodes)
        yield _finite(episodes)
        yield _autoreset(player, episodes)
        yield _ends(player, episodes)
        yield _aliasing(player)
        yield _reward_scale(episodes)
        yield _observation_scale(made, episodes, settings)
    finally:
        made.close()


def _spaces(player: Player) -> Result:
    space = player.env.observation_space
    obs, _ = player.env.reset(seed=0)
    wrong = "" if space.contains(obs) else f"reset gave {_short(obs)}"
    for action, t in zip(player.actions(0), range(100), strict=False):
        obs, _, terminated, truncated, _ = player.env.step(action)
        if not wrong and not space.contains(obs):
            wrong = f"step {t + 1} gave {_short(obs)}"
        if terminated or truncated:
            player.env.reset()
    return judged(
        "observation space", not wrong, wrong or "all observations inside", f"{space} does not "
        "hold what the environment shows: networks are built for another shape, dtype or range.",
        "Correct observation_space (shape, dtype, bounds), or what reset and step return.",
    )  # fmt: skip


def _short(obs: Any) -> str:
    array = np.asarray(obs)
    return f"{array.dtype}{array.shape} in [{array.min():.3g}, {array.max():.3g}]"


def _deterministic(
    player: Player, fresh: Callable[[], Player], first: Trace, isolated: bool
) -> Result:
    """Checks that an episode is determined by its seed and its actions. If episodes affect later
    ones, the check says so once, and two fresh environments decide."""
    again, other = player.play(0, choices=0), fresh()
    twin = other.play(0, choices=0)
    other.env.close()
    differs = [t for t in (first.same(again), first.same(twin)) if t is not None]
    if differs and not isolated and first.same(twin) is None:
        return Result(
            "determinism", "ok",
            "same seed, same actions: same episode in two fresh environments (see reset isolation)",
        )  # fmt: skip
    return judged(
        "determinism", not differs,
        "same seed, same actions: same episode" if not differs
        else f"same seed and actions, another episode from step {min(differs)} on",
        "Episodes cannot be played back: no exact resume, no recovery of a killed worker.",
        "Draw every random number from self.np_random, which reset(seed=...) makes; keep clocks "
        "and global state out.",
    )  # fmt: skip


def _isolated(player: Player, fresh: Callable[[], Player]) -> Result:
    other = fresh()
    clean = other.play(11, choices=3)
    other.env.close()
    player.play(7, choices=9)
    after = player.play(11, choices=3)
    differs = clean.same(after)
    return judged(
        "reset isolation", differs is None,
        "an episode is the same after another one" if differs is None
        else f"after another episode it differs from step {differs} on",
        "An episode remembers the one before it: what is learned depends on the order of episodes.",
        "Set every attribute in reset that step changes.",
    )  # fmt: skip


def _seeded(episodes: list[Trace]) -> Result:
    varied = any(episodes[0].same(other) is not None for other in episodes[1:])
    return judged(
        "seeds matter", varied, "other seeds and actions, other episodes" if varied
        else f"{len(episodes)} seeds and action sequences gave the very same observations",
        "Nothing varies: neither the seed nor the actions change the observations.",
        "Check that reset uses the seed and that step uses the action.", otherwise="warn",
    )  # fmt: skip


def _finite(episodes: list[Trace]) -> Result:
    bad = [
        t
        for trace in episodes
        for t, obs in enumerate(trace.obs)
        if any(not np.isfinite(np.asarray(x, dtype=np.float64)).all() for _, x in obs)
    ]
    bad += [t + 1 for trace in episodes for t, r in enumerate(trace.rewards) if not np.isfinite(r)]
    return judged(
        "finite numbers", not bad,
        "no NaN or infinity" if not bad else f"NaN or infinity at step {min(bad)}",
        "One such number destroys every parameter that it reaches.",
        "Find the division or logarithm that makes it.",
    )  # fmt: skip


def _autoreset(player: Player, episodes: list[Trace]) -> Result:
    """Checks that the environment waits for an explicit reset after an end: its next observation,
    if there is one at all, continues the episode and never starts another."""
    wrapped = player.env
    while isinstance(wrapped, gym.Wrapper):
        if "autoreset" in type(wrapped).__name__.lower():
            return _autoreset_result(f"{type(wrapped).__name__} resets by itself")
        wrapped = wrapped.env
    if not any(trace.over for trace in episodes):
        return Result("autoreset", "ok", f"no episode ended in {STEPS} steps")
    starts = [trace.obs[0] for trace in episodes]
    number = next(i for i, trace in enumerate(episodes) if trace.over)
    trace = player.play(number, choices=number)
    final = trace.obs[-1]
    # Where an episode passes through first observations anyway, to end on one says nothing.
    returns = any(_equal(o, start) for t in episodes for o in t.obs[1:-1] for start in starts)
    if any(_equal(final, start) for start in starts) and len(trace.obs) > 2 and not returns:
        return _autoreset_result("the last observation is a first one")
    spread = max(_distance(a, b) for a in starts for b in starts)
    step_sizes = [_distance(a, b) for t in episodes for a, b in zip(t.obs, t.obs[1:], strict=False)]
    jump = step_sizes[-1] if step_sizes else 0.0
    near = min(_distance(final, start) for start in starts)
    usual = float(np.median(step_sizes)) if step_sizes else 0.0
    if len(trace.obs) > 20 and near <= spread and _distance(trace.obs[-2], final) > 20 * usual > 0:
        return _autoreset_result(f"the last step jumps by {jump:.3g} to where episodes start")
    return Result("autoreset", "ok", "waits for an explicit reset")


def _autoreset_result(measured: str) -> Result:
    return Result(
        "autoreset", "fail", measured,
        "The environment begins the next episode itself: the final observation is lost and the "
        "bootstrap at a truncation takes the value of another episode.",
        "Return the final observation from step, and remove the wrapper that resets.",
    )  # fmt: skip


def _equal(one: Any, two: Any) -> bool:
    return all(np.array_equal(a, b) for (_, a), (_, b) in zip(one, two, strict=True))


def _distance(one: Any, two: Any) -> float:
    return max(
        float(np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64)).max(initial=0.0))
        for (_, a), (_, b) in zip(one, two, strict=True)
    )


def _ends(player: Player, episodes: list[Trace]) -> Result:
    lengths = [len(trace.rewards) for trace in episodes if trace.terminated]
    both = [trace for trace in episodes if trace.terminated and trace.truncated]
    fixed = len(lengths) == len(episodes) and len(set(lengths)) == 1 and lengths[0] >= 20
    if fixed:
        return Result(
            "terminated against truncated", "warn",
            f"all {len(lengths)} episodes terminate after exactly {lengths[0]} steps",
            "That looks like a time limit reported as an end of the task: values near it are "
            "learned as if nothing could follow.",
            "Report time limits as truncated (gymnasium's TimeLimit does). If the task really "
            "lasts that long, all is well.",
        )  # fmt: skip
    ends = sum(trace.over for trace in episodes)
    text = f"{len(lengths)} terminated, {ends - len(lengths)} truncated of {len(episodes)} episodes"
    return Result("terminated against truncated", "ok", text + (", both at once" * bool(both)))


def _aliasing(player: Player) -> Result:
    obs, _ = player.env.reset(seed=0)
    kept = [(obs, player._copy(obs))]
    for action, _ in zip(player.actions(0), range(5), strict=False):
        obs, _, terminated, truncated, _ = player.env.step(action)
        kept.append((obs, player._copy(obs)))
        if terminated or truncated:
            break
    changed = sum(not _equal(player._copy(now), then) for now, then in kept)
    return judged(
        "observations stay", not changed, "each step returns a new array" if not changed
        else f"{changed} of {len(kept)} observations were overwritten by later steps",
        "The environment keeps writing to the array it returns: whoever stores it sees the future.",
        "Return a copy.", otherwise="warn",
    )  # fmt: skip


def _reward_scale(episodes: list[Trace]) -> Result:
    returns = [abs(sum(trace.rewards)) for trace in episodes]
    largest = max((abs(r) for trace in episodes for r in trace.rewards), default=0.0)
    never = all(r == 0 for trace in episodes for r in trace.rewards)
    if never:
        return Result(
            "reward scale", "warn", f"no reward at all in {len(episodes)} random episodes",
            "Nothing can be learned until exploration finds one.",
            "Shape the reward, or explore more (entropy, sticky noise, curriculum).",
        )  # fmt: skip
    return judged(
        "reward scale", largest <= LARGE,
        f"largest reward {largest:.3g}, returns about {np.median(returns):.3g}",
        "Large values make large value losses, which drown the policy's gradient.",
        "--normalise-reward or --reward-scale.", otherwise="warn",
    )  # fmt: skip


def _observation_scale(
    env: gym.Env[Any, Any], episodes: list[Trace], settings: Mapping[str, Any] | None
) -> Result:
    """Finds raw entries beyond `LARGE`; warns if no setting says whether they are normalised."""
    largest = _largest(env.observation_space, [obs for trace in episodes for obs in trace.obs])
    normalised = settings is not None and bool(settings["normalise_obs"])
    return judged(
        "observation scale", largest <= LARGE or normalised,
        f"largest entry {largest:.3g}" + ", normalised" * normalised,
        f"Entries beyond {LARGE:g} are read as they are: they drown the others, and saturate what "
        "reads them.",
        "--normalise-obs (floats), or scale them in the environment.",
        otherwise="warn" if settings is None else "fail",
    )  # fmt: skip


def _largest(space: gym.Space[Any], observations: list[Any]) -> float:
    """The largest entry of the Boxes that no encoder scales by itself."""
    flat = flat_space(space)
    entries = flat.spaces if isinstance(flat, gym.spaces.Dict) else {"": flat}
    raw = {k for k, x in entries.items() if isinstance(x, gym.spaces.Box) and x.dtype != np.uint8}
    return max(
        (float(np.abs(np.asarray(x, np.float64)).max(initial=0.0))
         for obs in observations for key, x in obs if key in raw), default=0.0,
    )  # fmt: skip


def raw_scale(env: EnvLike, options: EnvOptions) -> float:
    """The largest raw entry in a random episode if it is beyond `LARGE`, otherwise 0."""
    made = make_single(env, options)
    try:
        largest = _largest(made.observation_space, Player(made).play(0).obs)
    finally:
        made.close()
    return largest if largest > LARGE else 0.0
