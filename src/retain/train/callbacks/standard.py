"""The callbacks of every run."""

from collections.abc import Sequence

from retain.errors import UsageError
from retain.train.callbacks.base import Callback
from retain.train.callbacks.registry import CallbackLike, make_callback
from retain.train.config import RunConfig


def all_callbacks(
    settings: RunConfig, given: Sequence[CallbackLike], *, written: bool, shown: bool
) -> list[Callback]:
    """Our callbacks and the user's, in calling order: first those that measure something, then the
    user's, then those that log a row, which is complete by then.

    Args:
        given: callbacks besides those that the settings name.
        written: whether the run has a folder.
        shown: whether the run has a live view.
    Raises:
        UsageError: a callback cannot be made, or one of ours is given again.
    """
    before = {
        "evaluation": settings.eval_every > 0,
        "best": written,
        "incidents": True,
        "recorder": written and settings.record_episodes,
        "monitors": True,
    }
    after = {
        "curve": written,
        "terminal": shown,
        "tensorboard": written and settings.tensorboard,
        "csv": written,
    }
    users = [make_callback(what) for what in (*settings.callbacks, *given)]
    on = {name for name, wanted in (before | after).items() if wanted}
    for user in users:
        if user.name in on:
            raise UsageError(f"the callback {user.name!r} is already part of every run")
    first, last = ([make_callback(n) for n, wanted in x.items() if wanted] for x in (before, after))
    return [*first, *users, *last]
