"""What a docstring tells of each parameter.

Two ways of writing are read, Google's and Sphinx's::

    Args:
        city: Where to look.

    :param city: Where to look.
"""

from __future__ import annotations

import inspect
import re

_SECTION = re.compile(r"(?:Args|Arguments|Parameters|Attributes):\s*")
_ITEM = re.compile(r"(\s+)\*{0,2}(\w+)\s*(?:\([^()]*\))?:\s*(.*)")
_FIELD = re.compile(r":param\s+(?:[^:]*\s)?(\w+):\s*(.*)")


def split_docstring(docstring: str | None) -> tuple[str, dict[str, str]]:
    """Return the text, and the descriptions by the names of parameters, which are no part of it."""
    text: list[str] = []
    found: dict[str, list[str]] = {}
    item: list[str] | None = None
    indent = ""
    inside = False
    for line in inspect.cleandoc(docstring or "").splitlines():
        indented = line[:1].isspace()
        if line and not indented:
            inside = _SECTION.fullmatch(line) is not None
            item = None
            if inside:
                indent = ""
                continue
            if field := _FIELD.match(line):
                item = found[field[1]] = [field[2]]
                continue
        elif inside and (entry := _ITEM.match(line)) and entry[1] == (indent or entry[1]):
            indent = entry[1]
            item = found[entry[2]] = [entry[3]]
            continue
        if item is not None and indented:
            item.append(line.strip())
        elif not inside:
            text.append(line)
    described = {name: " ".join(filter(None, lines)) for name, lines in found.items()}
    return "\n".join(text).strip(), {name: text for name, text in described.items() if text}
