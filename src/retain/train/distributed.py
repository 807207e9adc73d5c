"""The ranks of a run: processes that learn together, on torch.distributed (docs/scaling.md).

An agent takes part in the default process group, if there is one: `retain train --ranks 2` and
`torchrun -m retain train` make one, a script of your own calls `retain.join_ranks()` first.
"""

import atexit
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from retain.data.shards import ALONE, Exchange, Layout
from retain.errors import RanksError, UsageError
from retain.train.ranked import NO_ANSWER, STORE, restarts, seconds, started

_lost = False
"""Whether this process has lost another rank."""

FEW = 8
"""Ranks up to which each sends its tensor to every other one itself."""


class Group:
    """The default process group as an `Exchange`."""

    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()

    def gather(self, x: Tensor) -> Tensor:
        """See `Exchange`."""
        with answered():
            if not x.is_contiguous():
                x = x.contiguous()
            found = x.new_empty((self.size, *x.shape))
            if x.is_cuda or self.size > FEW:
                dist.all_gather(list(found.unbind()), x)
            else:
                self._from_each(x, found)
            return found

    def _from_each(self, x: Tensor, found: Tensor) -> None:
        """Gathers by messages between every two ranks, all under way at once; gloo's `all_gather`
        passes the tensors on from rank to rank, one after another."""
        found[self.rank] = x
        others = [rank for rank in range(self.size) if rank != self.rank]
        messages = [dist.irecv(found[rank], rank) for rank in others]
        messages += [dist.isend(x, rank) for rank in others]
        for message in messages:
            assert message is not None  # this process is in the group
            message.wait()

    def swap(self, x: Tensor) -> Tensor:
        """See `Exchange`."""
        found = torch.empty_like(x)
        with answered():
            dist.all_to_all_single(found, x)
        return found

    def objects(self, value: Any) -> list[Any]:
        """See `Exchange`; by pickle, since the ranks are one program."""
        found: list[Any] = [None] * self.size
        with answered():
            dist.all_gather_object(found, value)
        return found

    def first(self, value: Any) -> Any:
        """See `Exchange`; by pickle, since the ranks are one program."""
        found = [value]
        with answered():
            dist.broadcast_object_list(found, src=0)
        return found[0]


@contextmanager
def answered() -> Iterator[None]:
    """Turns the failure of a collective call into one line.

    Raises:
        RanksError: another rank has died, or did not answer in time.
    """
    global _lost
    try:
        yield
    except (RuntimeError, ValueError) as error:
        _lost = True
        text = str(error).lower()
        late = "timed out" in text or "timeout" in text
        why = f"{NO_ANSWER} for {seconds():g} s" if late else "has ended"
        raise RanksError(f"rank {dist.get_rank()}: another rank {why}") from None


def exchange() -> Exchange:
    """What connects this process with the other ranks, if there are any."""
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        return Group()
    return ALONE


def join_ranks(device: str = "cpu") -> Exchange:
    """Makes the default process group, if a launcher started this process as one of several ranks:
    gloo for the CPU, NCCL besides for a GPU.

    Args:
        device: where the run learns; "cuda" means the GPU of the rank's own number.
    Raises:
        RanksError: the other ranks cannot be reached.
    """
    if not started() or dist.is_initialized():
        return exchange()
    # Imported after the group is made, it would keep the group for ever, as functions' defaults.
    import_module("torch.distributed.nn")
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    stay_inside()
    backend = "gloo" if device.startswith("cpu") else "cpu:gloo,cuda:nccl"
    limit = timedelta(seconds=seconds())
    try:
        if STORE in os.environ:
            store: Any = dist.FileStore(os.environ[STORE], size)  # type: ignore[attr-defined]
        else:
            store, _, _ = next(dist.rendezvous("env://", timeout=limit))  # type: ignore
        # torchrun's store outlives a restart: what the ranks before left in it must not be read.
        store = dist.PrefixStore(f"retain/{restarts()}", store)  # type: ignore[attr-defined]
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=limit)
        Group().objects(None)  # none may end, and so hang up, while others still connect
    except (RanksError, RuntimeError, ValueError) as error:
        where = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RanksError(f"rank {rank} of {size} cannot join at {where}: {text}") from None
    atexit.register(_leave)
    return exchange()


