"""Markdown from a run folder as HTML: words, lists and tables, and nothing that loads or links."""

from collections.abc import Sequence
from typing import Any

from retain.errors import UsageError

DEEPER = 2
"""Levels by which headings go down, below the page's own."""


def markdown(text: str) -> str:
    """Safe HTML: tags in the text are shown as text, pictures are left out, links are only words.

    Raises:
        UsageError: the renderer is not installed.
    """
    try:
        from markdown_it import MarkdownIt
    except ImportError:
        raise UsageError(
            "a report needs an extra that is not installed: pip install 'retain[report]'"
        ) from None
    renderer = MarkdownIt("commonmark", {"html": False}).enable("table")
    for rule in ("image", "link_open", "link_close"):
        renderer.add_render_rule(rule, _nothing)
    tokens = renderer.parse(text)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + DEEPER)}"
        if token.type == "th_open":
            token.attrSet("scope", "col")
    html = str(renderer.renderer.render(tokens, renderer.options, {}))
    html = html.replace("<table>", '<div class="box"><div class="wide" '
                        'tabindex="0" role="region" aria-label="table"><table>')  # fmt: skip
    return html.replace("</table>", "</table></div></div>").replace("<p></p>\n", "")


def _nothing(self: Any, tokens: Sequence[Any], at: int, options: Any, env: Any) -> str:
    return ""
