"""Ray as the engine of a study: runs on any machine of a cluster.

A run needs no node of its own: if the node dies, another one resumes the run from its checkpoint,
which lies in a folder that all machines share, or in a copy at a URL.
"""

import hashlib
import math
import pickle
import signal
import sys
import time
import uuid
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Self

from retain.cluster import connect, warn_if_none_fits
from retain.errors import RunFailure, UsageError
from retain.study.body import how_it_ended
from retain.study.launcher import RETRIES, Settled, check_jobs, steps_of
from retain.study.mirror import Mirror
from retain.study.outcome import OUTCOME, Outcome, RunPlan, finished
from retain.study.processes import GRACE
from retain.study.remote import SHARE_PATIENCE, Ending, Guardian, Order, versions
from retain.train.files import make_folder
from retain.train.trainer import Interrupted

COPY_EVERY = 30.0
"""Seconds between two copies of a running run to the store."""
FOLLOW = 2.0
"""Seconds between two looks at the metrics of a run on another machine."""


class Ray:
    """Runs plans on the nodes of a Ray cluster (docs/ray.md).

    A run that dies, or whose node dies, is handed out again and resumes. It is given up only after
    it has died `RETRIES + 1` times without getting any further.

    Args:
        jobs: number of runs at the same time; None means as many as the cluster has room for.
        address: the cluster (`retain.cluster.connect`); "" for one of this process's own.
        cpus: cores that each run reserves.
        gpus: GPUs that each run reserves; 0.25 lets four runs share one.
        store: an fsspec URL through which run folders travel where machines share no folder.
    Raises:
        UsageError: there is no such cluster, or a number is impossible.
    """

    def __init__(
        self,
        jobs: int | None = None,
        *,
        address: str = "",
        cpus: float = 1.0,
        gpus: float = 0.0,
        store: str = "",
    ) -> None:
        check_jobs(jobs)
        for name, value in (("run_cpus", cpus), ("run_gpus", gpus)):
            if not (math.isfinite(value) and value >= 0):
                raise UsageError(f"{name} is {value} (expected a finite number of at least 0)")
        self.mirror = Mirror(store) if store else None
        self.ray = connect(address)
        warn_if_none_fits(self.ray, "a run", cpus=cpus, gpus=gpus)
        self.jobs, self.cpus, self.gpus = jobs, cpus, gpus
        self.guardian = self.ray.remote(
            num_cpus=cpus, num_gpus=gpus, max_concurrency=4, max_restarts=0
        )(Guardian)
        self.versions = versions()
        self._token = uuid.uuid4().hex
        self._tokens: set[Path] = set()
        self._waiting: deque[RemoteRun] = deque()
        self._live: list[RemoteRun] = []

    @property
    def slots(self) -> int:
        """Number of runs at the same time; of a cluster that grows, as it is now."""
        if self.jobs is not None:
            return self.jobs
        has = self.ray.cluster_resources()
        room = [has.get("CPU", 0) / self.cpus] if self.cpus else []
        room += [has.get("GPU", 0) / self.gpus] if self.gpus else []
        return max(1, int(min(room, default=1)))

    def submit(self, plan: RunPlan) -> "RemoteRun":
        """Hands over a run; without `jobs`, Ray decides when it begins."""
        device = str(plan.settings.get("device", "cpu"))
        if device.startswith("cuda") and not self.gpus:
            raise UsageError(f"device is {device!r}, but a run reserves no GPU: give run_gpus, "
                             "1 or a part of one")  # fmt: skip
        run = RemoteRun(replace(plan, folder=plan.folder.resolve()), self)
        self._waiting.append(run)
        self._fill()
        return run

    def wait(self, seconds: float) -> None:
        """Returns when a run is done, or after this many seconds."""
        if self._live:
            self.ray.wait([run.ending for run in self._live], num_returns=1, timeout=seconds)
        for run in self._live:
            run.look()
        self._live = [run for run in self._live if not run.done]
        self._fill()

    def _fill(self) -> None:
        while self._waiting and (self.jobs is None or len(self._live) < self.jobs):
            run = self._waiting.popleft()
            if not run.done:
                run.start()
                self._live.append(run)

    def token(self, folder: Path) -> tuple[str, str]:
        """A file in a folder, and its text, by which a node knows that it sees the same folder."""
        path = folder / f".shared-{self._token}"
        if path not in self._tokens:
            make_folder(folder)
            path.write_text(self._token)
            self._tokens.add(path)
        return str(path), self._token

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self._waiting.clear()
        for run in self._live:
            run.stop()
        until = time.monotonic() + GRACE
        for run in self._live:
            run.end(max(0.0, until - time.monotonic()))
        self._live.clear()
        for path in self._tokens:
            path.unlink(missing_ok=True)
        self._tokens.clear()


def copy_name(plan: RunPlan) -> str:
    """The name of a run's copy in the store, wherever the study's machine keeps its folders. Runs
    of the same name are the same run."""
    facts = repr([(f.name, getattr(plan, f.name)) for f in fields(plan) if f.name != "folder"])
    parts = (*plan.folder.parts[-2:], hashlib.sha256(facts.encode()).hexdigest()[:16])
    return "-".join(part.strip("/") for part in parts)


