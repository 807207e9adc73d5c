"""What the documentation points to is there."""

import re

from blocks import PAGES, ROOT

LINK = re.compile(r"\[([^\]]*)\]\(([^)\s]+)\)")


def links():
    """(page, text, target) of every link within the repository."""
    for page, text in PAGES.items():
        for match in LINK.finditer(re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)):
            if "://" not in match[2] and not match[2].startswith("#"):
                yield page, match[1], match[2]


def test_every_link_leads_to_a_file():
    missing = [
        (page, target)
        for page, _, target in links()
        if not (ROOT / page).parent.joinpath(target.partition("#")[0]).exists()
    ]
    assert not missing


def test_every_test_that_a_page_names_exists():
    """A link to a test gives the test's name and its file."""
    named = [
        (page, text.strip("`"), (ROOT / page).parent / target)
        for page, text, target in links()
        if text.startswith("`test_")
    ]
    assert len(named) > 20
    for page, name, path in named:
        assert f"def {name}(" in path.read_text(), (page, name)


def test_every_failure_has_its_thread_and_its_test():
    """An entry of docs/bugs.md says who was bitten, and what rules it out here."""
    entries = re.split(r"^(?=\*\*)", PAGES["docs/bugs.md"], flags=re.M)[1:]
    assert len(entries) > 15
    for entry in entries:
        assert "](https://github.com/" in entry, entry
        assert "*Here:*" in entry, entry
        assert "`test_" in entry, entry
