"""Find the parts that a translation must not change: code, URLs and placeholders. Pure."""

import re
from collections import Counter
from dataclasses import dataclass

PROSE, CODE, URL, PLACEHOLDER = "prose", "code", "url", "placeholder"

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
class Part:
    """A part of a text; everything but prose stays unchanged."""

    text: str
    kind: str = PROSE


def parts(text: str) -> list[Part]:
    """Return prose, span, prose, span and so on to a last prose; joined, they are ``text`` again."""
    found: list[Part] = []
    at = 0
    for match in _SPAN.finditer(text):
        span = match[0].rstrip(_AFTER_URL) if match["url"] else match[0]
        kind = CODE if match["name"] else str(match.lastgroup)
        found += [Part(text[at : match.start()]), Part(span, kind)]
        at = match.start() + len(span)
    return [*found, Part(text[at:])]


def texts(text: str, kind: str) -> Counter[str]:
    """Count the parts of ``kind`` in ``text``; white space inside counts as one space."""
    return Counter(" ".join(part.text.split()) for part in parts(text) if part.kind == kind)


def without(text: str) -> str:
    """Return the prose of ``text``: every span is replaced by a space."""
    return " ".join(part.text for part in parts(text) if part.kind == PROSE)
