"""Every natively batched environment by its name."""

from collections.abc import Callable
from functools import partial

from retain.envs.batch import Batch
from retain.envs.classic import CartPole, Pendulum
from retain.envs.suite.bandit import Bandit
from retain.envs.suite.cards import Autoencode, RepeatFirst, RepeatPrevious
from retain.envs.suite.recall import CueTarget, MemoryChain

NATIVE: dict[str, Callable[[int], Batch]] = {
    "CartPole-v1": CartPole,
    "CartPoleNoVel-v1": partial(CartPole, velocity=False),
    "NoisyCartPole-v0": partial(CartPole, noise=0.1),
    "NoisyCartPoleNoVel-v0": partial(CartPole, velocity=False, noise=0.02),
    "Pendulum-v1": Pendulum,
    "PendulumNoVel-v1": partial(Pendulum, velocity=False),
    "NoisyPendulum-v0": partial(Pendulum, noise=0.1),
    "NoisyPendulumNoVel-v0": partial(Pendulum, velocity=False, noise=0.05),
    "RepeatPrevious-v0": RepeatPrevious,
    "RepeatFirst-v0": RepeatFirst,
    "Autoencode-v0": Autoencode,
    "TMaze-v0": MemoryChain,
    "MemoryChain-v0": partial(MemoryChain, length=10, bits=3),
    "CueTarget-v0": CueTarget,
    "Bandit-v0": Bandit,
}
"""What makes a batch of B."""

OURS = tuple(name for name in NATIVE if not name.startswith(("CartPole", "Pendulum")))
"""Those that exist nowhere else: gymnasium knows them by these names too."""
