"""Every command line of the documentation is one that the library understands."""

import contextlib
import io
import re
from importlib import import_module
from pathlib import Path

import gymnasium as gym
import pytest
from blocks import PAGES, ROOT, blocks, commands
from my_module import MyEnv

from retain.cli import main
from retain.cli.compare import study_of
from retain.cli.main import VERBS
from retain.cli.sweep import sweep_of
from retain.cli.train import agent_of, algorithm

LINES = [
    (f"{block.page}:{line}", words, shown)
    for block in blocks()
    for line, words, shown in commands(block)
]
RETAIN = [(place, words[1:], shown) for place, words, shown in LINES if words[0] == "retain"]
REFUSED = [(place, words, shown) for place, words, shown in RETAIN if shown.startswith("retain:")]
ACCEPTED = [(place, words) for place, words, shown in RETAIN if not shown.startswith("retain:")]


class Parsed(Exception):
    """The parser has accepted a command line."""

    def __init__(self, options):
        self.options = options


def accept(words, monkeypatch):
    """Parses a command as `retain` does, and makes the agent or study that it describes."""
    verb, arguments = words[0], words[1:]
    module = import_module(f"retain.cli.{verb}")
    parse = module.parse

    def stop(*given, **keywords):
        raise Parsed(parse(*given, **keywords))

    monkeypatch.setattr(module, "parse", stop)
    with pytest.raises(Parsed) as parsed:
        module.command(list(arguments))
    options = parsed.value.options
    if verb in ("train", "doctor"):
        algo, rest = algorithm(verb, list(arguments))
        agent_of(algo, options, rest)
    if verb == "compare":
        study_of(options)
    if verb == "sweep":
        algo, _ = algorithm(verb, list(arguments))
        sweep_of(algo, options)


@pytest.mark.parametrize(("place", "words"), ACCEPTED, ids=[place for place, _ in ACCEPTED])
def test_the_command_is_understood(place, words, runs, monkeypatch):
    gym.register("Corridor-v0", entry_point=MyEnv, max_episode_steps=50)
    presets = [block.code for block in blocks("toml") if place.startswith(block.page)]
    for name in ("mine.toml", "runs/sweep/best.toml"):
        Path(name).write_text("".join(presets))
    accept(words, monkeypatch)


@pytest.mark.parametrize(("place", "words", "shown"), REFUSED, ids=[one[0] for one in REFUSED])
def test_a_refusal_is_the_line_that_the_page_shows(place, words, shown, reader):
    printed = io.StringIO()
    with contextlib.redirect_stderr(printed):
        assert main.run(words) != 0
    assert printed.getvalue().strip() == shown


def test_there_are_commands_of_both_kinds():
    assert len(ACCEPTED) > 60
    assert len(REFUSED) >= 2


def test_make_python_and_pip_lines_name_what_there_is():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    extras = set(re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(), re.M))
    for place, words, _ in LINES:
        if words[0] == "make":
            assert words[1] in targets, place
        if words[0] == "python" and words[1].endswith(".py"):
            assert (ROOT / words[1]).exists(), place
        for extra in re.findall(r"retain\[([\w,]+)\]", " ".join(words)):
            assert set(extra.split(",")) <= extras, place


def test_verbs_and_extras_in_the_text_exist():
    extras = set(re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(), re.M))
    for page, text in PAGES.items():
        for verb in re.findall(r"`retain (\w+)[^`]*`", text):
            assert verb in VERBS or verb == "VERB", (page, verb)
        for extra in re.findall(r"retain\[([\w,]+)\]", text):
            assert set(extra.split(",")) <= extras, (page, extra)
