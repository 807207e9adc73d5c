"""A run's callbacks together: called in order, with each failure caught and named."""

import json
from collections.abc import Iterator, Sequence

from retain.errors import CallbackError
from retain.train.callbacks.base import Callback, Ended, Event, Run, Started
from retain.train.contract import State


def names(callbacks: Sequence[Callback]) -> Iterator[str]:
    """A name per callback for its saved state: its registered name, or its class; a second callback
    of the same name is `name#2`."""
    seen: dict[str, int] = {}
    for callback in callbacks:
        name = callback.name or type(callback).__qualname__
        seen[name] = seen.get(name, 0) + 1
        yield name if seen[name] == 1 else f"{name}#{seen[name]}"


class Crew:
    """The callbacks of a run.

    A callback that raises receives no more events except the end. The others do, so that their
    files are complete when the run stops.
    """

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        self.members = dict(zip(names(callbacks), callbacks, strict=True))
        self.states: dict[str, State] = {}
        self._well = dict(self.members)
        self._started: list[str] = []
        self.asked: str | None = None
        """The callback that asked to stop."""
        self.failure: CallbackError | None = None
        """The error of the first callback that raised; its cause is the original exception."""

    @property
    def failed(self) -> bool:
        """Whether a callback raised."""
        return self.failure is not None

    @property
    def stopping(self) -> bool:
        """Whether a callback asked to stop, or raised."""
        return self.asked is not None or self.failed

    def start(self, run: Run, states: dict[str, State]) -> None:
        """Tells every callback that the run begins.

        Args:
            states: each callback's state at the checkpoint that the run continues from.
        """
        self.states = dict(states)
        for name, callback in self.members.items():
            try:
                if states.get(name):
                    callback.restore(self.states[name])
            except Exception as error:
                self._failed(name, "restore", error)
                return
            self._started.append(name)
            self._tell(name, Started(run))
            if self.failure is not None:
                return
        for name in self.states.keys() - self.members.keys():
            if self.states[name]:
                run.warn(
                    f"callback {name}: it has saved state but is missing now "
                    "(resume(path, callbacks=[...]))"
                )

    def post(self, event: Event) -> None:
        """Passes an event to every callback."""
        untold = getattr(Callback, event.hook)
        for name in list(self._well):
            if getattr(type(self.members[name]), event.hook) is not untold:
                self._tell(name, event)

    def _tell(self, name: str, event: Event) -> None:
        try:
            asks = getattr(self.members[name], event.hook)(event)
        except Exception as error:
            self._failed(name, event.hook, error)
            return
        if asks and self.asked is None:
            self.asked = name

    def _failed(self, name: str, hook: str, error: Exception) -> None:
        self._well.pop(name, None)
        if self.failure is None:
            what = " ".join(str(error).split())
            self.failure = CallbackError(
                f"callback {name} raised {type(error).__name__} in {hook}: {what}"
            )
            self.failure.__cause__ = error

    def keep(self) -> dict[str, State]:
        """Each callback's state for a resume; a callback that cannot give one keeps its previous
        state."""
        for name in list(self._well):
            try:
                state = self.members[name].state()
                json.dumps(state)
            except Exception as error:
                self._failed(name, "state", error)
                continue
            self.states[name] = state
        return {name: state for name, state in self.states.items() if state}

    def end(self, event: Ended) -> None:
        """Passes the end to every callback that was started, in reverse order."""
        while self._started:
            name = self._started.pop()
            self._tell(name, event)
