"""The training loop: collect, update, log, save; stop cleanly, resume exactly."""

import json
import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from retain.data.incidents import PATIENCE
from retain.errors import EnvironmentFailure, NonFiniteError, UsageError
from retain.train import checkpoint as store
from retain.train.agent import Agent
from retain.train.files import make_folder
from retain.train.lock import locked
from retain.train.logs import CSVSink, Row, Sink, TensorBoardSink, TerminalSink
from retain.train.monitors import Monitor
from retain.train.plot import plot
from retain.train.recorder import Recorder
from retain.train.streams import room_to_write
from retain.train.threads import cpu_threads

PICTURE = "learning_curve.png"
INCIDENTS = "incidents.jsonl"
"""One line for each thing that went wrong in an environment, with what plays it again."""


class Interrupted(Exception):
    """The run was stopped by a signal after its checkpoint was written.

    Args:
        number: of the signal; a shell expects exit status 128 + number.
    """

    def __init__(self, run: Path, number: int) -> None:
        super().__init__(f"stopped; go on with: retain resume {run}")
        self.run, self.number = run, number

    def __reduce__(self) -> Any:
        return Interrupted, (self.run, self.number)


class StopFlag:
    """Ctrl-C, SIGTERM or a closed terminal asks for a stop after the current update; a second one
    leaves at once."""

    number: int | None = None

    def handle(self, number: int, frame: Any) -> None:
        """The signal handler."""
        if self.number is not None:
            os._exit(128 + number)
        self.number = number


@contextmanager
def stop_signals(active: bool) -> Iterator[StopFlag]:
    """Installs a `StopFlag` for SIGINT, SIGTERM and SIGHUP, in the main thread, while inside; what
    is ignored (SIGHUP, under nohup) stays so."""
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


def new_run_folder(agent: Agent, parent: str = "runs") -> Path:
    """A fresh folder name: environment, algorithm, memory, seed and time."""
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    return Path(parent) / f"{agent.name}-seed{agent.run_settings.seed}-{stamp}"


def train(agent: Agent, steps: int, *, run: Path | None = None, progress: bool = False) -> None:
    """Trains for `steps` environment steps more (see `Agent.learn`).

    Raises:
        UsageError: `steps` is below 1, or the run folder already holds a run, cannot be written, or
            is in use.
        StorageError: there was no room to write; the last checkpoint is whole.
        Interrupted: a signal stopped it; the checkpoint says where.
        NonFiniteError: a loss or gradient broke; the minibatch is in the run folder.
    """
    if steps < 1:
        raise UsageError(f"steps is {steps} (expected at least 1)")
    if run is not None:
        if store.checkpoints(run):
            raise UsageError(f"{run} already holds a run; go on with: retain resume {run}")
        make_folder(run)
    with locked(run), room_to_write(run):
        if run is not None:
            store.write_json(run / store.CONFIG, agent.description() | {"steps": steps})
        agent.progress = {"start": agent.steps, "total": steps, "best": None, "seconds": 0.0}
        go_on(agent, run, progress)


def finished(agent: Agent) -> bool:
    """Whether a run has come to its planned end."""
    return bool(agent.steps >= agent.progress["start"] + agent.progress["total"])


def go_on(agent: Agent, run: Path | None, show: bool) -> None:
    """Trains from where the agent is to the run's planned end."""
    threads = agent.run_settings.threads
    with room_to_write(run), cpu_threads(threads), stop_signals(run is not None) as stop:
        Loop(agent, run, show).run(stop)


