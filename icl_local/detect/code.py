"""Code in a text: fenced blocks and bare lines, by the patterns of prompts/detection/code.toml. Pure.

A text is read line by line. The data file, with its own version, defines code; this module only applies its rules and
reads fences.
"""

import functools
import re
import tomllib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter

from icl_local.resources import read_text

_TOKEN = re.compile(r"\w+|\W")
# A tag stands alone on the line of its fence; ~~~ is a fence only at the start of a line.
_FENCE = re.compile(r"(?:`{3,}|^[ \t]*~{3,})(?:[ \t]*\{?\.?([\w+#-]+)\}?[ \t\r]*$)?", re.MULTILINE)
_FENCED = "fenced"
_MENTION = re.compile(r"`[^`]+`")


@dataclass(frozen=True)
class Code:
    """The first code in a text. ``kind``: fenced, python, sql ...; ``start`` in characters; ``evidence``: its line."""

    kind: str
    start: int
    evidence: str


def find_code(text: str, *, include: Collection[str] = ()) -> Code | None:
    """Return the first fenced block or line of code in ``text``; ``include`` adds kinds that are off by default: latex.

    Code in single backquotes within a sentence is a mention, not code; a fence around prose is not code either.
    """
    kinds = frozenset(include)
    bare = _line_scan(kinds).first(text)
    fence = _first_fence(text, _line_scan(kinds | {_FENCED}))
    found = [hit for hit in (fence, bare) if hit is not None]
    if not found:
        return None
    start, kind = min(found, key=itemgetter(0))
    line = text[start : start + _patterns().line_chars].partition("\n")[0]
    return Code(kind, start, line.rstrip())


def patterns_version() -> str:
    """Return the version of the data file."""
    return _patterns().version


@dataclass(frozen=True)
class _Rule:
    """A pattern for lines of one kind, tried on lines with a given first token or a given string."""

    kind: str
    strong: bool
    first: Sequence[str]
    has: Sequence[str]
    line: re.Pattern[str]


class _Patterns:
    """The data file; ``enough`` by kind, ``optional`` the kinds that are off by default."""

    def __init__(self) -> None:
        data = tomllib.loads(read_text("prompts", "detection/code.toml"))
        inside_fences = {"name": _FENCED, "default": False, "enough": 1, "strong": data["fence"]["lines"], "weak": []}
        kinds = [inside_fences, *data["kind"]]
        self.version: str = data["version"]
        self.window_chars: int = data["window_chars"]
        self.line_chars: int = data["line_chars"]
        self.code_tags = frozenset(data["fence"]["code_tags"])
        self.prose_tags = frozenset(data["fence"]["prose_tags"])
        self.enough: dict[str, int] = {kind["name"]: kind["enough"] for kind in kinds}
        self.optional = frozenset(kind["name"] for kind in kinds if not kind.get("default", True))
        self.rules = [
            _Rule(
                kind["name"], strength == "strong", rule.get("first", ()), rule.get("has", ()), re.compile(rule["line"])
            )
            for kind in kinds
            for strength in ("strong", "weak")
            for rule in kind[strength]
        ]


_patterns = functools.cache(_Patterns)


class _LineScan:
    """Finds lines of the default kinds and of the included optional kinds."""

    def __init__(self, include: frozenset[str]) -> None:
        self._patterns = _patterns()
        self._by_first: dict[str, list[_Rule]] = {}
        self._by_string: dict[str, list[_Rule]] = {}
        for rule in self._patterns.rules:
            if rule.kind in include or rule.kind not in self._patterns.optional:
                for token in rule.first:
                    self._by_first.setdefault(token, []).append(rule)
                for string in rule.has:
                    self._by_string.setdefault(string, []).append(rule)

    def first(self, text: str) -> tuple[int, str] | None:
        """Return the start of the first code, and its kind: a strong line, or the first of enough weak ones.

        Of two kinds that begin on one line, the one that comes first in the data file.
        """
        found: list[tuple[int, str]] = []
        weak: dict[str, dict[int, set[str]]] = {}  # by kind and start: the patterns that the line fits
        for start, line, rules in self._lines_to_try(text):
            for rule in rules:
                if rule.line.match(line):
                    if rule.strong:
                        found.append((start, rule.kind))
                    else:
                        weak.setdefault(rule.kind, {}).setdefault(start, set()).add(rule.line.pattern)
        found += [(start, kind) for kind, lines in weak.items() for start in self._groups(kind, lines)]
        order = list(self._patterns.enough)
        return min(found, key=lambda hit: (hit[0], order.index(hit[1])), default=None)

    def _groups(self, kind: str, lines: dict[int, set[str]]) -> Iterator[int]:
        """Yield the starts of enough weak lines close together that fit two patterns or more: one may be a refrain."""
        enough = self._patterns.enough[kind]
        starts = sorted(lines)
        for i in range(len(starts) - enough + 1):
            group = starts[i : i + enough]
            patterns = set[str]().union(*(lines[start] for start in group))
            if group[-1] - group[0] <= self._patterns.window_chars and len(patterns) > 1:
                yield starts[i]

    def _lines_to_try(self, text: str) -> Iterator[tuple[int, str, list[_Rule]]]:
        """Yield (start in the text, line without outer blanks, rules that may fit)."""
        strings = {string: rules for string, rules in self._by_string.items() if string in text}
        start = 0
        for whole in text.split("\n"):
            line = _MENTION.sub("``", whole[: self._patterns.line_chars].strip())
            token = _TOKEN.match(line)
            rules = list(self._by_first.get(token[0], ())) if token else []
            for string, more in strings.items():
                if string in whole:
                    rules += more
            yield start + len(whole) - len(whole.lstrip()), line, rules
            start += len(whole) + 1


_line_scan = functools.cache(_LineScan)


def _first_fence(text: str, scan: _LineScan) -> tuple[int, str] | None:
    """Return start and kind of the first fence with a language tag or with lines of code; the last one may be open."""
    patterns = _patterns()
    opening: re.Match[str] | None = None
    if "```" not in text and "~~~" not in text:
        return None
    for fence in (*_FENCE.finditer(text), None):  # None: the end of the text
        if fence is not None and (fence[1] or "").lower() in patterns.code_tags:
            return fence.start(), _FENCED
        if opening is None:
            opening = fence
            continue
        inside = text[opening.end() : len(text) if fence is None else fence.start()]
        if (opening[1] or "").lower() not in patterns.prose_tags and scan.first(inside) is not None:
            return opening.start(), _FENCED
        opening = None
    return None
