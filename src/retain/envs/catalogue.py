"""Facts about well-known environments, and the meaning of returns in them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class EnvFacts:
    """Mean undiscounted returns; None if nobody has measured one.

    `random` is measured by benchmarks/random_returns.py, `memoryless` is the best policy found by a
    search among functions of the current observation alone, and `good` is a published result at the
    usual budget (rl-zoo3 and CleanRL; for hidden velocities, rl-zoo3 with an LSTM). For the memory
    suite (`envs/suite`) all three are exact: `good` is the optimum, checked by
    tests/envs/test_suite.py.
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
    "NoisyCartPole-v0": EnvFacts("noise of 0.1 on all it sees", 22.7, None, None),
    "NoisyCartPoleNoVel-v0": EnvFacts("no velocities, noise of 0.02", 22.7, None, None),
    "NoisyPendulum-v0": EnvFacts("noise of 0.1 on all it sees", -1255.5, None, None),
    "NoisyPendulumNoVel-v0": EnvFacts("no velocity, noise of 0.05", -1255.5, None, None),
    "RepeatPrevious-v0": EnvFacts("name the card of 4 steps ago", -0.5, -0.5, 1),
    "RepeatFirst-v0": EnvFacts("name the first of 52 cards", -0.5, -0.5, 1),
    "Autoencode-v0": EnvFacts("name 6 cards in reverse", -0.5, -0.5, 1),
    "TMaze-v0": EnvFacts("turn as a cue said 20 steps ago", 0, 0, 1),
    "MemoryChain-v0": EnvFacts("recall one of 3 bits after 10 steps", 0, 0, 1),
    "CueTarget-v0": EnvFacts("walk to the end that a cue named", -0.37, -0.14, 0.86),
    "Bandit-v0": EnvFacts("find the better of 2 arms in 50 pulls", 25, 29.4, 32),
    "LunarLander-v3": EnvFacts("land between two flags", -185.5, None, 242),
    "LunarLanderNoVel-v3": EnvFacts("the same, velocities hidden", -185.5, None, None),
}
