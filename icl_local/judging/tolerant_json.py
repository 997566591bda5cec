"""Read JSON as judges write it, and name every departure from the standard. Nothing that is missing is completed.

A library that repairs JSON closes torn objects and drops what it cannot read, so that half a number becomes a score.
Here a torn object stays torn, and a key given twice with different values is an error.
"""

import json
import re
from dataclasses import dataclass, field
from typing import Any

_DEEPEST = 8
_SPACE = re.compile(r"\s*")
_END = re.compile(r"\s*\Z")
_NUMBER = re.compile(r"-?\d{1,20}(?:\.\d{1,20})?(?=\s*[,}\]]|\s+[\"'])", re.ASCII)
_BARE_KEY = re.compile(r"[A-Za-z_][\w \-]{0,40}(?=\s*:)")
_BARE_WORD = re.compile(r"[^\s,}\]\"'{\[][^,}\]\n\"'{\[]{0,40}(?=\s*[,}\]\n])")
# after a value's closing quote: the end of the object, or the next key, its comma perhaps forgotten
_QUOTED_KEY = r"([\"'])[A-Za-z_][\w \-]{0,40}\1\s*:"
_AFTER_VALUE = re.compile(rf"\s*(?:,?\s*[}}\]]|,?\s*{_QUOTED_KEY}|,\s*[A-Za-z_]\w{{0,40}}\s*:)")
_KEY_INSIDE = re.compile(rf"{_QUOTED_KEY}|\b(?:score|reason)\W{{0,2}}:|}}\s*,\s*[\"']", re.IGNORECASE)
_CONSTANTS = {"null": None, "true": True, "false": False, "none": None}


class Malformed(ValueError):
    """Text that cannot be read as JSON, not even with tolerance."""


class Torn(Malformed):
    """The text ends inside the value; ``members`` are the complete ones of the outermost object."""

    def __init__(self, members: dict[str, Any] | None = None) -> None:
        super().__init__("ends before it is complete")
        self.members = members or {}


class Doubled(Malformed):
    """A key is given twice with different values, so it is unknown which one was meant."""


def read_strict(text: str) -> Any:
    """Return the value of standard JSON text. Raises Malformed, Doubled."""
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse)
    except Malformed:
        raise
    except (ValueError, RecursionError) as error:
        raise Malformed(str(error)) from error


@dataclass
class TolerantReader:
    """A reader over ``text`` at offset ``at``; ``repairs`` collects the names of what it tolerated."""

    text: str
    at: int = 0
    repairs: set[str] = field(default_factory=set)

    def object(self, depth: int = 0) -> dict[str, Any]:
        """Read the object that begins at ``at``. Raises Torn, Doubled, Malformed."""
        members: list[tuple[str, Any]] = []
        self.at += 1
        comma = False
        try:
            while True:
                if self._next() == "}":
                    self.at += 1
                    if comma:
                        self.repairs.add("trailing_comma")
                    return _unique(members)
                key = self._key()
                if self._next() != ":":
                    raise Malformed("no colon after a key")
                self.at += 1
                members.append((key, self._value(depth)))
                comma = self._next() == ","
                if comma:
                    self.at += 1
                elif self._next() != "}":
                    self.repairs.add("missing_comma")
        except Torn:
            raise Torn(_unique(members)) from None

    def _value(self, depth: int) -> Any:
        first = self._next()
        if first in "{[":
            if depth == _DEEPEST:
                raise Malformed("nested too deeply")
            return self.object(depth + 1) if first == "{" else self._array(depth + 1)
        if first in "\"'":
            return self._string(is_key=False)
        if found := _NUMBER.match(self.text, self.at):
            self.at = found.end()
            return float(found[0]) if "." in found[0] else int(found[0])
        if found := _BARE_WORD.match(self.text, self.at):
            self.at = found.end()
            word = found[0].strip()
            if word.lower() in _CONSTANTS:
                return _CONSTANTS[word.lower()]
            self.repairs.add("bare_word")
            return word
        if re.fullmatch(r"[^\s,}\]]*\s*", self.text[self.at : self.at + 64]) and len(self.text) - self.at <= 64:
            raise Torn
        raise Malformed("a value is missing")

    def _array(self, depth: int) -> list[Any]:
        self.at += 1
        values = []
        while self._next() != "]":
            values.append(self._value(depth))
            if self._next() == ",":
                self.at += 1
            elif self._next() != "]":
                raise Malformed("no comma in a list")
        self.at += 1
        return values

    def _key(self) -> str:
        if self._next() in "\"'":
            return self._string(is_key=True)
        if found := _BARE_KEY.match(self.text, self.at):
            self.at = found.end()
            self.repairs.add("bare_key")
            return found[0].strip()
        raise Malformed("a key is missing")

    def _string(self, *, is_key: bool) -> str:
        """Read a string; what follows a quote decides whether it closes the string.

        Raises Malformed for a string that would contain a key and its quotes: the score after it may belong to
        another aspect.
        """
        quote, self.at = self.text[self.at], self.at + 1
        has_inner_quote = False
        if quote == "'":
            self.repairs.add("single_quotes")
        parts: list[str] = []
        while self.at < len(self.text):
            character = self.text[self.at]
            if character == "\\":
                parts.append(self._escape())
                continue
            self.at += 1
            if character == quote:
                if is_key or _AFTER_VALUE.match(self.text, self.at):
                    value = "".join(parts)
                    if has_inner_quote and _KEY_INSIDE.search(value):
                        raise Malformed("a quote is missing, so keys and text cannot be separated")
                    return value
                if _END.match(self.text, self.at):
                    raise Torn
                has_inner_quote = True
                self.repairs.add("inner_quote")
            elif character < " ":
                self.repairs.add("line_break")
            parts.append(character)
        raise Torn

    def _escape(self) -> str:
        """Read one escape sequence; keep the characters of one that JSON does not know."""
        sequence = self.text[self.at : self.at + 2]
        length = 6 if sequence == "\\u" else 2
        try:
            value: str = json.loads(f'"{self.text[self.at : self.at + length]}"')
        except ValueError:
            if self.at + length > len(self.text):
                raise Torn from None
            self.repairs.add("escape")
            value, length = sequence[1:], 2
        self.at += length
        return value

    def _next(self) -> str:
        """Return the next character that is not a space, without consuming it. Raises Torn at the end of the text."""
        found = _SPACE.match(self.text, self.at)
        self.at = found.end() if found else self.at
        if self.at >= len(self.text):
            raise Torn
        return self.text[self.at]


def _unique(members: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in members:
        if key in result and result[key] != value:
            raise Doubled(f"{key[:40]!r} is given twice")
        result[key] = value
    return result


def _refuse(name: str) -> Any:
    raise Malformed(f"{name} is not a JSON number")