class Loop:
    """One training loop: the agent, its sinks and its run folder."""

    def __init__(self, agent: Agent, run: Path | None, show: bool) -> None:
        self.agent, self.folder = agent, run
        state = agent.progress
        self.start, self.total = state["start"], state["total"]
        self.csv: CSVSink | None = None
        self.terminal: TerminalSink | None = None
        self.recorder: Recorder | None = None
        self.sinks: list[Sink] = []
        if run is not None:
            self.csv = CSVSink(run / "metrics.csv", state.get("csv_offset", 0))
            self.sinks.append(self.csv)
            if agent.run_settings.record_episodes:
                offsets = tuple(state.get("record_offsets", (0, 0)))
                self.recorder = Recorder(run, agent.collector, offsets)
            if agent.run_settings.tensorboard:
                self.sinks.append(TensorBoardSink(run, agent.steps))
        if show:
            self.terminal = TerminalSink(
                agent.name, first=agent.steps, total=self.start + self.total
            )
            self.sinks.append(self.terminal)
        self.monitor = Monitor()
        self.said: set[str] = set()
        self.row: Row = {}

    def run(self, stop: StopFlag) -> None:
        """Until the steps are done or a signal asks to stop."""
        agent = self.agent
        collector = agent.collector
        if agent.progress.pop("not_deterministic", None):
            self._once(
                "not deterministic given its seed: the current episode was cut (environment)"
            )
        began, before, done = time.monotonic(), agent.progress["seconds"], collector.steps
        saved = collector.steps
        try:
            if self.folder is not None and collector.steps == self.start:
                self._checkpoint()
            while collector.steps < self.start + self.total:
                metrics = agent.iterate(self._progress)
                seconds = time.monotonic() - began
                agent.progress["seconds"] = before + seconds
                rate = (collector.steps - done) / seconds
                self._log(metrics, rate)
                self._note_incidents()
                fatal = collector.incidents.fatal
                finished = collector.steps >= self.start + self.total
                due = collector.steps - saved >= agent.run_settings.checkpoint_every
                stopping = stop.number is not None or fatal is not None
                if self.folder is not None and (due or finished or stopping):
                    self._checkpoint()
                    saved = collector.steps
                if fatal is not None:
                    raise EnvironmentFailure(
                        f"environment {fatal.env_index} failed in {PATIENCE} episodes in a row, "
                        f"at last: {fatal.line()}"
                    )
                if stop.number is not None and not finished and self.folder is not None:
                    raise Interrupted(self.folder, stop.number)
        except NonFiniteError as error:
            raise self._report(error) from None
        finally:
            with ExitStack() as stack:  # closes all, also where one of them has no room left
                for sink in self.sinks:
                    stack.callback(sink.close)
                if self.recorder is not None:
                    stack.callback(self.recorder.close)
        if self.folder is not None:
            plot([self.folder], self.folder / PICTURE)

    def _progress(self) -> float:
        done: float = (self.agent.collector.steps - self.start) / self.total
        return min(done, 1.0)

    def _log(self, metrics: dict[str, float], rate: float) -> None:
        statistics = self.agent.collector.statistics
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
        finished = statistics.take_finished()
        if self.recorder is not None:
            self.recorder.write(finished)
        for sink in self.sinks:
            sink.write(row)
        self.row = row
        for metric, line in self.monitor.watch(row):
            if metric == "first_log_ratio":
                line += f"; {self.agent.update.diagnostics.disagreement}"
            self._once(line)

    def _note_incidents(self) -> None:
        """What went wrong in the environments goes to the run folder, and once to the terminal."""
        incidents = self.agent.collector.incidents.take()
        for incident in incidents:
            self._once(incident.line())
        if incidents and self.folder is not None:
            with (self.folder / INCIDENTS).open("a") as file:
                file.writelines(json.dumps(incident.report()) + "\n" for incident in incidents)

    def _once(self, text: str) -> None:
        key = text.split(":")[0]
        if key not in self.said and self.terminal is not None:
            self.terminal.say(f"warning: {text}")
        self.said.add(key)

    def _checkpoint(self) -> None:
        assert self.folder is not None
        assert self.csv is not None
        agent = self.agent
        agent.progress["csv_offset"] = self.csv.offset()
        if self.recorder is not None:
            agent.progress["record_offsets"] = list(self.recorder.offsets())
        score = self.row.get("return_mean", math.nan)
        best = agent.progress["best"]
        better = not math.isnan(score) and (best is None or score > best)
        if better:
            agent.progress["best"], agent.progress["best_step"] = score, agent.collector.steps
        path = self.folder / store.FOLDER / store.checkpoint_name(agent.collector.steps)
        agent.save(path, shared=self.folder)
        if better:
            store.keep_best(self.folder, path)
        store.prune(self.folder, agent.run_settings.keep)
        agent.prune(self.folder)

    def _report(self, error: NonFiniteError) -> NonFiniteError:
        """Saves the minibatch that broke, and says where and where to go on from."""
        text = f"update at step {self.agent.collector.steps:,}: {error}; the optimizer did not step"
        if self.folder is not None and error.batch is not None:
            path = self.folder / "non_finite_batch.safetensors"
            save_file({k: v.detach().contiguous().clone() for k, v in error.batch.items()}, path)
            text += f"; the minibatch is in {path}"
        return NonFiniteError(text)
