"""The served page: for this machine alone, and new when a run has new rows."""

import json
import signal
import subprocess
import sys
import threading
import urllib.request
from contextlib import contextmanager
from html import unescape
from urllib.error import HTTPError

import pytest
from report_runs import columns_of, write_metrics, write_run

from retain.errors import UsageError
from retain.study.report import watching
from retain.study.report.watching import Watched, server


@contextmanager
def served(folder):
    with server(Watched([folder]), 0) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{serving.server_address[1]}"
        finally:
            serving.shutdown()
            thread.join()


def get(url, **headers):
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.status, answer.read().decode()


def test_new_rows_make_news_and_no_rows_make_none(tmp_path, monkeypatch):
    monkeypatch.setattr(watching, "EVERY", 0.0)
    folder = write_run(tmp_path / "run", rows=5)
    with served(folder) as url:
        status, html = get(url + "/")
        assert status == 200
        assert "data-live" in html
        assert "connect-src 'self'" in unescape(html)
        first = json.loads(get(url + "/update.json?version=")[1])
        assert get(f"{url}/update.json?version={first['version']}") == (204, "")
        write_metrics(folder, columns_of(9))
        news = json.loads(get(f"{url}/update.json?version={first['version']}")[1])
        assert news["version"] == first["version"] + 1
        assert len(news["data"]["runs"][0]["x"]["step"]) == 9
        assert "900 of 10,000" in news["main"]


def test_a_run_that_vanishes_leaves_the_page_as_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr(watching, "EVERY", 0.0)
    folder = write_run(tmp_path / "run")
    watched = Watched([folder])
    version, page = watched.current()
    folder.rename(tmp_path / "moved")
    assert watched.current() == (version, page)


def test_only_the_run_that_changed_is_read_again(tmp_path, monkeypatch):
    monkeypatch.setattr(watching, "EVERY", 0.0)
    for name in ("a", "b"):
        write_run(tmp_path / "all" / name)
    read = []
    original = watching.read_run
    monkeypatch.setattr(
        watching, "read_run", lambda folder: read.append(folder.name) or original(folder)
    )
    watched = Watched([tmp_path / "all"])
    write_metrics(tmp_path / "all" / "b", columns_of(3))
    watched.current()
    assert read == ["a", "b", "b"]


@pytest.mark.parametrize(("path", "host", "code"), [
    ("/", "evil.example", 403), ("/update.json", "127.0.0.1.evil.example:80", 403),
    ("/../../etc/passwd", None, 404), ("/config.json", None, 404),
])  # fmt: skip
def test_others_are_refused(tmp_path, path, host, code):
    with served(write_run(tmp_path / "run")) as url, pytest.raises(HTTPError) as refused:
        get(url + path, **({"Host": host} if host else {}))
    assert refused.value.code == code


def test_it_listens_to_this_machine_alone(tmp_path):
    watched = Watched([write_run(tmp_path / "run")])
    with server(watched, 0) as serving:
        host, port = serving.server_address
        assert host == "127.0.0.1"
        with pytest.raises(UsageError, match=f"port {port} cannot be used"):
            server(watched, port)


def test_the_command_serves_until_ctrl_c(tmp_path):
    folder = write_run(tmp_path / "run")
    line = [sys.executable, "-m", "retain", "report", str(folder), "--watch", "--port", "0"]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, text=True)
    try:
        said = process.stdout.readline()
        assert get(said.split()[1])[0] == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert process.stdout.read() == "stopped\n"
    finally:
        process.kill()
