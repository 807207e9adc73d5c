"""`retain VERB ...`: finds the verb and turns every expected error into one line."""

import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from retain._version import __version__
from retain.errors import (
    CallbackError,
    EnvironmentFailure,
    HubError,
    NonFiniteError,
    Notice,
    RanksError,
    RetainError,
    RunFailure,
    StorageError,
    nearest,
)
from retain.train.ranked import LOST, leads, leave_line

VERBS = {
    "train": "train an agent: retain train ppo --env CartPoleNoVel-v1 --memory lstm",
    "resume": "continue a stopped run exactly where it stopped",
    "eval": "play whole episodes with a trained agent",
    "playback": "play an episode of a run again, from its seed and its actions",
    "report": "write one page about runs, to open in a browser; --watch refreshes it",
    "plot": "draw learning curves of one or several runs",
    "export": "write the policy as one ONNX or torch file, the carry as an input and an output",
    "push": "put a trained agent on the Hugging Face hub, with a card",
    "pull": "fetch an agent from the hub; none of its code is run",
    "doctor": "name the bug: retain doctor ppo --env MyEnv-v0 --memory lstm",
    "sweep": "find good settings: search, then compare with the defaults on fresh seeds",
    "compare": "does memory help here? train several variants and seeds, give a verdict",
    "envs": "list environments, their spaces, and random and good returns",
}

USAGE_ERROR, FAILURE = 2, 1


def overview() -> str:
    """The text that `retain --help` prints."""
    lines = [
        "usage: retain VERB [options]",
        "",
        "Reinforcement learning that remembers.",
        "",
        *(f"  {verb:<10}{text}" for verb, text in VERBS.items()),
        "",
        "  retain VERB --help explains a verb; retain --version prints the version.",
    ]
    return "\n".join(lines)


def fail(text: str, status: int) -> int:
    """Prints one clear line on stderr, or leaves it to the launcher of this rank, and returns the
    exit status."""
    if not leave_line(text):
        print(f"retain: {text}", file=sys.stderr)
    return status


@contextmanager
def notices() -> Iterator[None]:
    """Shows each `Notice` as one line on stderr, without the source location of other warnings."""
    usual = warnings.showwarning

    def show(message: Any, category: type[Warning], *place: Any, **more: Any) -> None:
        if issubclass(category, Notice):
            if leads():  # every rank has the same to say
                print(f"retain: {message}", file=sys.stderr)
        else:
            usual(message, category, *place, **more)

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = usual


def run(arguments: Sequence[str]) -> int:
    """Runs a command line and returns its exit status."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(overview())
        return 0
    if arguments[0] in ("-V", "--version"):
        print(f"retain {__version__}")
        return 0
    verb, rest = arguments[0], list(arguments[1:])
    if verb not in VERBS:
        close = nearest(verb, VERBS) or f" (expected one of: {', '.join(VERBS)})"
        return fail(f"unknown verb {verb!r}{close}", USAGE_ERROR)
    try:
        command: Callable[[list[str]], int] = import_module(f"retain.cli.{verb}").command
        if signal.getsignal(signal.SIGINT) == signal.SIG_DFL:  # as `retain` left it while it loaded
            signal.signal(signal.SIGINT, signal.default_int_handler)
        with notices():
            return command(rest)
    except (
        CallbackError,
        NonFiniteError,
        EnvironmentFailure,
        HubError,
        RunFailure,
        StorageError,
    ) as error:
        return fail(one_line(error), FAILURE)
    except RanksError as error:
        return fail(one_line(error), LOST)
    except RetainError as error:
        return fail(one_line(error), USAGE_ERROR)
    except KeyboardInterrupt:
        return fail("stopped", 130)
    except MemoryError as error:
        return fail(f"out of memory: {one_line(error) or 'no more is available'}", FAILURE)
    except RuntimeError as error:  # torch has no class of its own for its memory
        if "allocate memory" not in str(error) and "out of memory" not in str(error):
            raise
        return fail(f"out of memory: {one_line(error)}", FAILURE)
    except OSError as error:
        name = "" if error.filename is None else f"{error.filename}: "
        return fail(f"{name}{error.strerror or one_line(error)}", USAGE_ERROR)


def one_line(error: BaseException) -> str:
    """An error's text without line breaks; only the last line of a traceback in it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if any(line.startswith("Traceback") for line in lines):
        lines = [lines[0].removesuffix(":") + ":", lines[-1]]
    return " ".join(lines)


def main() -> None:
    """The console script."""
    from retain.train.streams import Unbreakable

    sys.stdout, sys.stderr = Unbreakable(sys.stdout), Unbreakable(sys.stderr)
    status = run(sys.argv[1:])
    sys.stdout.flush()
    sys.exit(status)
