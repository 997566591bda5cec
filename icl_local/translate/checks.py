"""Automatic checks of one candidate translation. Pure.

A check that fires means that a person should look first, not that the candidate is bad; docs/measurements.md has each
one's precision and recall on planted faults.
"""

import difflib
import functools
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from icl_local import resources, toml_file
from icl_local.detect import find_loop, identify_language
from icl_local.exceptions import InputError
from icl_local.translate import segments, spans

VERSION = 1
REFUSALS = "translate.refusals.toml"

_HEAD = 250  # characters of a text in which a refusal is searched
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
_QUOTED = re.compile(r'"[^"\n]*"|“[^”]*”|«[^»]*»|‘[^’\n]*’')
_QUESTION = re.compile(r"[?？؟;;](?=[\s\"'”’»)\]]|$)")
_ASKS = re.compile(r"\?(?=[\s\"'”’)\]]|$)")
_LIST_ITEM = re.compile(r"^[ \t]*(?:[-*•–]|\d{1,3}[.)]|\*\*)[ \t]*\S", re.MULTILINE)
_PREAMBLE = re.compile(
    r"^\W*(?:(?:sure|of course|certainly|here(?: is|['’]s)|claro|por supuesto|aquí (?:está|tienes?)|bien sûr|voici|"
    r"aqui está|translation|traducción|traduction|tradução)\b)[^\n]{0,80}[:!]\s",
    re.IGNORECASE,
)
_STUTTER = re.compile(r"\b(\w+(?: \w+){0,7})(?: \1){3}\b")  # up to 8 words, four times in a row
_LONG, _LONG_SLACK = 1.7, 30  # characters of prose: more than the source times _LONG plus the slack is an answer
_SHORT = 0.45
_VERBATIM_WORDS = 6  # in a row, outside quotations, in a candidate of another language
_SENTENCE_WORDS = 3
_OF_AN_ANSWER = ("length_odd", "question_lost", "list_appeared", "preamble")
_ALIKE = 0.75  # share of a candidate's words that the source has too

_SPELLED_UP_TO = 100
_NUMBER = re.compile(r"(?<![\w.,])\d+(?:[.,’'\u00a0\u202f ]\d{3}(?!\d))*(?:[.,]\d+)?|(?<=[^\w\s])\d+|(?<![^\W\d_])\d+")
_ROMAN = re.compile(r"\b[IVXL]+(?=\b|er?\b|ème\b)")
_DECADE = re.compile(r"\b\d\d(\d0)['’]?s\b")
_PM = re.compile(r"\b(\d{1,2})(?::\d\d)?\s*p\.?\s?m\b", re.IGNORECASE)
_SEPARATORS = re.compile(r"[.,’'\u00a0\u202f ]")
_ROMAN_DIGITS = {"I": 1, "V": 5, "X": 10, "L": 50}


def check(
    source: str,
    candidate: str,
    *,
    source_language: str,
    language: str,
    finish_reason: str | None = "stop",
    overlay: Path | None = None,
) -> dict[str, Any]:
    """Return the findings on a candidate in ``language``: column ``checks`` of raw.translations.

    ``text_language`` is the identified language, None if the text is too short or the extra ``langid`` is not
    installed. ``length_ratio``: characters of prose per character of the source's prose. All others are True for a
    fault; ``flags`` names these. ``answered``: the candidate looks like an answer to the source. ``finish_reason`` is
    as engines report it. Raises InputError if the file of refusals cannot be read.
    """
    empty = not any(map(str.isalnum, candidate)) and any(map(str.isalnum, source))
    source_prose, prose = spans.without(source), spans.without(candidate)
    ratio = _length(prose) / _length(source_prose) if _length(source_prose) else None
    identified = identify_language(prose)
    refused = finish_reason == "refused" or (
        _refuses(candidate, {"en", language}, overlay) and not _refuses(source, {"en", source_language}, overlay)
    )
    faults = {
        "empty": empty,
        "truncated": finish_reason == "length",
        "refused": refused,
        "untranslated": not empty
        and source_language != language
        and (_untranslated(source_prose, prose, identified, source_language) or _sentence_kept(source, candidate)),
        "looping": _loops(candidate) and not _loops(source),
        "length_odd": not empty and _length_odd(_length(source_prose), _length(prose)),
        "question_lost": not empty
        and bool(_ASKS.search(_QUOTED.sub(" ", source_prose)))
        and not _QUESTION.search(prose),
        "list_appeared": len(_LIST_ITEM.findall(candidate)) >= max(2, 2 * len(_LIST_ITEM.findall(source)) + 1),
        "preamble": bool(_PREAMBLE.match(candidate)) and not _PREAMBLE.match(source),
        "code_changed": _changed(source, candidate, spans.CODE),
        "numbers_changed": not empty and missing_numbers(source, candidate),
        "urls_changed": _changed(source, candidate, spans.URL),
        "placeholders_changed": _changed(source, candidate, spans.PLACEHOLDER),
    }
    return {
        "version": VERSION,
        "text_language": identified,
        "length_ratio": None if ratio is None else round(ratio, 3),
        **faults,
        "answered": any(faults[name] for name in _OF_AN_ANSWER),
        "flags": [name for name, fault in faults.items() if fault],
    }


