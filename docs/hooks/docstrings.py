"""Docstrings as the reference reads them.

Its parser wants a blank line above each section, and sets lines of a paragraph side by side unless
they are code.
"""

import re
import textwrap
from typing import Any

import griffe

SECTION = re.compile(r"(?<=[^\n])\n(Args|Returns|Raises|Yields):\n")
EQUATION = re.compile(r"[A-Za-z]\w*(\([^)]*\)|\[[^\]]*\])? = ")


class Readable(griffe.Extension):
    """Puts a blank line above `Args:` and the like, and equations into blocks of code."""

    def on_object(self, *, obj: griffe.Object, **context: Any) -> None:
        """Changes the docstring of each object that is read."""
        if obj.docstring is not None:
            obj.docstring.value = readable(obj.docstring.value)


def readable(text: str) -> str:
    """The docstring with its sections set apart and its equations as code."""
    paragraphs = SECTION.sub(r"\n\n\1:\n", text).split("\n\n")
    return "\n\n".join(
        textwrap.indent(one, "    ") if EQUATION.match(one) else one for one in paragraphs
    )
