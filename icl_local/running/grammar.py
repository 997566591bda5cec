"""Turn a JSON schema into a GBNF grammar, so that every reply of a local model ends and parses.

Free strings have a limit in characters (maxLength) and hold only Latin letters, digits and punctuation without quote,
backslash and line break: at most two bytes a character, so the longest reply has a known number of tokens.
"""

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


def grammar_of(schema: Mapping[str, Any]) -> Grammar:
    """Return the grammar of a schema of objects with required properties, enums, anyOf and strings with maxLength.

    The layout is fixed (one space after a colon and a comma).
    """
    root, longest = _rule(schema)
    return Grammar(f"root ::= {root}\ncharacter ::= {_CHARACTER}\n", longest + 1)


def _rule(schema: Mapping[str, Any]) -> tuple[str, int]:
    """Return the GBNF expression of a schema, and the bytes of its longest text."""
    if "anyOf" in schema:
        options = [_rule(option) for option in schema["anyOf"]]
        return f"({' | '.join(text for text, _ in options)})", max(size for _, size in options)
    if "enum" in schema:
        texts = [json.dumps(value) for value in schema["enum"]]
        return f"({' | '.join(map(_literal, texts))})", max(len(text) for text in texts)
    if schema["type"] == "string":
        quote, most = _literal('"'), schema["maxLength"]
        return f"{quote} character{{1,{most}}} {quote}", 2 + _BYTES_OF_CHARACTER * most
    parts, size, lead = [], 1, "{"
    for name, value in schema["properties"].items():
        text, longest = _rule(value)
        opening = f"{lead}{json.dumps(name)}: "
        parts += [_literal(opening), text]
        size += len(opening) + longest
        lead = ", "
    return " ".join([*parts, _literal("}")]), size


def _literal(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