def _length(prose: str) -> int:
    return len(" ".join(prose.split()))


def _length_odd(source: int, candidate: int) -> bool:
    return candidate > _LONG * source + _LONG_SLACK or (source >= 20 and candidate < _SHORT * source)


def _untranslated(source: str, candidate: str, identified: str | None, source_language: str) -> bool:
    """Return whether a large part of the prose is still in the source's language."""
    source_words, words = _words(_QUOTED.sub(" ", source)), _words(_QUOTED.sub(" ", candidate))
    if not source_words or not words:
        return False
    common = sum((Counter(words) & Counter(source_words)).values())
    alike = common / len(words)
    if len(source_words) > 1 and alike >= _ALIKE:
        return True
    if identified == source_language and alike >= 0.3:
        return True
    run = difflib.SequenceMatcher(None, source_words, words, autojunk=False).find_longest_match()
    return run.size >= _VERBATIM_WORDS


def _sentence_kept(source: str, candidate: str) -> bool:
    """Return whether the candidate contains a whole sentence of the source, of three words or more."""
    sentences = {part.text for part in segments.split(source) if part.kind == spans.PROSE}
    kept = sentences & {part.text for part in segments.split(candidate)}
    return any(len(_words(_QUOTED.sub(" ", spans.without(text)))) >= _SENTENCE_WORDS for text in kept)


def _words(text: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(text)]


def _loops(text: str) -> bool:
    """Return whether a text has a loop, or a few words four times in a row, which is too short for an infinite one."""
    return find_loop(text) is not None or bool(_STUTTER.search(" ".join(re.findall(r"\w+", text.lower()))))


def _changed(source: str, candidate: str, kind: str) -> bool:
    return spans.texts(source, kind) != spans.texts(candidate, kind)


def _refuses(text: str, languages: set[str], overlay: Path | None) -> bool:
    known = _refusals(overlay)
    return any(known[code].search(text[:_HEAD]) for code in languages if code in known)


@functools.lru_cache(maxsize=4)
def _refusals(overlay: Path | None) -> Mapping[str, re.Pattern[str]]:
    table = toml_file.parse(resources.read_text("prompts", REFUSALS, overlay=overlay), REFUSALS, error=InputError)
    patterns = toml_file.check(dict.fromkeys(table, tuple[str, ...]), table, REFUSALS, error=InputError)
    try:
        return {code: re.compile("|".join(listed), re.IGNORECASE) for code, listed in patterns.items()}
    except re.error as error:
        raise InputError(f"{REFUSALS}: {error.pattern!r} is not a regular expression ({error}); correct it") from error


def missing_numbers(source: str, candidate: str) -> bool:
    """Return whether ``candidate`` lacks a number of ``source``, or has one that the source cannot have spelled out.

    A number may be in the notation of another language: docs/translate.md has examples.
    """
    expected, found = _numbers(source), _numbers(candidate)
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


def _numbers(text: str) -> Counter[str]:
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
