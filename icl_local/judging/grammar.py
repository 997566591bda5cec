"""Turn a verdict's JSON schema into a GBNF grammar, so that every reply of a local judge ends and parses.

Free strings have a limit in characters and hold only Latin letters, digits and punctuation without quote, backslash
and line break: at most two bytes a character, so the longest verdict has a known number of tokens.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_CHARACTER = r"[ !#-\[\]-~\u00A1-\u024F]"
_BYTES_OF_CHARACTER = 2


@dataclass(frozen=True)
class Grammar:
    """GBNF with the rule ``root``, and the largest number of tokens of its sentences (a token is a byte or more)."""

    text: str
    max_tokens: int


def grammar_of(schema: Mapping[str, Any], *, max_string_chars: int) -> Grammar:
    """Return the grammar of a schema of objects with required properties, enums, anyOf and strings.

    The layout is fixed (one space after a colon and a comma). ``max_string_chars`` bounds every free string.
    """
    root, longest = _rule(schema, max_string_chars)
    quote = _literal('"')
    string = f"{quote} character{{1,{max_string_chars}}} {quote}"
    return Grammar(f"root ::= {root}\nstring ::= {string}\ncharacter ::= {_CHARACTER}\n", longest + 1)


def _rule(schema: Mapping[str, Any], max_chars: int) -> tuple[str, int]:
    """Return the GBNF expression of a schema, and the bytes of its longest text."""
    if "anyOf" in schema:
        options = [_rule(option, max_chars) for option in schema["anyOf"]]
        return f"({' | '.join(text for text, _ in options)})", max(size for _, size in options)
    if "enum" in schema:
        texts = [json.dumps(value) for value in schema["enum"]]
        return f"({' | '.join(map(_literal, texts))})", max(len(text) for text in texts)
    if schema["type"] == "string":
        return "string", 2 + _BYTES_OF_CHARACTER * max_chars
    parts, size, lead = [], 1, "{"
    for name, value in schema["properties"].items():
        text, longest = _rule(value, max_chars)
        opening = f"{lead}{json.dumps(name)}: "
        parts += [_literal(opening), text]
        size += len(opening) + longest
        lead = ", "
    return " ".join([*parts, _literal("}")]), size


def _literal(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
