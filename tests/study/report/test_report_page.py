"""The page as a document: its structure, what it leaves out, and what cannot get into it."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from report_runs import facts_of, write_comparison, write_run

import retain
from retain.cli.main import run as cli
from retain.errors import Notice
from retain.study.report.page import as_data
from retain.study.report.prose import markdown

VOID = {"meta", "link", "input", "img", "br", "hr"}
HOSTILE = '</script><script>alert(1)</script><img src=x onerror="alert(1)">&\u2028'


class Document(HTMLParser):
    """A page's elements, scripts and text."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.scripts, self.open, self.text = [], [], [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
        elif not self.open or self.open[-1] != "style":
            self.text.append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]


def page_of(tmp_path, *folders, **more):
    path = retain.report(*folders, out=tmp_path / "page.html", **more)
    return Document(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    folder = write_comparison(tmp_path_factory.mktemp("page") / "cmp", seeds=2)
    document = page_of(folder.parent, folder)
    assert document.open == []
    return document


def test_the_sections_stand_in_order_under_headings(comparison):
    sections = [attrs["id"] for attrs in comparison.all("section")]
    assert sections == ["run", "result", "curves", "monitors", "others", "episodes", "evaluation",
                        "memory", "commands"]  # fmt: skip
    ids = [attrs["id"] for _, attrs in comparison.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    for attrs in comparison.all("section"):
        assert attrs["aria-labelledby"] in ids
    levels = [int(tag[1]) for tag, _ in comparison.elements if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_it_can_be_read_and_worked_without_eyes_or_a_mouse(comparison):
    names = {tag for tag, _ in comparison.elements}
    assert {"header", "main", "footer"} <= names
    assert comparison.all("html")[0]["lang"] == "en"
    for attrs in comparison.all("th"):
        assert attrs["scope"] in ("col", "row")
    for attrs in comparison.all("div"):
        if attrs.get("class") == "wide":  # what scrolls can be reached and has a name
            assert attrs["tabindex"] == "0"
            assert attrs["aria-label"]
    for attrs in comparison.all("input"):
        assert "aria-label" in attrs or attrs["id"] in ("seeds", "means")


def test_nothing_is_fetched_and_only_the_pages_own_scripts_may_run(comparison):
    for tag, attrs in comparison.elements:
        for name in ("src", "href", "action", "poster", "data"):
            assert attrs.get(name, "#").startswith(("#", "data:")), (tag, attrs)
    policy = comparison.all("meta")[1]["content"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    data, *scripts = comparison.scripts
    for script in scripts:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert len(scripts) == policy.count("sha256-") == 2
    assert json.loads(data)["groups"][1]["name"] == "lstm"


def test_a_section_without_data_is_left_out(tmp_path):
    folder = write_run(tmp_path / "run", episodes=0)
    (folder / "metrics.csv").unlink()
    (folder / "episodes.jsonl").unlink()
    document = page_of(tmp_path, folder)
    sections = [attrs["id"] for attrs in document.all("section")]
    assert sections == ["run", "commands", "problems"]
    assert document.all("form") == []
    assert "metrics.csv does not exist" in " ".join(document.text)


def test_faults_doctor_and_films_have_their_sections(tmp_path):
    folder = write_run(tmp_path / "run")
    fault = {"kind": "raised", "env_index": 2, "episode": 7, "seed": 11, "actions": [0, 1],
             "traceback": "Traceback\n  line\nValueError: lost"}  # fmt: skip
    (folder / "incidents.jsonl").write_text(json.dumps(fault) + "\n")
    check = {"name": "parity", "verdict": "fail", "measured": "0.3", "meaning": "m", "mend": "n"}
    (folder / "doctor.json").write_text(
        json.dumps([check | {"name": "fine", "verdict": "ok"}, check])
    )
    (folder / "episode.gif").write_bytes(b"GIF89a-film")
    (folder / "large.mp4").write_bytes(b"")
    document = page_of(tmp_path, folder)
    sections = [attrs["id"] for attrs in document.all("section")]
    assert sections[-4:] == ["incidents", "doctor", "episode", "commands"]
    text = " ".join(document.text)
    assert "ValueError: lost" in text
    assert text.index("parity") < text.index("fine")  # what failed comes first
    [image] = document.all("img")
    assert base64.b64decode(image["src"].split(",")[1]) == b"GIF89a-film"
    assert image["alt"]
    assert document.all("video") == []


def test_an_episode_is_played_back_and_filmed(tmp_path):
    settings = {"num_envs": 2, "num_steps": 16, "batch_size": 32, "epochs": 1, "hidden": (4,)}
    retain.PPO("CartPole-v1", **settings).learn(128, out=tmp_path / "run")
    document = page_of(tmp_path, tmp_path / "run", video=True)
    [film] = document.all("video")
    assert film["src"].startswith("data:video/mp4;base64,")
    assert len(film["src"]) > 1000
    assert "controls" in film
    assert re.search(r"training episode \d+, return (\d+) in \1 steps", film["aria-label"])


def test_a_run_that_cannot_be_filmed_is_told_of_and_shown_without(tmp_path):
    folder = write_run(tmp_path / "run")
    with pytest.warns(Notice, match="no film of run: "):
        document = page_of(tmp_path, folder, video=True)
    assert document.all("video") == []
    assert len(document.all("section")) > 4


@pytest.mark.parametrize("where", ["folder", "settings", "columns", "summary", "faults", "doctor"])
def test_no_string_of_a_run_folder_becomes_markup(tmp_path, where):
    name = HOSTILE.replace("/", "") if where == "folder" else "run"
    facts = facts_of()
    if where == "settings":
        facts["env"] = facts["env_name"] = HOSTILE
        facts["run"]["callbacks"] = [HOSTILE]
    folder = write_run(tmp_path / "all" / name, facts=facts)
    write_run(tmp_path / "all" / "other")
    if where == "columns":
        head, *rest = (folder / "metrics.csv").read_text().split("\n")
        evil = HOSTILE.replace('"', "").replace("\u2028", "")
        (folder / "metrics.csv").write_text("\n".join([head.replace("policy_loss", evil), *rest]))
    if where == "summary":
        (tmp_path / "all" / "report.md").write_text(
            f"# {HOSTILE}\n\n<script>alert(1)</script>\n\n| {HOSTILE} |\n|---|\n| [x](javascript:alert(1)) |\n"
        )
    if where == "faults":
        fault = {"kind": HOSTILE, "env_index": 0, "episode": 0, "seed": 0,
                 "traceback": f"a\n{HOSTILE}"}  # fmt: skip
        (folder / "incidents.jsonl").write_text(json.dumps(fault) + "\n")
    if where == "doctor":
        check = dict.fromkeys(("name", "verdict", "measured", "meaning", "mend"), HOSTILE)
        (folder / "doctor.json").write_text(json.dumps([check]))
    document = page_of(tmp_path, tmp_path / "all")
    assert document.open == []
    assert len(document.scripts) == 3
    assert document.all("img") == []
    assert "alert(1)" not in "".join(document.scripts[1:])
    for _, attrs in document.elements:
        assert not any(name.startswith("on") for name in attrs)
    shown = " ".join(document.text) + document.scripts[0]
    assert "alert(1)" in shown  # it is there, as text


def test_data_in_a_script_begins_and_ends_no_tag():
    text = as_data({"a": HOSTILE, "b": "<!--<script>"})
    assert not set(text) & set("<>&")
    assert json.loads(text) == {"a": HOSTILE, "b": "<!--<script>"}


def test_markdown_loads_and_links_nothing():
    html = markdown(
        "# T\n\n![p](http://a/b.png)\n\n[words](http://a) <b>x</b> `c`\n\n| a |\n|---|\n| 1 |\n"
    )
    assert "http" not in html
    assert "<h3>T</h3>" in html
    assert "words" in html
    assert "&lt;b&gt;" in html
    assert "<code>c</code>" in html
    assert "<td>1</td>" in html


def test_the_command_line_writes_the_page(tmp_path, capsys):
    folder, out = write_run(tmp_path / "run"), tmp_path / "new" / "page.html"
    assert cli(["report", str(folder), "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"report: {out}\n"
    assert out.read_text().startswith("<!DOCTYPE html>")


def test_without_the_extra_one_line_says_what_to_install(tmp_path, monkeypatch, capsys):
    folder = write_run(tmp_path / "run")
    monkeypatch.setitem(__import__("sys").modules, "plotly.offline", None)
    assert cli(["report", str(folder), "--out", str(tmp_path / "page.html")]) == 2
    assert "pip install 'retain[report]'" in capsys.readouterr().err
    assert not (tmp_path / "page.html").exists()