class RemoteRun(Settled):
    """A run on some node of the cluster."""

    def __init__(self, plan: RunPlan, launcher: Ray) -> None:
        self._launcher, self._ray = launcher, launcher.ray
        mirror = launcher.mirror
        self._copy = copy_name(plan)
        if mirror is not None and finished(plan) is None:
            there = mirror.index(self._copy)
            if there is not None and OUTCOME in there:
                mirror.pull(self._copy, plan.folder)
        super().__init__(plan)
        self._deaths, self._furthest = 0, -1
        self._actor: Any = None
        self._taken: Any = None
        self._told: Any = None
        self._followed = 0.0
        self.ending: Any = None
        """Ray's reference to the `Ending`."""

    def start(self) -> None:
        """Hands the run to the cluster, or does so again."""
        mirror, folder = self._launcher.mirror, self.plan.folder
        order = Order(
            pickle.dumps(self.plan),
            str(folder),
            self._launcher.token(folder.parent) if mirror is None else None,
            None if mirror is None else (mirror.url, self._copy),
            COPY_EVERY,
            tuple(sys.path),
            self._launcher.versions,
        )
        self._actor = self._launcher.guardian.remote(order)
        self._taken = self._actor.ready.remote()
        self.ending = self._actor.run.remote()

    def look(self) -> None:
        """Takes the result of a run that has ended; hands one that died out again."""
        self._follow()
        if not self._ray.wait([self.ending], timeout=0)[0]:
            return
        try:
            ending: Ending = self._ray.get(self.ending)
        except self._ray.exceptions.RayError as error:
            self._lost(error)
            return
        self._ray.kill(self._actor)
        self._take(ending)

    def _take(self, ending: Ending) -> None:
        if ending.unshared or ending.versions is not None:
            self._failure = self._unshared() if ending.unshared else self._apart(ending.versions)
            return
        raised = None if ending.raised is None else pickle.loads(ending.raised)
        if self.settle(self._fetched(worked=ending.status == 0 and raised is None), raised):
            return
        if ending.status == 0 and raised is None:
            self._failure = self._unshared()
        else:
            self._again(how_it_ended(ending.status))

    def _fetched(self, *, worked: bool) -> Outcome | None:
        """The outcome that the node has left in the shared folder, or in the store."""
        if self._launcher.mirror is not None:
            self._launcher.mirror.pull(self._copy, self.plan.folder)
        until = time.monotonic() + SHARE_PATIENCE
        while worked and finished(self.plan) is None and time.monotonic() < until:
            time.sleep(0.5)  # a network's file system may show it late
        return finished(self.plan)

    def _apart(self, there: Mapping[str, str] | None) -> UsageError:
        there = there or {}
        apart = [
            f"{name} {there.get(name, 'none')} (here {here})"
            for name, here in self._launcher.versions.items()
            if there.get(name) != here
        ]
        return UsageError(
            f"a node of the Ray has other versions: {', '.join(apart)} (expected the same on every "
            "machine, or the numbers differ)"
        )

    def _unshared(self) -> UsageError:
        return UsageError(
            f"{self.plan.folder} is not shared: a node does not see there what this machine wrote, "
            "or this machine what the node wrote (expected a folder that all machines mount at the "
            "same path, or an fsspec URL as the store)"
        )

    def _lost(self, error: Exception) -> None:
        """A run without an answer: its node is gone, or could not make the actor."""
        text = str(error)
        if self._stopped:
            self._failure = Interrupted(self.plan.folder, signal.SIGTERM)
        elif "No module named 'retain" in text or "has no attribute" in text:
            self._failure = UsageError("a node of the Ray cannot import this version of retain "
                                       "(expected the same version on every machine)")  # fmt: skip
        else:
            lines = [line.strip() for line in text.splitlines() if line.strip()]
            self._again(f"with its node or its actor ({lines[0] if lines else type(error)})")

    def _again(self, how: str) -> None:
        steps = steps_of(self.plan.folder)
        self._deaths = 1 if steps > self._furthest else self._deaths + 1
        self._furthest = max(steps, self._furthest)
        if self._deaths > RETRIES:
            self._failure = RunFailure(
                f"{self.plan.folder}: the run died {self._deaths} times without getting further, "
                f"most recently {how}; the same command continues it"
            )
        else:
            self.start()

    def _follow(self) -> None:
        """Keeps a copy of the metrics here, for progress and pruning, where no folder is shared."""
        if self._launcher.mirror is None:
            return
        if self._told is None:
            if time.monotonic() - self._followed > FOLLOW:
                self._told, self._followed = self._actor.metrics.remote(), time.monotonic()
            return
        if not self._ray.wait([self._told], timeout=0)[0]:
            return
        with suppress(self._ray.exceptions.RayError):
            content: bytes | None = self._ray.get(self._told)
            if content is not None:
                make_folder(self.plan.folder)
                (self.plan.folder / "metrics.csv").write_bytes(content)
        self._told = None

    def stop(self) -> None:
        """Asks the run to write its checkpoint and stop; one that has not begun never does."""
        self._stopped = True
        if self._actor is None:
            self._failure = Interrupted(self.plan.folder, signal.SIGTERM)
        elif not self._ray.wait([self._taken], timeout=0)[0]:  # no node has taken it
            self._ray.kill(self._actor)
        else:
            self._actor.stop.remote()

    def end(self, seconds: float) -> None:
        """Waits for a stopped run, and kills it after this many seconds."""
        self._ray.wait([self.ending], timeout=seconds)
        self._ray.kill(self._actor)
