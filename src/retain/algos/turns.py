"""Several shards in one process take turns in code that is written for one.

A gradient step is written for one shard: losses, an optimizer's step, further losses that see the
new parameters, the next optimizer's step. With several shards each runs in a thread of its own, but
only one at a time: up to its next optimizer step, where it waits until the others have come to the
same step. Then the step is taken once for all, and they go on in the same order.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import torch

Result = TypeVar("Result")


class Turns(Generic[Result]):
    """Runs one function per shard, and `meet`s them.

    Args:
        enter: called with a shard's place before it runs on.
    """

    def __init__(self, count: int, enter: Callable[[int], None]) -> None:
        self.count, self.enter = count, enter
        self._go = [threading.Semaphore(0) for _ in range(count)]
        self._back = threading.Semaphore(0)
        self._brought: list[Any] = [None] * count
        self._answer: Any = None
        self._failure: BaseException | None = None
        self._place = threading.local()

    def run(
        self, functions: Sequence[Callable[[], Result]], joined: Callable[[list[Any]], Any]
    ) -> list[Result]:
        """The functions' results.

        Args:
            joined: takes what all of them brought to a meeting and returns what they all get.
        """
        results: list[Any] = [None] * self.count
        done = [False] * self.count

        def body(place: int, threads: int) -> None:
            self._place.number = place
            self._go[place].acquire()
            try:
                if self._failure is None:
                    torch.set_num_threads(threads)
                    results[place] = functions[place]()
            except BaseException as error:
                self._failure = self._failure or error
            finally:
                done[place] = True
                self._back.release()

        workers = [
            threading.Thread(target=body, args=(place, torch.get_num_threads()), daemon=True)
            for place in range(self.count)
        ]
        for worker in workers:
            worker.start()
        while not all(done):
            for place in range(self.count):
                if not done[place]:
                    self.enter(place)
                    self._go[place].release()
                    self._back.acquire()
            if self._failure is None and not all(done):
                try:
                    self._answer = joined(list(self._brought))
                except BaseException as error:
                    self._failure = error
        for worker in workers:
            worker.join()
        self.enter(0)
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        return results

    def meet(self, brought: Any) -> Any:
        """Waits for the other shards; returns what `joined` made of what all brought."""
        place = self._place.number
        self._brought[place] = brought
        self._back.release()
        self._go[place].acquire()
        if self._failure is not None:
            raise self._failure
        return self._answer
