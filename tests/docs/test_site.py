"""The generated parts of the site: every setting, names of other libraries, links to sources."""

import re
import sys
from pathlib import Path

import pytest
import yaml

HOOKS = Path(__file__).parents[2] / "docs" / "hooks"
sys.path.insert(0, str(HOOKS))

from docstrings import readable  # noqa: E402
from names_table import names_table  # noqa: E402
from repository import ROOT, WHOLE, source_page, turn_links  # noqa: E402
from settings_page import OWN_AGENTS, OWN_MEMORIES, settings_page  # noqa: E402

from retain.memory.registry import own_settings  # noqa: E402
from retain.settings import default_of, search_range  # noqa: E402
from retain.train.foreign import COUNTED, OTHER, RENAMED  # noqa: E402
from retain.train.signature import settings_of  # noqa: E402

ROW = re.compile(r"^\| `(\w+)` \| .* \| `(.*)` \| (?:`(.*)`)? *\| (.+) \|$", re.M)


def sections():
    """The tables of the page by their headings: setting -> default, range, meaning."""
    parts = re.split(r"^## (.*)$", settings_page(), flags=re.M)
    return {
        title: {row[1]: (row[2], row[3], row[4]) for row in ROW.finditer(text)}
        for title, text in zip(parts[1::2], parts[2::2], strict=True)
    }


@pytest.mark.parametrize("algo", sorted(OWN_AGENTS))
def test_the_page_has_every_setting_of_an_algorithm_with_default_range_and_meaning(algo):
    which = re.search(rf"^\| `{algo}` \| (.*) \|$", settings_page(), re.M)
    titles = re.findall(r"\[([^\]]+)\]", which[1])
    merged = {}
    for title in titles:
        merged |= sections()[title]
    config = OWN_AGENTS[algo].config_kind
    for field in settings_of(config):
        default, found, meaning = merged[field.name]
        assert default == repr(default_of(field)), field.name
        assert meaning.strip(), field.name
        wanted = search_range(config, field.name)
        assert found == (None if wanted is None else str(wanted)), field.name
    names = {field.name for field in settings_of(config)}
    assert set(merged) == names


def test_the_page_has_every_setting_of_every_memory_with_its_meaning():
    table = settings_page().partition("## Settings of one memory")[2]
    for name, kind in OWN_MEMORIES.items():
        for option in own_settings(kind):
            row = re.search(rf"^\| `{name}` \| `{option}` \|.*\| (.*) \|$", table, re.M)
            assert row, (name, option)
            assert row[1].strip(), (name, option)


def test_the_page_is_about_the_librarys_own_algorithms_and_memories():
    assert {"ppo", "sac", "tqc"} <= set(OWN_AGENTS)
    assert {"lstm", "mingru", "attention"} <= set(OWN_MEMORIES)


def test_a_settings_needs_are_words():
    assert "*Needs a memory.*" in settings_page()
    assert "*Stays for an agent's life: the saved replay was written with it.*" in settings_page()


@pytest.mark.parametrize("library", ["Stable-Baselines3", "CleanRL", "TorchRL", "RLlib"])
def test_the_names_of_a_library_stand_beside_ours(library):
    table = names_table(library)
    known = {f.name for kind in OWN_AGENTS.values() for f in settings_of(kind.config_kind)}
    for name, (whose, ours) in RENAMED.items():
        if library in whose:
            assert re.search(rf"^\| `{name}` \| .*`{ours.split()[0]}`", table, re.M), name
    for name, (whose, _) in (OTHER | COUNTED).items():
        assert (f"| `{name}` |" in table) == (library in whose), name
    assert "`learning_rate`" in table or library == "Stable-Baselines3"
    assert known


def test_a_link_out_of_the_documentation_leads_to_a_page():
    text = "[`test_a`](../tests/docs/test_links.py) [r](../benchmarks/results/atari.md) [m](memory.md#x)"
    assert turn_links(text, "docs/bugs.md", "bugs.md") == (
        "[`test_a`](source/tests/docs/test_links.py.md#test_a) [r](benchmarks/atari.md) [m](memory.md#x)"
    )
    assert turn_links("[d](docs/api/ops.md)", "README.md", "index.md") == "[d](api/ops.md)"
    assert turn_links("[d](../../README.md)", "docs/a/b.md", "a/b.md") == "[d](../index.md)"
    assert turn_links("[d](../nothing.py)", "docs/b.md", "b.md") == "[d](../nothing.py)"


def test_code_is_no_link():
    block = "```\n[x](../README.md)\n```\n"
    assert turn_links(block, "docs/b.md", "b.md") == block


def test_a_file_of_tests_has_a_heading_for_each():
    page = source_page("tests/docs/test_links.py")
    assert "## test_every_link_leads_to_a_file { #test_every_link_leads_to_a_file }" in page
    shown = "".join(re.findall(r"^````python.*?\n(.*?)\n````$", page, re.S | re.M))
    text = (ROOT / "tests/docs/test_links.py").read_text()
    assert re.sub(r"\s", "", shown) == re.sub(r"\s", "", text)


def test_every_page_is_in_the_navigation():
    class Loader(yaml.SafeLoader):
        pass

    nav = str(yaml.load((ROOT / "mkdocs.yml").read_text(), Loader)["nav"])
    pages = [p.relative_to(ROOT / "docs") for p in (ROOT / "docs").rglob("*.md")]
    pages += map(Path, WHOLE.values())
    missing = [str(p) for p in pages if f"'{p}'" not in nav and p.parent != Path("compare")]
    assert not missing


def test_a_docstrings_sections_and_equations_are_set_apart():
    text = "Sums.\n\ny_t = x_t +\n  y_{t-1}\n\nArgs:\n    x: [T]\nReturns:\n    y: [T]"
    assert readable(text) == (
        "Sums.\n\n    y_t = x_t +\n      y_{t-1}\n\nArgs:\n    x: [T]\n\nReturns:\n    y: [T]"
    )
