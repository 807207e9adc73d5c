"""The body of a process that executes one run of a study, whichever engine started it."""

import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable

from retain.errors import RetainError
from retain.study.outcome import RunPlan, run_one
from retain.train.trainer import Interrupted


def execute(
    plan: RunPlan, tell: Callable[[BaseException], None], abandoned: Callable[[], None]
) -> None:
    """Executes a run; its outcome goes to the run folder.

    Args:
        tell: called with what the run raised.
        abandoned: returns once nobody wants the run any more, which then writes its checkpoint and
            stops, as after a signal.
    """
    import torch

    if hasattr(os, "setpgid"):  # not on Windows
        os.setpgid(0, 0)  # Ctrl-C goes to the study alone, which asks each run to stop once
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def watch() -> None:
        abandoned()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
    torch.set_num_threads(1)
    try:
        run_one(plan)
    except Exception as error:
        tell(portable(error))


def portable(error: Exception) -> Exception:
    """An error that another process can read; an unexpected one brings its traceback as a note."""
    if not isinstance(error, RetainError | Interrupted):
        error.add_note(traceback.format_exc())
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # its constructor wants other arguments, or it holds what cannot be sent
        return RuntimeError(traceback.format_exc())
    return error


def how_it_ended(status: int | None) -> str:
    """The end of a process in words."""
    if status is not None and status < 0:
        name = signal.Signals(-status).name
        return f"by {name}" + " (out of memory?)" * (name == "SIGKILL")
    return f"with exit status {status}"
