"""The environments of a run: several backends that step in turn, in workers or in this process."""

from retain.envs.atari import is_atari
from retain.envs.contract import Backend
from retain.envs.given import OBJECTS, PASS_A_CALLABLE
from retain.envs.make import EnvLike, env_name, make
from retain.envs.options import PLAIN, EnvOptions
from retain.envs.workers import pool
from retain.errors import UsageError


def make_groups(env: EnvLike, num_envs: int, options: EnvOptions = PLAIN) -> list[Backend]:
    """Makes `num_envs` environments as the options say: in `env_groups` backends of equal size, in
    `workers` processes or Ray actors, or in this process.

    Raises:
        UsageError: see `make`; or the environments cannot be divided this way.
    """
    groups, workers = options.env_groups, options.workers
    if num_envs % groups:
        near = max(1, round(num_envs / groups)) * groups
        raise UsageError(
            f"num_envs {num_envs} cannot be cut into {groups} env_groups; nearest that can: {near}"
        )
    on_ray = options.worker_engine == "ray"
    if workers and not on_ray and not pool.AVAILABLE:
        raise UsageError(
            f"workers is {workers}, but worker processes need inherited files and poll, which this "
            "system lacks (expected 0; under Windows, WSL has them)"
        )
    if workers and is_atari(env):
        raise UsageError(f"workers is {workers}, but {env} steps in its own threads (expected 0)")
    if isinstance(env, OBJECTS):
        for name, value, usual in (("workers", workers, 0), ("env_groups", groups, 1)):
            if value != usual:
                raise UsageError(
                    f"{name} is {value}, but {env_name(env)} is one object that cannot be divided "
                    f"(expected {usual}); {PASS_A_CALLABLE}"
                )
    if not workers:
        return [make(env, num_envs // groups, options) for _ in range(groups)]
    if workers > num_envs // groups:
        raise UsageError(
            f"workers is {workers}, but a group has {num_envs // groups} environments "
            f"(expected at most one worker for each)"
        )
    if on_ray:
        from retain.envs.workers.actors import ActorPool

        return list(ActorPool(env, num_envs, options).groups)
    return list(pool.Pool(env, num_envs, options).groups)
