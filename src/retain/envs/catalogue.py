"""The environments people meet first, and what returns mean there."""

from dataclasses import dataclass


@dataclass(frozen=True)
class EnvFacts:
    """Mean undiscounted returns; None where nobody measured one.

    `random` is measured by benchmarks/random_returns.py, `memoryless` is the best policy of the
    current observation alone that a search found, `good` is a published result at the usual
    budget (rl-zoo3 and CleanRL; for hidden velocities rl-zoo3 with an LSTM).
    """

    description: str
    random: float | None
    memoryless: float | None
    good: float | None


CATALOGUE: dict[str, EnvFacts] = {
    "CartPole-v1": EnvFacts("balance a pole on a cart", 22.7, None, 500),
    "CartPoleNoVel-v1": EnvFacts("the same, velocities hidden", 22.7, 49, 500),
    "Acrobot-v1": EnvFacts("swing a two-link arm over a line", -497.4, None, -86.4),
    "Pendulum-v1": EnvFacts("swing up and hold a pendulum", -1255.5, None, -172),
    "PendulumNoVel-v1": EnvFacts("the same, velocity hidden", -1255.5, -1026, -218),
    "MountainCarContinuous-v0": EnvFacts("rock a car out of a valley", -33.2, None, 94),
    "MountainCarContinuousNoVel-v0": EnvFacts("the same, velocity hidden", -33.2, None, 91.5),
    "LunarLander-v3": EnvFacts("land between two flags", -185.5, None, 242),
    "LunarLanderNoVel-v3": EnvFacts("the same, velocities hidden", -185.5, None, None),
}
