"""Every way in which Ray may be missing or not to be had is one line; no Ray is needed for these."""

import contextlib
import socket
import sys
import threading

import pytest

from retain import cluster
from retain.cli.main import run
from retain.cluster import connect
from retain.envs.groups import make_groups
from retain.envs.options import EnvOptions
from retain.errors import UsageError
from retain.study.launchers import LauncherOptions, make_launcher

MISSING = "Ray is an extra that is not installed: pip install 'retain[ray]'"


@pytest.fixture
def installed(monkeypatch):
    """A Ray that is installed and must not be reached: importing it fails."""
    monkeypatch.setattr(cluster, "find_spec", lambda name: object())
    monkeypatch.setattr(cluster, "PATIENCE", 0.3)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setitem(sys.modules, "ray", None)


@pytest.fixture
def listener():
    """Answers connections with what the test gives it, or not at all."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer(content):
            def serve():
                link, _ = server.accept()
                with link, contextlib.suppress(ConnectionError):
                    if content:
                        link.sendall(content)
                    link.recv(1000)
                    link.recv(1000)

            threading.Thread(target=serve, daemon=True).start()
            return f"127.0.0.1:{server.getsockname()[1]}"

        yield answer


def test_without_ray_everything_that_needs_it_says_how_to_get_it(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(cluster, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError) as found:
        make_launcher(LauncherOptions(launcher="ray"))
    assert str(found.value) == MISSING
    with pytest.raises(UsageError) as found:
        make_groups("CartPole-v1", 4, EnvOptions(workers=2, worker_engine="ray"))
    assert str(found.value) == MISSING
    for command in (
        ["compare", "--memory", "none", "gru", "--launcher", "ray"],
        ["train", "ppo", "--workers", "2", "--worker-engine", "ray"],
        ["train", "ppo", "--seeds", "2", "--launcher", "ray"],
        ["sweep", "ppo", "--launcher", "ray", "--trials", "4"],
    ):
        assert run([*command, "--out", str(tmp_path / command[0])]) == 2
        assert capsys.readouterr().err.splitlines()[-1] == f"retain: {MISSING}"


@pytest.mark.parametrize(
    "address", ["here", "10.0.0.1", "host:port", "host:99999", "ray://host", ":6379"]
)
def test_an_address_of_no_known_form_is_refused(installed, address):
    with pytest.raises(UsageError) as found:
        connect(address)
    assert (
        str(found.value) == f"address is {address!r} (expected auto, HOST:PORT or ray://HOST:PORT)"
    )


def test_an_address_where_nobody_answers_is_told_with_the_command_that_helps(installed):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(UsageError) as found:
        connect(f"127.0.0.1:{port}")
    assert str(found.value) == (
        f"no Ray answers at 127.0.0.1:{port} (Connection refused); start one there with: "
        f"ray start --head --port={port}"
    )


@pytest.mark.parametrize(
    "content", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH\r\n"]
)
def test_a_port_that_another_program_has_is_told(installed, listener, content):
    where = listener(content)
    with pytest.raises(UsageError, match=f"something else than Ray answers at {where}: another "):
        connect(where)


def test_an_http2_server_passes_the_question_on_to_ray(installed, listener):
    settings = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
    for scheme in ("", "ray://"):
        with pytest.raises(ModuleNotFoundError):  # the import of Ray comes next
            connect(scheme + listener(settings))


def test_the_environment_variable_is_the_address_where_none_is_given(installed, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "nowhere")
    with pytest.raises(UsageError, match="address is 'nowhere'"):
        connect()


def test_what_ray_says_of_a_cluster_that_it_cannot_join_is_one_line():
    said = cluster._refused(
        "10.0.0.1:6379", RuntimeError("Version mismatch: The cluster\n has Ray: 1")
    )
    assert said == ("the Ray at 10.0.0.1:6379 has other versions than this process: Version mismatch: "
                    "The cluster has Ray: 1")  # fmt: skip
    said = cluster._refused("auto", ConnectionError("Could not find any running Ray instance."))
    assert said.startswith("no Ray runs on this machine; start one with: ray start --head")
    said = cluster._refused("ray://h:1", ConnectionError("ray client connection timeout"))
    assert said == "cannot join the Ray at ray://h:1: ray client connection timeout"
    said = cluster._refused("h:6379", RuntimeError("\nUnable to find the node\nmore"))
    assert (
        "cannot join the Ray at h:6379: Unable to find the node; this machine must be one" in said
    )


class Ours:
    """A launcher of somebody else's."""

    slots = 1

    def __init__(self, jobs):
        self.jobs = jobs

    def submit(self, plan): ...
    def wait(self, seconds): ...
    def __enter__(self): ...
    def __exit__(self, *failure): ...


def test_launchers_are_found_by_name_and_a_strangers_as_well():
    made = make_launcher(LauncherOptions(launcher=f"{__name__}:Ours", jobs=3))
    assert type(made).__name__ == "Ours"
    assert made.jobs == 3
    assert make_launcher(LauncherOptions(jobs=2)).slots == 2


@pytest.mark.parametrize(("options", "message"), [
    ({"launcher": "rya"}, "unknown launcher 'rya'; did you mean 'ray'"),
    ({"launcher": "nowhere_at_all:X"}, "cannot import 'nowhere_at_all' for the launcher"),
    ({"launcher": f"{__name__}:Our"}, "has no launcher 'Our'; did you mean 'Ours'"),
    ({"launcher": "builtins:str"}, r"launcher 'builtins:str' made str \(expected slots"),
    ({"address": "auto"}, "address 'auto' would do nothing: launcher is 'processes'"),
    ({"run_gpus": 0.5}, "run_gpus 0.5 would do nothing: launcher is 'processes'"),
    ({"store": "s3://x"}, "store 's3://x' would do nothing: launcher is 'processes'"),
])  # fmt: skip
def test_what_cannot_be_launched_is_one_clear_line(options, message):
    with pytest.raises(UsageError, match=message):
        make_launcher(LauncherOptions(**options))


@pytest.mark.parametrize(("flags", "message"), [
    (["--launcher", "ray"], "launcher would do nothing: seeds is 1"),
    (["--worker-engine", "ray"], "worker_engine 'ray' would do nothing: workers is 0"),
    (["--workers", "2", "--worker-cpus", "2"],
     "worker_cpus 2.0 would do nothing: workers is 2, worker_engine 'processes'"),
    (["--workers", "2", "--worker-engine", "rai"], "did you mean 'ray'"),
])  # fmt: skip
def test_flags_that_would_do_nothing_are_refused(tmp_path, capsys, flags, message):
    assert run(["train", "ppo", "--env", "CartPole-v1", "--out", str(tmp_path / "x"), *flags]) == 2
    assert message in capsys.readouterr().err
