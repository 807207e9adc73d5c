"""The training loop: collect, update, log, save; stop cleanly, resume exactly."""

import math
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from retain.data.episodes import Episode, info_means, numbers
from retain.data.incidents import PATIENCE
from retain.errors import (
    CallbackError,
    CheckpointError,
    EnvironmentFailure,
    NonFiniteError,
    UsageError,
    nearest,
)
from retain.train import checkpoint as store
from retain.train.callbacks.base import (
    CheckpointSaved,
    Ended,
    EpisodeEnded,
    Reason,
    Row,
    RowLogged,
    Run,
)
from retain.train.callbacks.crew import Crew
from retain.train.callbacks.registry import CallbackLike
from retain.train.callbacks.standard import all_callbacks
from retain.train.contract import Learner
from retain.train.distributed import check_shared
from retain.train.files import make_folder
from retain.train.lock import locked
from retain.train.news import Newsroom
from retain.train.streams import NO_ROOM, room_to_write
from retain.train.threads import cpu_threads


class Interrupted(Exception):
    """The run was stopped by a signal after its checkpoint was written.

    Args:
        number: number of the signal; a shell expects exit status 128 + number.
    """

    def __init__(self, run: Path, number: int) -> None:
        super().__init__(f"stopped; continue with: retain resume {run}")
        self.run, self.number = run, number

    def __reduce__(self) -> Any:
        return Interrupted, (self.run, self.number)


class StopFlag:
    """Ctrl-C, SIGTERM or a closed terminal asks for a stop after the current update; a second
    signal stops at once."""

    number: int | None = None

    def handle(self, number: int, frame: Any) -> None:
        """The signal handler."""
        if self.number is not None:
            os._exit(128 + number)
        self.number = number


@contextmanager
def stop_signals(active: bool) -> Iterator[StopFlag]:
    """Installs a `StopFlag` for SIGINT, SIGTERM and SIGHUP inside the block, in the main thread;
    ignored signals (SIGHUP under nohup) stay ignored."""
    flag = StopFlag()
    if not active or threading.current_thread() is not threading.main_thread():
        yield flag
        return
    numbers = [getattr(signal, name, None) for name in ("SIGINT", "SIGTERM", "SIGHUP")]
    before = {
        number: signal.signal(number, flag.handle)
        for number in numbers
        if number is not None and signal.getsignal(number) != signal.SIG_IGN
    }
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def new_run_folder(name: str, seed: int, parent: str = "runs", *, several: bool = False) -> Path:
    """A fresh folder name: environment, algorithm, memory (`Agent.name`), seed (or seeds) and
    time."""
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    return Path(parent) / f"{name}-{'seeds' if several else f'seed{seed}'}-{stamp}"


def train(
    agent: Learner,
    steps: int,
    *,
    run: Path | None = None,
    of: int | None = None,
    progress: bool = False,
    callbacks: Sequence[CallbackLike] = (),
) -> None:
    """Trains for `steps` more environment steps (see `Agent.learn`).

    Raises:
        UsageError: `steps` is below 1, `of` is not ahead, a callback cannot be made, or the run
            folder already holds a run, cannot be written, or is in use.
        StorageError: there was no room to write; the last checkpoint is complete.
        Interrupted: a signal stopped the run; the checkpoint holds its progress.
        NonFiniteError: a loss or gradient was not finite; the minibatch is in the run folder.
        CallbackError: a callback raised.
    """
    if steps < 1:
        raise UsageError(f"steps is {steps} (expected at least 1)")
    if of is not None and of <= agent.steps:
        raise UsageError(f"of is {of}, but {agent.steps} steps are done (expected more)")
    loop = Loop(agent, run, progress, callbacks)
    leads = agent.ranks.rank == 0
    if run is not None and leads:
        if store.checkpoints(run):
            raise UsageError(f"{run} already holds a run; continue with: retain resume {run}")
        make_folder(run)
    with locked(run if leads else None), room_to_write(run):
        if run is not None:
            check_shared(run, agent.ranks)
        if run is not None and leads:
            store.write_json(run / store.CONFIG, {**agent.description(), "steps": steps})
        agent.progress = {"start": agent.steps, "total": steps, "seconds": 0.0}
        if of is not None:
            agent.progress["of"] = of
        loop.go(resumed=False)


