"""Find the answer in a generated text: where a stop ends it, and where the fence that the prompt opened closes. Pure.

The stored text, the detection of code and the judge all read this answer. The engine ends a generation by the same
stops. docs/prompts.md states the rule, docs/detection.md how well it does on labelled outputs.
"""

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass

# Stored with every response. 1: a stop anywhere in a line, and one fence removed where their number is odd.
ANSWER_RULE = 2

_COLONS = ":\uff1a"
_BLANK = "(?: |\t|\u00a0|\u202f)*"  # alternatives, not a class: the pattern is used on UTF-8 bytes too
_COLON = "(?::|\uff1a)"
_FENCE = re.compile(r"`{3,}([^\n`]*)")
_TAG = re.compile(r"\{?\.?[\w+#.-]+\}?")
_LINE_BELOW = re.compile(r"[ \t\r]*\n[ \t]*\S")


@dataclass(frozen=True)
class Answer:
    """The answer in ``raw_text``: from ``start`` to ``end``, in characters.

    ``first`` to ``last`` is all that was generated before the stop: the answer and what the model wrote after it.
    """

    raw_text: str
    start: int
    end: int
    first: int
    last: int

    @property
    def text(self) -> str:
        """Return the answer itself."""
        return self.raw_text[self.start : self.end]

    @property
    def generated(self) -> str:
        """Return all that was generated before the stop."""
        return self.raw_text[self.first : self.last]


def find_answer(raw_text: str, *, stops: Sequence[str] = (), prompt_tail: str | None = None) -> Answer:
    """Return the answer in ``raw_text``. ``prompt_tail``: the prompt's text after the query.

    Without stops it is a chat reply or an imported text, which is the answer as it stands. Else the answer ends
    before the first stop. Where the prompt left a fence open, it also ends before the fence that closes it. Outer
    white space is removed.
    """
    if not stops:
        return Answer(raw_text, 0, len(raw_text), 0, len(raw_text))
    before = raw_text[: find_stop(raw_text, stops)]
    inside = _inside_fence(before) if opens_fence(prompt_tail) else (0, len(before))
    return Answer(raw_text, *_strip(before, *inside, stops), *_strip(before, 0, len(before), stops))


def opens_fence(prompt_tail: str | None) -> bool:
    """Return whether a prompt ends inside a fence: its last line that is not blank is a fence."""
    return bool(prompt_tail) and (prompt_tail or "").rstrip().rpartition("\n")[2].strip() == "```"


def find_stop(text: str, stops: Sequence[str]) -> int | None:
    """Return where the first stop in ``text`` begins.

    A stop that begins with # is a heading: it counts at the start of a line and with its colon ("# Query" stops at
    "# Query:", not at "# Queries"), or where the text ends with it. Any other stop counts wherever it stands.
    """
    match = re.search(_source(stops, at_end=True), text, re.MULTILINE)
    return match.start() if match else None


@functools.cache
def stop_pattern(stops: tuple[str, ...]) -> re.Pattern[bytes]:
    """Return a pattern of UTF-8 bytes that matches as soon as a growing text holds a stop."""
    return re.compile(_source(stops, at_end=False).encode(), re.MULTILINE)


def server_stops(stops: Sequence[str], *, at_most: int = 4) -> list[str]:
    """Return stop strings for a server, which compares plain text: none of them matches where ours does not.

    A server may therefore end later than the engine; ``find_answer`` removes the rest. OpenAI takes four strings.
    """
    headings = [stop for stop in stops if stop.startswith("#")]
    found = [stop for stop in stops if not stop.startswith("#")]
    for blank in ("", " "):
        found += [f"\n{stop}" if stop[-1] in _COLONS else f"\n{stop}{blank}:" for stop in headings]
    return list(dict.fromkeys(found))[:at_most]


def _strip(text: str, start: int, end: int, stops: Sequence[str]) -> tuple[int, int]:
    """Return the part without outer white space; empty if that, or a fence before it, has hidden a stop."""
    part = text[start:end]
    start += len(part) - len(part.lstrip())
    part = part.strip()
    return start, start + (len(part) if find_stop(part, stops) is None else 0)


def _source(stops: Sequence[str], *, at_end: bool) -> str:
    ends = rf"(?:{_COLON}|\Z)" if at_end else _COLON

    def one(stop: str) -> str:
        if not stop.startswith("#"):
            return re.escape(stop)
        return "^" + re.escape(stop) + ("" if stop[-1] in _COLONS else _BLANK + ends)

    return "|".join(map(one, stops))


def _inside_fence(text: str) -> tuple[int, int]:
    """Return the part of ``text`` that is inside the fence which the prompt left open, by rule 2 of docs/prompts.md."""
    opened: list[re.Match[str]] = []
    for fence in _FENCE.finditer(text):
        if not opened:
            if not _opens(text, fence):
                return 0, fence.start()
            opened.append(fence)
        elif _names_language(text, fence) and "\n" in text[opened[-1].end() : fence.start()]:
            if not _repeats_prompts(text, opened[-1]):
                opened.pop()  # nothing closed it
            opened.append(fence)
        else:
            opened.pop()
    if opened and _repeats_prompts(text, opened[0]):
        return opened[0].start(1), len(text)
    return 0, len(text)


def _opens(text: str, fence: re.Match[str]) -> bool:
    """Return whether a fence opens a block where none of the answer's own is open."""
    before, words = text[: fence.start()], fence[1].strip()
    if not before.strip():
        return bool(words) or _LINE_BELOW.match(text, fence.end()) is not None
    if not words:  # "The code is:", a fence, and code at once
        return before.rstrip()[-1] in _COLONS and before[-1] == "\n" and bool(_LINE_BELOW.match(text, fence.end()))
    if _names_language(text, fence):
        return True
    return before[-1].isspace() or "```" in text[fence.end() :].partition("\n")[0]


def _names_language(text: str, fence: re.Match[str]) -> bool:
    """Return whether one word follows on the fence's line, and something below it."""
    return bool(_TAG.fullmatch(fence[1].strip()) and text[fence.end() :].strip())


def _repeats_prompts(text: str, fence: re.Match[str]) -> bool:
    return not text[: fence.start()].strip() and not _names_language(text, fence)
