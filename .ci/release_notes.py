"""Prints the release notes of a tag: its section of CHANGELOG.md.

python .ci/release_notes.py v0.1.0
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def notes(tag: str, changelog: str, version: str) -> str:
    """The section of a version.

    Raises:
        SystemExit: the tag is not the package's version, or its section is missing or unreleased.
    """
    if tag != f"v{version}":
        sys.exit(f"the tag is {tag!r} (expected 'v{version}', the version of the package)")
    sections = re.findall(r"^## (\S+) \(([^)]*)\)\n(.*?)(?=^## |\Z)", changelog, re.M | re.S)
    for name, date, body in sections:
        if name == version:
            if not re.fullmatch(r"\d{4}-\d\d-\d\d", date):
                sys.exit(f"CHANGELOG.md says {name} ({date}) (expected the date of the release)")
            return body.strip()
    names = ", ".join(name for name, _, _ in sections)
    sys.exit(f"CHANGELOG.md has no section {version!r} (it has {names})")


if __name__ == "__main__":
    found = re.search(r'"(.+)"', (ROOT / "src/retain/_version.py").read_text())
    assert found is not None
    print(notes(sys.argv[1], (ROOT / "CHANGELOG.md").read_text(), found[1]))
