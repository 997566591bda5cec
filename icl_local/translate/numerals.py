"""Check that all numbers of a text are in its translation, in the notation of another language. Pure.

Numbers in words are ignored, so a candidate may have small numbers that its source spells out.
"""

import re
from collections import Counter

from icl_local.translate import spans

_SPELLED_UP_TO = 100
_NUMBER = re.compile(r"(?<![\w.,])\d+(?:[.,’'\u00a0\u202f ]\d{3}(?!\d))*(?:[.,]\d+)?|(?<=[^\w\s])\d+|(?<![^\W\d_])\d+")
_ROMAN = re.compile(r"\b[IVXL]+(?=\b|er?\b|ème\b)")
_DECADE = re.compile(r"\b\d\d(\d0)['’]?s\b")
_PM = re.compile(r"\b(\d{1,2})(?::\d\d)?\s*p\.?\s?m\b", re.IGNORECASE)
_SEPARATORS = re.compile(r"[.,’'\u00a0\u202f ]")
_ROMAN_DIGITS = {"I": 1, "V": 5, "X": 10, "L": 50}


def missing_numbers(source: str, candidate: str) -> bool:
    """Return whether ``candidate`` lacks a number of ``source``, or has one that the source cannot have spelled out."""
    expected, found = numbers(source), numbers(candidate)
    missing, extra = expected - found, found - expected
    for match in _ROMAN.finditer(spans.without(candidate)):
        _settle(missing, str(_roman(match[0])))
    for match in _DECADE.finditer(source):
        if extra[match[1]]:
            _settle(missing, match[0].rstrip("s'’"))
            _settle(extra, match[1])
    for match in _PM.finditer(source):
        later = str(int(match[1]) + 12)
        if extra[later]:
            _settle(missing, str(int(match[1])))
            _settle(extra, later)
    return bool(+missing) or any(not number.isdecimal() or int(number) > _SPELLED_UP_TO for number in +extra)


def numbers(text: str) -> Counter[str]:
    """Return the numbers in the prose of ``text`` without separators of thousands, with a decimal point."""
    return Counter(_plain(match[0]) for match in _NUMBER.finditer(spans.without(text)))


def _plain(number: str) -> str:
    parts = _SEPARATORS.split(number)
    if len(parts) > 1 and len(parts[-1]) != 3:  # three digits after one separator count as thousands in both texts
        return "".join(parts[:-1]).lstrip("0") + "." + parts[-1].rstrip("0")
    return "".join(parts).lstrip("0") or "0"


def _settle(counts: Counter[str], number: str) -> None:
    if counts[number] > 0:
        counts[number] -= 1


def _roman(letters: str) -> int:
    values = [_ROMAN_DIGITS[letter] for letter in letters]
    return sum(v if v >= max(values[i:], default=0) else -v for i, v in enumerate(values))
