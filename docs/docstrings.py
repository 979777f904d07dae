"""Docstrings of the house as Markdown: arguments become a list, examples become code."""

import re
from typing import Any

from griffe import Extension, Object

_ARGUMENT = re.compile(r"^(\w+(?:, \w+)*): (?=\S)", re.M)
_EXAMPLE = re.compile(r"(?:^>>> .*\n?(?:^(?!$|>>> ).+\n?|^>>> .*\n?)*)", re.M)


class HouseStyle(Extension):
    """Rewrites every docstring as it is read."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Called once for everything that has been read."""
        if obj.docstring:
            obj.docstring.value = markdown(obj.docstring.value)


def markdown(text: str) -> str:
    """The docstring with arguments as a list and examples in fences."""
    fenced = _EXAMPLE.sub(lambda found: f"\n```pycon\n{found[0].rstrip()}\n```\n", text)
    parts = re.split(r"(```pycon.*?```)", fenced, flags=re.S)
    return "".join(part if part.startswith("```") else _listed(part) for part in parts)


def _listed(text: str) -> str:
    return _ARGUMENT.sub(lambda found: f"- **{found[1]}**: ", text)
