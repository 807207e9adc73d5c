"""Starts the ranks of one machine with torch's elastic launcher, and starts them again when one is
lost.

The ranks find each other through a file and talk over the loopback interface; nothing listens
beyond it. For several machines there is `torchrun -m retain train ...` (docs/scaling.md).
"""

import logging
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from retain.errors import RanksError, UsageError
from retain.train import checkpoint as store
from retain.train.ranked import LINES, LOST, NO_ANSWER, STORE, TIMEOUT

RESTARTS = 3
"""Times that the ranks are started again without a new checkpoint in between."""
GRACE = 30
"""Seconds that ranks have to write a checkpoint and end when they are asked to stop; a rank that
hangs is killed after as many."""
MOST = 4096
"""The largest number of ranks on one machine."""


class Lost(Exception):
    """Ranks that another attempt may do without losing.

    Args:
        why: one line.
    """


def launch(arguments: Sequence[str], run: Path, *, ranks: int, timeout: float) -> int:
    """Runs the command line `retain ARGUMENTS` as several ranks; returns its exit status.

    If a rank is killed or hangs, all are started again and resume the run from its last checkpoint.

    Args:
        run: the run folder that the command writes.
        timeout: seconds that a rank waits for another one before that counts as lost.
    Raises:
        RanksError: ranks were lost too often.
        UsageError: `ranks` or `timeout` is out of range.
    """
    if not 1 <= ranks <= MOST:
        raise UsageError(f"ranks is {ranks} (expected 1 to {MOST})")
    if timeout <= 0:
        raise UsageError(f"rank_timeout is {timeout} (expected more than 0)")
    command, losses = list(arguments), 0
    first = before = _newest(run)
    while True:
        try:
            return attempt(["-m", "retain", *command], ranks, timeout)
        except Lost as lost:
            newest = _newest(run)
            losses = 1 if newest != before else losses + 1
            before = newest
            if losses > RESTARTS:
                raise RanksError(f"{lost}; gave up after {RESTARTS} restarts") from None
            where = "the beginning" if newest is None else newest
            print(f"retain: {lost}; all ranks continue from {where}", file=sys.stderr)
            if newest != first:
                command = ["resume", str(run), "--trust"]


def _newest(run: Path) -> str | None:
    found = store.checkpoints(run)
    return found[-1].name if found else None


def attempt(command: Sequence[str], ranks: int, timeout: float) -> int:
    """Starts `python COMMAND` as several ranks and waits for them; returns their exit status.

    Raises:
        Lost: a rank was killed, or did not answer.
    """
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    for name in list(logging.root.manager.loggerDict):
        if name.startswith("torch.distributed"):  # what they say we say in one line
            logging.getLogger(name).setLevel(logging.CRITICAL)
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(GRACE))
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory(prefix="retain-ranks-") as folder:
        os.environ |= {STORE: f"{folder}/store", LINES: folder, TIMEOUT: str(timeout)}
        config = LaunchConfig(
            min_nodes=1, max_nodes=1, nproc_per_node=ranks, max_restarts=0, run_id="retain",
            rdzv_backend="c10d", rdzv_endpoint=f"{folder}/rendezvous",
            rdzv_configs={"store_type": "file"}, local_addr="localhost", monitor_interval=0.1,
        )  # fmt: skip
        try:
            elastic_launch(config, sys.executable)(*command)
        except SignalException as stopped:
            return 128 + int(stopped.sigval)
        except ChildFailedError as error:
            codes = {rank: failure.exitcode for rank, failure in error.failures.items()}
            return _judged(codes, Path(folder), range(ranks))
        finally:
            for name in (STORE, LINES, TIMEOUT):
                os.environ.pop(name, None)
    return 0


def _judged(codes: dict[int, int], folder: Path, ranks: range) -> int:
    """The exit status that ranks ended with together, after their one line.

    Args:
        codes: exit status of each rank that failed, negative for a signal.
        folder: holds each rank's last line.
    Raises:
        Lost: nothing is wrong with the run itself.
    """
    lines = {rank: path.read_text() for rank in ranks if (path := folder / str(rank)).exists()}
    for rank, code in codes.items():
        if code > 0 and code != LOST:
            if rank in lines:
                print(f"retain: {lines[rank]}", file=sys.stderr)
            return code
    if any(NO_ANSWER in line for line in lines.values()):
        silent = ", ".join(str(rank) for rank in ranks if rank not in lines) or "(unknown)"
        line = next(line for line in lines.values() if NO_ANSWER in line)
        raise Lost(f"rank {silent} {line[line.index(NO_ANSWER) :]}")
    for rank, code in codes.items():
        if code < 0:
            raise Lost(f"rank {rank} was killed ({signal.Signals(-code).name})")
    raise Lost(next(iter(lines.values()), "a rank was lost"))
