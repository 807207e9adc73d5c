"""What went wrong in the environments."""

import json

from retain.train.callbacks.base import Callback, RowLogged
from retain.train.callbacks.registry import register_callback

FILE = "incidents.jsonl"
"""One line for each thing that went wrong in an environment, with what plays it again."""


@register_callback("incidents")
class Incidents(Callback):
    """Says each kind once, and writes all of them down."""

    def on_row(self, event: RowLogged) -> None:
        """Takes those since the last row."""
        incidents = event.run.agent.collector.incidents.take()
        for incident in incidents:
            event.run.warn(incident.line())
        if incidents and event.run.folder is not None:
            with (event.run.folder / FILE).open("a") as file:
                file.writelines(json.dumps(incident.report()) + "\n" for incident in incidents)