def _leave() -> None:
    """Ends the process group's threads before the interpreter ends: one that releases a tensor
    later would abort the process. A call that a lost rank left waiting would be waited for."""
    if dist.is_initialized() and not _lost:
        dist.destroy_process_group()


def stay_inside() -> None:
    """Keeps connections between ranks of one machine on its loopback interface, unless asked
    otherwise (GLOO_SOCKET_IFNAME, NCCL_SOCKET_IFNAME)."""
    if os.environ.get("LOCAL_WORLD_SIZE") != os.environ.get("WORLD_SIZE"):
        return
    names = [name for _, name in socket.if_nameindex() if name in ("lo", "lo0")]
    for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        if names and variable not in os.environ:
            os.environ[variable] = names[0]


def own_device(device: str) -> str:
    """The device of this rank, for a device of the run: "cuda" is the GPU of the rank's number."""
    if device != "cuda" or not started():
        return device
    return f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % max(1, torch.cuda.device_count())}"


def layout(shards: int, ranks: Exchange) -> Layout:
    """The shards of this process.

    Raises:
        UsageError: the ranks cannot share the shards equally.
    """
    if shards % ranks.size:
        near = max(1, round(shards / ranks.size)) * ranks.size
        raise UsageError(
            f"shards is {shards}, which {ranks.size} ranks cannot share equally; nearest that they "
            f"can: {near}"
        )
    each = shards // ranks.size
    return Layout(shards, range(ranks.rank * each, (ranks.rank + 1) * each))


def check_minibatch(size: int | None, sequence: int, shards: int) -> None:
    """Checks that a minibatch can be cut into equal shards of whole sequences.

    Args:
        size: steps in a minibatch; None is the whole segment.
        sequence: steps in a sequence.
    Raises:
        UsageError: it cannot; the line names the nearest size that can.
    """
    each = sequence * shards
    if size is not None and size % each:
        near = max(1, round(size / each)) * each
        whole = f" of whole sequences of {sequence} steps" if sequence > 1 else ""
        raise UsageError(
            f"batch_size {size} cannot be cut into {shards} shards{whole}; nearest that can: {near}"
        )


def check_shared(folder: Path, ranks: Exchange) -> None:
    """Checks that every rank sees a run folder that rank 0 has made.

    Raises:
        UsageError: one does not.
    """
    ranks.first(None)  # rank 0 has made it
    seen = ranks.objects(folder.is_dir())
    if not all(seen):
        blind = ", ".join(str(rank) for rank, there in enumerate(seen) if not there)
        raise UsageError(
            f"{folder} is not there on rank {blind} (expected a folder that all ranks share)"
        )


def as_many_shards(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings with as many shards as there are ranks, unless they say how many."""
    ranks = exchange().size
    return settings if ranks == 1 or "shards" in settings else {**settings, "shards": ranks}


def put_together(
    tensors: dict[str, Tensor], facts: dict[str, Any], ranks: Exchange
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The state of all ranks' shards, on rank 0: what each knows alone has a name of its own."""
    if ranks.size == 1:
        return tensors, facts
    common = set(ranks.first(list(tensors)))
    own = {name: x.cpu() for name, x in tensors.items() if name not in common or not ranks.rank}
    for others, more in ranks.objects((own if ranks.rank else {}, facts)):
        tensors = {**others, **tensors}
        facts = merged(facts, more)
    return tensors, facts


def merged(facts: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """Nested facts with those of `more` that they lack."""
    both = {**facts, **{key: value for key, value in more.items() if key not in facts}}
    return {
        key: merged(value, more[key]) if isinstance(value, dict) and key in more else value
        for key, value in both.items()
    }
