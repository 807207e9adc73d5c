"""The code blocks of the documentation."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in sorted([*(ROOT / "docs").rglob("*.md"), *ROOT.glob("README*.md")])
}
BLOCK = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.S | re.M)
NOT_RUN = "# Not run by the tests: "
"""The first line of a block that is only read, with the reason."""


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Args:
        line: the line of the page that its code begins at.
    """

    page: str
    line: int
    kind: str
    code: str


def reason(block):
    """Why a block is not run; None where it is."""
    first = block.code.split("\n")[0]
    if not first.startswith(NOT_RUN.strip()):
        return None
    text = first.removeprefix(NOT_RUN.strip()).strip()
    assert text, f"{block.page}:{block.line} says no reason"
    return text


def blocks(kind=None):
    """Every block of one kind, or of all; "" is a block without a kind."""
    found = []
    for page, text in PAGES.items():
        for match in BLOCK.finditer(text):
            line = text[: match.start(2)].count("\n") + 1
            found.append(Block(page, line, match[1], match[2]))
    return [block for block in found if kind is None or block.kind == kind]


def commands(block):
    """The command lines of a block: (line, arguments, what the page shows below it)."""
    if block.kind not in ("", "bash"):
        return
    lines = block.code.split("\n")
    prompted = any(line.startswith("$ ") for line in lines)
    for number, line in enumerate(lines):
        if prompted and not line.startswith("$ "):
            continue
        shown = [] if not prompted else lines[number + 1 : number + 2]
        line, after = line.removeprefix("$ "), number + 1
        while line.endswith("\\"):
            line, after = line[:-1] + lines[after], after + 1
        if line.split(" ")[0] in ("retain", "make", "python", "pip", "torchrun"):
            words = shlex.split(line, comments=True)
            if words[0] == "torchrun" and words[-1] != "...":
                words = words[words.index("retain") :]
            yield block.line + number, words, "".join(shown)
