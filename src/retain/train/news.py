"""What happened in the environments of the other ranks since the last row, on every rank."""

from dataclasses import dataclass, field
from signal import SIGTERM
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retain.data.episodes import Episode, numbers
from retain.data.incidents import Incident
from retain.data.shards import Exchange
from retain.data.stream import Driver
from retain.train.ranked import orphaned


@dataclass
class News:
    """A rank's news."""

    signal: int | None = None
    """Number of the signal that asked this rank to stop."""
    episodes: list[tuple[int, Episode]] = field(default_factory=list)
    """Steps since each episode ended, and the episode with only the numbers of its last info."""
    actions: NDArray[Any] | None = None
    """`[n, B, ...]` actions of this rank's environments, if they are recorded."""
    incidents: list[Incident] = field(default_factory=list)
    fatal: Incident | None = None


class Newsroom:
    """Puts every rank's news together: the statistics become the whole run's, incidents and
    recorded actions come to rank 0.

    Args:
        record: whether rank 0 records the actions.
    """

    def __init__(self, driver: Driver, ranks: Exchange, *, record: bool) -> None:
        self.driver, self.ranks, self.record = driver, ranks, record
        driver.statistics.shared = ranks.size > 1
        self.histories = [stream.backend.history for stream in driver.streams]
        if record and ranks.rank:  # rank 0 has a recorder
            for history in self.histories:
                history.unread = history.clock

    def exchange(self, signal: int | None) -> News:
        """Tells the news and hears the others'; returns what concerns all: the first signal, the
        finished episodes in the order of ending, the first fatal incident."""
        driver, ranks = self.driver, self.ranks
        if ranks.size == 1:
            return News(
                signal, [(0, one) for one in driver.statistics.take_finished()],
                fatal=driver.incidents.fatal,
            )  # fmt: skip
        heard: list[News] = ranks.objects(self._own(signal))
        episodes = [self._here(rank, *e) for rank, news in enumerate(heard) for e in news.episodes]
        episodes.sort(key=lambda each: (-each[0], each[1].env))
        for _, episode in episodes:
            driver.statistics.count(episode)
        if not ranks.rank:
            driver.elsewhere = [n.actions for n in heard[1:] if n.actions is not None]
            driver.incidents.add([one for news in heard[1:] for one in news.incidents])
        return News(
            next((news.signal for news in heard if news.signal is not None), None), episodes,
            fatal=next((news.fatal for news in heard if news.fatal is not None), None),
        )  # fmt: skip

    def _own(self, signal: int | None) -> News:
        driver = self.driver
        if signal is None and orphaned():
            signal = SIGTERM
        news = News(signal, fatal=driver.incidents.fatal)
        clocks = {
            int(env): stream.backend.history.clock
            for stream in driver.streams
            for env in stream.episodes.index
        }
        for episode in driver.statistics.take_finished():
            age = clocks[episode.env] - episode.end
            kept = episode if not self.ranks.rank else episode._replace(info=numbers(episode.info))
            news.episodes.append((age, kept))
        if self.ranks.rank:
            news.incidents = driver.incidents.take()
            if self.record:
                parts = [np.stack(rows) for history in self.histories if (rows := history.take())]
                news.actions = np.concatenate(parts, axis=1) if parts else None
        return news

    def _here(self, rank: int, age: int, episode: Episode) -> tuple[int, Episode]:
        """An episode with its end by the clock of this rank's first environments."""
        if rank == self.ranks.rank:
            return age, episode
        return age, episode._replace(end=self.histories[0].clock - age)
