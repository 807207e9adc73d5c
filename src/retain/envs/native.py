"""Every batch of environments with a name: the library's, and those that others register."""

from collections.abc import Callable
from functools import partial
from typing import TypeAlias, TypeVar

import gymnasium as gym

from retain.envs.classic import CartPole, Pendulum
from retain.envs.contract import Backend
from retain.envs.suite.bandit import Bandit
from retain.envs.suite.cards import Autoencode, RepeatFirst, RepeatPrevious
from retain.envs.suite.recall import CueTarget, MemoryChain
from retain.errors import UsageError

MakeBackend: TypeAlias = Callable[..., Backend]
"""Makes a batch of `num_envs` environments, the first argument; the others are `env_kwargs`."""
Make = TypeVar("Make", bound=MakeBackend)

NATIVE: dict[str, MakeBackend] = {
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
"""Makers of our batches, by id."""

OURS = tuple(name for name in NATIVE if not name.startswith(("CartPole", "Pendulum")))
"""Ids that exist only here; they are registered with gymnasium too."""


def register_backend(name: str) -> Callable[[Make], Make]:
    """Registers a batch of environments by name, for `--env name` and `retain.PPO("name")`:

        @retain.register_backend("MyBatch-v0")
        class MyBatch(retain.Backend): ...

    On the command line the name is `module:MyBatch-v0`. The name is registered with gymnasium too,
    so wrappers, worker processes and videos work, but they step the environments one by one.

    Raises:
        UsageError: the name is already in use.
    """

    def register(make: Make) -> Make:
        if name in NATIVE or name in gym.registry:
            raise UsageError(f"the environment {name!r} is already registered")
        NATIVE[name] = make
        gym.register(
            id=name,
            entry_point="retain.envs.single:Single",
            kwargs={"make": make},
            disable_env_checker=True,
        )
        return make

    return register
