"""The repository's files as pages of the site, and links that lead to them.

The pages in docs/ link to tests, examples and results by their paths, so that the links work where
the repository is read. Here every such file becomes a page, and each link is turned to its page.
"""

import ast
import os
import posixpath
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"(\[(?:[^\[\]]|\[[^\]]*\])*\])\(([^)\s]+)\)")
"""`[text](target)`; the text may hold an image."""
FENCE = re.compile(r"^```.*?^```", re.S | re.M)

WHOLE = {
    "README.md": "index.md",
    "README.zh-CN.md": "index.zh.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
}
"""Files outside docs/ that are pages as they are."""
RESULTS = "benchmarks/results"
LANGUAGES = {".py": "python", ".sh": "bash", ".toml": "toml", ".jsonl": "json", ".ipynb": "json"}
MOST_LINES = 1500
"""Longer files are cut: their page says so."""


def uri_of(path: str) -> str | None:
    """The page of the site that shows a file or folder of the repository; None if there is none."""
    if path in WHOLE:
        return WHOLE[path]
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    if path in ("benchmarks", RESULTS):
        return "benchmarks/index.md"
    if path.startswith(RESULTS) and path.endswith(".md"):
        return f"benchmarks/{Path(path).name}"
    if (ROOT / path).is_dir():
        return f"source/{path}/index.md"
    return f"source/{path}.md" if (ROOT / path).is_file() else None


def turn_links(markdown: str, source: str, page: str) -> str:
    """A page's text with its links turned to the site's pages.

    Args:
        source: the path of the text in the repository.
        page: the page of the site that it becomes.
    """
    kept: list[str] = []

    def keep(match: re.Match[str]) -> str:
        kept.append(match[0])
        return f"\0{len(kept) - 1}\0"

    def turn(match: re.Match[str]) -> str:
        text, target = turn_text(match[1]), match[2]
        path, _, anchor = target.partition("#")
        if not path or "://" in target or target.startswith("mailto:"):
            return f"{text}({target})"
        inside = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        uri = uri_of(inside)
        if uri is None:
            return f"{text}({target})"
        if not anchor and uri.startswith("source/"):
            named = re.fullmatch(r"\[`?(test_\w+)`?\]", text)
            anchor = named[1] if named else ""
        here = posixpath.relpath(uri, posixpath.dirname(page) or ".")
        return f"{text}({here}{'#' + anchor if anchor else ''})"

    def turn_text(text: str) -> str:
        return "[" + LINK.sub(turn, text[1:-1]) + "]" if "](" in text else text

    turned = LINK.sub(turn, FENCE.sub(keep, markdown))
    return re.sub("\0(\\d+)\0", lambda match: kept[int(match[1])], turned)


def linked(markdown: str, source: str) -> Iterator[str]:
    """The files and folders that a text links to and that are pages of source code."""
    for match in LINK.finditer(FENCE.sub("", markdown)):
        path = match[2].partition("#")[0]
        inside = posixpath.normpath(posixpath.join(posixpath.dirname(source), path or "."))
        uri = uri_of(inside) if path and "://" not in path else None
        if uri is not None and uri.startswith("source/"):
            yield inside


@cache
def source_page(path: str) -> str:
    """A file as a page; each test of a file of tests has a heading, which links can lead to."""
    if (ROOT / path).is_dir():
        return folder_page(path)
    text = (ROOT / path).read_text()
    kind = LANGUAGES.get(Path(path).suffix, "text")
    lines = text.splitlines()
    cut = "" if len(lines) <= MOST_LINES else f"\nThe first {MOST_LINES} of {len(lines)} lines.\n"
    parts = [f"---\nsearch:\n  exclude: true\n---\n\n# {path}\n{cut}"]
    for heading, first, last in chunks(path, text, min(len(lines), MOST_LINES)):
        body = "\n".join(lines[first - 1 : last]).strip("\n")
        if heading:
            parts.append(f"## {heading} {{ #{heading} }}\n")
        if body:
            parts.append(f'````{kind} linenums="{first}"\n{body}\n````\n')
    return "\n".join(parts)


def chunks(path: str, text: str, last: int) -> Iterator[tuple[str, int, int]]:
    """Heading, first and last line of each part of a file."""
    if not Path(path).name.startswith("test_"):
        yield "", 1, last
        return
    begin, heading = 1, ""
    for node in ast.parse(text).body:
        if not (isinstance(node, ast.FunctionDef) and node.name.startswith("test_")):
            continue
        start = min([node.lineno, *(one.lineno for one in node.decorator_list)])
        yield heading, begin, start - 1
        begin, heading = start, node.name
    yield heading, begin, last


def folder_page(path: str) -> str:
    """A folder's files, as a page."""
    files = sorted(p for p in (ROOT / path).iterdir() if p.suffix in LANGUAGES)
    rows = [f"- [{file.name}]({file.name}.md)" for file in files]
    return "\n".join([f"# {path}/", "", *rows, ""])


def contents(path: str) -> list[str]:
    """The files that a folder's page links to."""
    if not (ROOT / path).is_dir():
        return []
    return [f"{path}/{p.name}" for p in sorted((ROOT / path).iterdir()) if p.suffix in LANGUAGES]


def documents() -> dict[str, str]:
    """Every page that people wrote, by its path in the repository."""
    found = [*WHOLE, *(f"{RESULTS}/{p.name}" for p in (ROOT / RESULTS).glob("*.md"))]
    for folder, _, names in os.walk(ROOT / "docs"):
        found += [
            str((Path(folder) / name).relative_to(ROOT)) for name in names if name.endswith(".md")
        ]
    return {path: (ROOT / path).read_text() for path in sorted(found)}
