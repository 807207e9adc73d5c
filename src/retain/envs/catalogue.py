"""The environments people meet first, and what returns mean there."""

from dataclasses import dataclass


@dataclass(frozen=True)
class EnvFacts:
    """Mean undiscounted returns; None where nobody measured one.

    `random` is measured by benchmarks/random_returns.py, `memoryless` is the best policy of the
    current observation alone that a search found, `good` is a published result at the usual
    budget (docs/results.md names the sources).
    """

    description: str
    random: float | None
    memoryless: float | None
    good: float | None


CATALOGUE: dict[str, EnvFacts] = {
    "CartPole-v1": EnvFacts("balance a pole on a cart", None, None, 500),
    "CartPoleNoVel-v1": EnvFacts("the same, velocities hidden", None, 49, 500),
    "Acrobot-v1": EnvFacts("swing a two-link arm over a line", None, None, -86.4),
    "Pendulum-v1": EnvFacts("swing up and hold a pendulum", None, None, -172),
    "PendulumNoVel-v1": EnvFacts("the same, velocity hidden", None, -1026, -218),
    "MountainCarContinuous-v0": EnvFacts("rock a car out of a valley", None, None, 94),
    "MountainCarContinuousNoVel-v0": EnvFacts("the same, velocity hidden", None, None, 91.5),
    "LunarLander-v3": EnvFacts("land between two flags", None, None, 242),
    "LunarLanderNoVel-v3": EnvFacts("the same, velocities hidden", None, None, None),
}