def finished(agent: Learner) -> bool:
    """Whether a run has reached its planned end."""
    return agent.steps >= agent.progress["start"] + agent.progress["total"]


def go_on(
    agent: Learner, run: Path | None, show: bool, callbacks: Sequence[CallbackLike] = ()
) -> None:
    """Trains from the agent's current step to the run's planned end."""
    Loop(agent, run, show, callbacks).go(resumed=True)


class Loop:
    """One training loop: the agent, its callbacks and its run folder."""

    def __init__(
        self, agent: Learner, folder: Path | None, show: bool, callbacks: Sequence[CallbackLike]
    ) -> None:
        self.agent, self.folder, self.ranks = agent, folder, agent.ranks
        self.leads = agent.ranks.rank == 0
        """Whether this is the rank that writes and calls the callbacks."""
        members = all_callbacks(
            agent.run_settings, callbacks, written=folder is not None, shown=show
        )
        self.crew = Crew(members if self.leads else [])

    def go(self, *, resumed: bool) -> None:
        """Runs until the steps are done, or a signal or a callback asks to stop."""
        agent, crew = self.agent, self.crew
        self.run = Run(agent, self.folder, resumed, crew.post)
        reason: Reason = "failed"
        with (
            room_to_write(self.folder),
            cpu_threads(agent.run_settings.threads),
            stop_signals(self.folder is not None) as stop,
        ):
            try:
                _ = agent.collector  # what cannot be made is said as it is, not as a callback's
                crew.start(self.run, agent.progress.get("callbacks", {}) if resumed else {})
                self._check_writing()
                reason = self._train(stop)
            except NonFiniteError as error:
                raise self._report(error) from None
            finally:
                crew.end(Ended(self.run, reason, crew.asked))
            self._check_writing()
        if crew.failure is not None:
            raise self._located(crew.failure)
        if reason == "signal":
            assert self.folder is not None
            assert stop.number is not None
            raise Interrupted(self.folder, stop.number)

    def _train(self, stop: StopFlag) -> Reason:
        """The loop itself; returns why it ended."""
        agent, run, crew = self.agent, self.run, self.crew
        if self.ranks.first(crew.failed):  # nothing is written: the same command may begin anew
            return "failed"
        settings, collector = agent.run_settings, agent.collector
        record = self.folder is not None and settings.record_episodes
        newsroom = Newsroom(collector, self.ranks, record=record)
        if any(self.ranks.objects(agent.progress.pop("not_deterministic", None))):
            run.warn("not deterministic given its seed: the current episode was cut (environment)")
        if agent.compiles:
            run.warn("compiling the gradient step: about 20 s, or 3 s from torch's cache")
        began, before, first = time.monotonic(), agent.progress["seconds"], collector.steps
        if not run.resumed:
            self._checkpoint()
        stopping = self.ranks.first(crew.stopping)
        while not (run.over or stopping):
            done = collector.steps
            metrics = agent.iterate(self._share, lambda: run.over)
            seconds = time.monotonic() - began
            agent.progress["seconds"] = before + seconds
            due = run.passed(settings.checkpoint_every, done) or run.over
            news = newsroom.exchange(stop.number)
            if self.leads:
                episodes = [episode for _, episode in news.episodes]
                self._log(metrics, episodes, (collector.steps - first) / seconds, due)
            stop.number = news.signal if stop.number is None else stop.number
            fatal, signalled = news.fatal, news.signal is not None
            wanted, stopping = self.ranks.first((run.checkpoint_wanted, crew.stopping))
            if due or wanted or signalled or fatal is not None or stopping:
                self._checkpoint()
                stopping = self.ranks.first(crew.stopping)
            if fatal is not None:
                raise EnvironmentFailure(
                    f"environment {fatal.env_index} failed in {PATIENCE} episodes in a row, "
                    f"most recently: {fatal.line()}"
                )
            if signalled and not run.over and self.folder is not None:
                return "signal"
        return "failed" if crew.failed else "finished" if run.over else "asked"

    def _share(self) -> float:
        """The position of the schedules in [0, 1]: in this run, or in all runs that share one."""
        run, steps = self.run, self.agent.collector.steps
        of = self.agent.progress.get("of")
        if of is not None:
            return min(steps / of, 1.0)
        return min((steps - run.first) / (run.end - run.first), 1.0)

    def _log(
        self, metrics: dict[str, float], episodes: list[Episode], rate: float, due: bool
    ) -> None:
        """Reports the ended episodes to the callbacks, and then the row."""
        run, statistics = self.run, self.agent.collector.statistics
        for episode in episodes:
            self.crew.post(EpisodeEnded(run, episode))
        recent = statistics.recent
        count = len(recent)
        row: Row = {
            "step": float(self.agent.collector.steps),
            "episodes": float(statistics.total),
            "return_mean": sum(e.ret for e in recent) / count if count else math.nan,
            "length_mean": sum(e.length for e in recent) / count if count else math.nan,
            **metrics,
            "seconds": self.agent.progress["seconds"],
            "steps_per_second": rate,
        }
        self._add_infos(row, episodes)
        self.crew.post(RowLogged(run, row, due))
        self._check_writing()

    def _add_infos(self, row: Row, episodes: list[Episode]) -> None:
        """Adds the means of the entries in recent episodes' last infos."""
        named = self.agent.run_settings.log_info
        for key in named:
            if key in row:
                raise UsageError(f"log_info {key!r} is the name of a metric: rename it in the info")
            if episodes and not any(key in numbers(episode.info) for episode in episodes):
                there = sorted(set().union(*(numbers(episode.info) for episode in episodes)))
                close = nearest(key, there) or f" (it has: {', '.join(there) or 'none'})"
                self.run.warn(f"log_info {key!r}: no number of that name in the last infos{close}")
        row |= info_means(self.agent.collector.statistics.recent, named)

    def _checkpoint(self) -> None:
        """Writes a checkpoint, if the run has a folder."""
        self.run.checkpoint_wanted = False
        if self.folder is None:
            return
        agent = self.agent
        if self.leads:
            agent.progress["callbacks"] = self.crew.keep()
        self._check_writing()
        path = self.folder / store.FOLDER / store.checkpoint_name(agent.collector.steps)
        agent.save(path, shared=self.folder)
        if not self.leads:
            return
        self.crew.post(CheckpointSaved(self.run, path))
        self._check_writing()
        store.prune(self.folder, agent.run_settings.keep)
        agent.prune(self.folder)

    def _check_writing(self) -> None:
        """Prevents a checkpoint that claims data which a callback could not write.

        Raises:
            OSError: there is no room.
            CheckpointError: a callback's state does not match what it wrote.
        """
        cause = self.crew.failure.__cause__ if self.crew.failure is not None else None
        full = isinstance(cause, OSError) and cause.errno in NO_ROOM
        if cause is not None and (full or isinstance(cause, CheckpointError)):
            raise cause

    def _located(self, error: CallbackError) -> CallbackError:
        """The error with the place to continue from."""
        if self.folder is None or not store.checkpoints(self.folder):
            return error
        located = CallbackError(f"{error}; continue with: retain resume {self.folder}")
        located.__cause__ = error.__cause__
        return located

    def _report(self, error: NonFiniteError) -> NonFiniteError:
        """Saves the failing minibatch, and adds its place and the place to continue from."""
        text = f"update at step {self.agent.collector.steps:,}: {error}; the optimizer did not step"
        if self.folder is not None and error.batch is not None and self.leads:
            path = self.folder / "non_finite_batch.safetensors"
            save_file({k: v.detach().contiguous().clone() for k, v in error.batch.items()}, path)
            text += f"; the minibatch is in {path}"
        return NonFiniteError(text)
