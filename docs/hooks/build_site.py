"""Pages that the site makes of the repository: its own README, results, sources and settings."""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from names_table import fill_names
from repository import RESULTS, ROOT, WHOLE, contents, documents, linked, source_page, turn_links
from settings_page import settings_page

SETTINGS = "<!-- every setting -->"
RESULT_LIST = "<!-- every result -->"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Puts every result of a benchmark into the navigation."""
    pages = [f"benchmarks/{Path(path).name}" for path in documents() if path.startswith(RESULTS)]
    for part in config.nav or ():
        if "Benchmarks" in part:
            part["Benchmarks"] += pages
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that are not files in docs/."""
    pages = documents()
    for path, uri in WHOLE.items():
        files.append(_made(config, uri, turn_links(pages[path], path, uri)))
    for path in (path for path in pages if path.startswith(RESULTS)):
        uri = f"benchmarks/{Path(path).name}"
        files.append(_made(config, uri, turn_links(pages[path], path, uri)))
    named = {inside for path, text in pages.items() for inside in linked(text, path)}
    named |= {inside for folder in named for inside in contents(folder)}
    for path in sorted(named):
        uri = f"source/{path}/index.md" if (ROOT / path).is_dir() else f"source/{path}.md"
        files.append(_made(config, uri, source_page(path)))
    return files


def _made(config: MkDocsConfig, uri: str, content: str) -> File:
    return File.generated(config, uri, content=content)


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turns the links of a page in docs/, and fills in what is generated."""
    uri = page.file.src_uri
    if page.file.generated_by is None:
        markdown = turn_links(markdown, f"docs/{uri}", uri)
    if SETTINGS in markdown:
        markdown = markdown.replace(SETTINGS, settings_page())
        page.meta["hide"] = ["navigation"]  # the tables need its room
    if RESULT_LIST in markdown:
        markdown = markdown.replace(RESULT_LIST, result_list())
    return fill_names(markdown)


def result_list() -> str:
    """A table of the benchmarks' results: title, date and machine."""
    rows = ["| result | measured | on |", "|---|---|---|"]
    for path, text in documents().items():
        if not path.startswith(RESULTS):
            continue
        title = re.search(r"^# (.*)", text, re.M)
        date = re.search(r"\b20\d\d-\d\d-\d\d\b", text)
        machine = re.search(r"\b(AMD[^,\n]*|Intel[^,\n]*|NVIDIA[^,\n]*), \d+ cores", text)
        name = title[1] if title else Path(path).stem
        link = f"[{name}]({Path(path).name})"
        rows.append(f"| {link} | {date[0] if date else ''} | {machine[0] if machine else ''} |")
    return "\n".join(rows)
