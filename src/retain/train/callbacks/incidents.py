"""Records faults in the environments."""

import json

from retain.train.callbacks.base import Callback, RowLogged
from retain.train.callbacks.registry import register_callback

FILE = "incidents.jsonl"
"""File with one line per fault in an environment, including what plays it back."""


@register_callback("incidents")
class Incidents(Callback):
    """Reports each kind of fault once, and writes all of them down."""

    def on_row(self, event: RowLogged) -> None:
        """Takes the faults since the last row."""
        incidents = event.run.agent.collector.incidents.take()
        for incident in incidents:
            event.run.warn(incident.line())
        if incidents and event.run.folder is not None:
            with (event.run.folder / FILE).open("a") as file:
                file.writelines(json.dumps(incident.report()) + "\n" for incident in incidents)
