"""Find the parts that a translation must not change: code, URLs and placeholders. Pure."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

CODE, URL, PLACEHOLDER = "code", "url", "placeholder"

# The order matters: an earlier alternative wins.
_SPAN = re.compile(
    r"""
    (?P<code>
        ```.*?```                                       # fenced, one line or many
      | `[^`\n]+`
      | \\[A-Za-z]+(?:\{[^{}\n]*\}|\[[^\]\n]*\])*       # LaTeX
    )
  | (?P<url>
        (?:https?://|www\.)[^\s<>"'`)\]}»”]+
      | (?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+
    )
  | (?P<placeholder>
        \$?\{\{?[^{}\n]{1,80}\}?\}                      # {name}, {{name}}, ${name}
      | %(?:\(\w+\))?[sdfr]\b
      | </?[A-Za-z][\w-]*(?:\s[^<>\n]*=[^<>\n]*|\s*/?)> # tags
      | \[[A-Z][A-Z0-9_ ]+\]                            # [NAME]
    )
  | (?P<name>
        \b[A-Za-z]\w*\(\)                               # calls and identifiers in running text
      | (?<![\w.])[a-z_]\w*(?:\.\w+){1,6}\([^()\n]{0,200}\)
      | \b\w+_\w+\b
      | \b[a-z]+[A-Z]\w*\b
    )
    """,
    re.VERBOSE | re.DOTALL,
)
_AFTER_URL = ".,;:!?…"


@dataclass(frozen=True)
class Span:
    """``text[start:end]`` of one kind: code, url or placeholder."""

    kind: str
    start: int
    end: int


def find(text: str) -> list[Span]:
    """Return the spans of ``text``, in order and without overlap."""
    found = []
    for match in _SPAN.finditer(text):
        end = match.end()
        if match["url"]:
            end -= len(match[0]) - len(match[0].rstrip(_AFTER_URL))
        kind = CODE if match["name"] else str(match.lastgroup)
        found.append(Span(kind, match.start(), end))
    return found


def texts(text: str, kind: str) -> Counter[str]:
    """Count the spans of ``kind`` in ``text``; white space inside counts as one space."""
    return Counter(" ".join(text[s.start : s.end].split()) for s in find(text) if s.kind == kind)


def between(text: str) -> list[str]:
    """Return the texts before, between and after the spans."""
    found = find(text)
    starts, ends = [0, *(span.end for span in found)], [*(span.start for span in found), len(text)]
    return [text[start:end] for start, end in zip(starts, ends, strict=True)]


def without(text: str) -> str:
    """Return the prose of ``text``: every span is replaced by a space."""
    return " ".join(between(text))
