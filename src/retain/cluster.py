"""Ray: joins one that runs, or starts one that this machine alone can reach.

Ray binds to every interface unless its nodes' address is the loopback's, and asks its own
questions over the network; neither happens in a Ray that is started here. Nothing here is imported
unless Ray is asked for, and everything that goes wrong at the start is one line.
"""

import contextlib
import ipaddress
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

from retain.errors import UsageError, notice

LOCAL = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}
"""Environment of a Ray that is started here. The first entry, which is named after the systems
where it is the default, gives every node the address 127.0.0.1."""
PATIENCE = 5.0
"""Seconds to wait for the first answer from an address."""
HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""The beginning of an HTTP/2 connection, on which Ray's messages travel (RFC 9113, 3.4)."""
_OWN = threading.Event()
EXPECTED = "expected auto, HOST:PORT or ray://HOST:PORT"


def connect(address: str = "") -> Any:
    """The module `ray`, connected.

    A connection that this process has already is used as it is.

    Args:
        address: auto (the one that runs on this machine), HOST:PORT of a head whose node this
            machine is, or ray://HOST:PORT of a head elsewhere; "" for what the environment variable
            RAY_ADDRESS says, or else a Ray of this process's own.
    Raises:
        UsageError: Ray is not installed, nothing or something else answers at the address, the
            versions differ, or it cannot start.
    """
    if find_spec("ray") is None:
        raise UsageError("Ray is an extra that is not installed: pip install 'retain[ray]'")
    address = address or os.environ.get("RAY_ADDRESS", "")
    loaded = sys.modules.get("ray")
    if loaded is not None and loaded.is_initialized():
        return loaded
    if not address:
        for name, value in LOCAL.items():
            os.environ.setdefault(name, value)
    elif address != "auto":
        _check_answers(address)  # before the import, which takes a second
    import ray

    _OWN.clear()
    if address:
        _join(ray, address)
    else:
        _start(ray)
    return ray


def _join(ray: Any, address: str) -> None:
    try:
        with _own_signals():
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (Exception, SystemExit) as error:
        raise UsageError(_refused(address, error)) from None


def _start(ray: Any) -> None:
    try:
        with _own_signals():
            ray.init(
                address="local",
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
    except (Exception, SystemExit) as error:
        raise UsageError(f"Ray could not start here: {_first_line(error)}") from None
    where = ray.util.get_node_ip_address()
    if not ipaddress.ip_address(where).is_loopback:
        ray.shutdown()
        raise UsageError(
            f"Ray would listen at {where}, beyond this machine, since it was imported before "
            f"retain could prevent that: set {next(iter(LOCAL))}=0 first, or start Ray yourself "
            "and give its address"
        )
    _OWN.set()


def is_own() -> bool:
    """Whether this process has started its Ray itself, for itself alone."""
    return _OWN.is_set()


def _check_answers(address: str) -> None:
    """Refuses an address where no Ray answers; Ray itself would try for minutes.

    Raises:
        UsageError: says who answers instead.
    """
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not (host and colon and port.isdecimal() and 0 < int(port) < 65536):
        raise UsageError(f"address is {address!r} ({EXPECTED})")
    secret = os.environ.get("RAY_USE_TLS", "0") not in ("", "0")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), PATIENCE) as link:
            link.settimeout(PATIENCE)
            link.sendall(HELLO)
            answer = HELLO if secret else link.recv(9)
    except TimeoutError:
        answer = b""
    except OSError as error:
        raise UsageError(
            f"no Ray answers at {address} ({error.strerror or error}); start one there with: "
            f"ray start --head --port={port}"
        ) from None
    if len(answer) < 4 or (answer[3] != 4 and not secret):  # the first frame is one of SETTINGS
        raise UsageError(
            f"something else than Ray answers at {address}: another program has the port "
            "(expected what `ray start --head` prints)"
        )


def _refused(address: str, error: BaseException) -> str:
    """The line for a Ray that could not be joined."""
    text = " ".join(str(error).split())
    if "ersion mismatch" in text or "different versions" in text:
        return f"the Ray at {address} has other versions than this process: {text}"
    if isinstance(error, ConnectionError) and address == "auto":
        return "no Ray runs on this machine; start one with: ray start --head, or give its address"
    if isinstance(error, ConnectionError):
        return f"cannot join the Ray at {address}: {_first_line(error)}"
    return (
        f"cannot join the Ray at {address}: {_first_line(error)}; this machine must be one of its "
        f"nodes (ray start --address={address.removeprefix('ray://')}), or use ray://HOST:10001"
    )


def _first_line(error: BaseException) -> str:
    return next(filter(None, map(str.strip, str(error).splitlines())), type(error).__name__)


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Keeps this process's handling of SIGTERM, which Ray replaces."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def warn_if_none_fits(ray: Any, what: str, *, cpus: float, gpus: float) -> None:
    """Says once if no node that runs now has what is asked for; one may come."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    fits = any(n.get("CPU", 0) >= cpus and n.get("GPU", 0) >= gpus for n in nodes)
    if not fits:
        notice(f"{what} asks for {cpus:g} CPU and {gpus:g} GPU, which no node of this Ray has: "
               "it waits for one")  # fmt: skip
