"""Every code block of the documentation runs, with fewer steps; what cannot run is at least read."""

import ast
import contextlib
import inspect
import tomllib
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from blocks import Block, blocks, reason
from preludes import PRELUDES, WITH_RUNS

import retain
import retain.doctor
from retain.study import swept
from retain.train.agent import Agent

STEPS, RESUMED, EPISODES = 8, 192, 1


class Fewer(ast.NodeTransformer):
    """The same code on a small budget: learn, resume, evaluate, workers."""

    def visit_Call(self, node):
        self.generic_visit(node)
        name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        if name == "learn" and node.args:
            node.args[0] = ast.Constant(STEPS)
        if name == "evaluate" and node.args:
            node.args[0] = ast.Constant(EPISODES)
        for keyword in node.keywords:
            if name == "resume" and keyword.arg == "steps":
                keyword.value = ast.Constant(RESUMED)
            if keyword.arg == "workers":
                keyword.value = ast.Constant(1)
        return node


def compiled(block):
    tree = ast.parse(block.code)
    ast.increment_lineno(tree, block.line - 1)
    return compile(ast.fix_missing_locations(Fewer().visit(tree)), block.page, "exec")


def run(page, code, reader, monkeypatch):
    """Runs a page's blocks in their order, in one namespace."""
    monkeypatch.setattr(retain.doctor.examine, "__kwdefaults__", QUICK)
    monkeypatch.setattr("retain.study.swept.sweep", pretended)
    names = {"__name__": "__main__"}
    exec(PRELUDES.get(page, ""), names)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", retain.Notice)
        for block in code:
            with contextlib.redirect_stdout(None):
                exec(compiled(block), names)
    return names


QUICK = retain.doctor.examine.__kwdefaults__ | {"probes": False}
SWEEP = swept.sweep


def pretended(*arguments, **keywords):
    """A sweep takes minutes: this one only checks that it is called rightly."""
    inspect.signature(SWEEP).bind(*arguments, **keywords)
    agent = retain.PPO(keywords["env"], memory=keywords["memory"], **keywords["settings"])
    assert isinstance(agent, Agent)
    assert set(keywords["search"]) <= set(agent.settings)
    fields = swept.Swept.__dataclass_fields__
    return SimpleNamespace(
        **{name: SimpleNamespace(value=0.0, gain=None, verdict="") for name in fields}, settings={}
    )


TRANSLATED = {"README.zh-CN.md": "README.md", "docs/quickstart.zh.md": "docs/quickstart.md"}
WITH_PYTHON = sorted({block.page for block in blocks("python")} - set(TRANSLATED))


@pytest.mark.parametrize("page", WITH_PYTHON)
def test_the_python_of_a_page_runs(page, request, monkeypatch):
    reader = request.getfixturevalue("runs" if page in WITH_RUNS else "reader")
    code = [block for block in blocks("python") if block.page == page and not reason(block)]
    names = run(page, code, reader, monkeypatch)
    assert len(names) > 2


@pytest.mark.parametrize("page", TRANSLATED)
def test_a_translation_has_the_code_of_its_original(page):
    theirs, ours = (
        [ast.dump(ast.parse(block.code)) for block in blocks("python") if block.page == one]
        for one in (page, TRANSLATED[page])
    )
    assert theirs == ours


def test_a_block_that_is_not_run_says_why_and_can_be_read():
    shown = Block("p.md", 1, "python", "# Not run by the tests: it needs two machines\nx = 1\n")
    assert reason(shown) == "it needs two machines"
    assert reason(Block("p.md", 1, "python", "x = 1\n")) is None
    with pytest.raises(AssertionError, match=r"p\.md:1 says no reason"):
        reason(Block("p.md", 1, "python", "# Not run by the tests:\nx = 1\n"))
    for block in filter(reason, blocks("python")):
        ast.parse(block.code)


def test_every_preset_in_the_documentation_is_one(reader):
    found = blocks("toml")
    assert found
    for block in found:
        assert tomllib.loads(block.code)
        Path("mine.toml").write_text(block.code)
        retain.PPO("CartPoleNoVel-v1", memory="lstm", preset="mine.toml")


def test_blocks_are_of_a_kind_that_is_tested():
    kinds = {block.kind for block in blocks()}
    assert kinds <= {"", "bash", "python", "toml", "yaml"}


def test_every_yaml_block_is_yaml():
    found = blocks("yaml")
    assert found
    for block in found:
        assert isinstance(yaml.safe_load(block.code), dict)


def test_an_expected_error_is_found_by_its_line(reader, monkeypatch):
    wrong = Block("docs/page.md", 7, "python", "import retain\nretain.PPO('CartPole-v1', gama=1)\n")
    with pytest.raises(retain.UsageError, match="gamma") as error:
        run("docs/page.md", [wrong], reader, monkeypatch)
    assert any(f"{entry.path}:{entry.lineno + 1}" == "docs/page.md:8" for entry in error.traceback)
