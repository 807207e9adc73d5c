"""Callbacks that end the process of a run, by name, so that workers can make them."""

import os
import signal

from retain import Callback


class Once(Callback):
    """Kills the run's process in its third row, the first time."""

    kills = 1

    def on_row(self, event):
        path = event.run.folder / "deaths"
        deaths = len(path.read_text()) if path.exists() else 0
        if event.run.steps > 300 and deaths < self.kills:
            path.write_text("x" * (deaths + 1))
            os.kill(os.getpid(), signal.SIGKILL)


class Always(Once):
    """Kills it every time."""

    kills = 10**9


class Broken(Callback):
    """Raises what no run expects."""

    def on_start(self, event):
        raise SystemError("planted")


class Noted(Callback):
    """Notes in the run folder whether the run began or was resumed."""

    def on_start(self, event):
        with (event.run.folder / "starts").open("a") as file:
            file.write("resumed " if event.run.resumed else "begun ")
