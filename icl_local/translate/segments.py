"""Translate long texts with a model of single sentences: split them, translate, and join the parts in place.

Line breaks, list markers, code blocks and lines of code never reach the model. Code, URLs and placeholders inside a
sentence are masked. If the model does not return every mask exactly once, the text around them is translated piece by
piece, so that they always survive. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from icl_local.translate import spans

VERSION = 1  # increase it when a new split changes translations

_BLOCK = re.compile(r"```[^`\n]*\n.*?(?:```|\Z)|<br\s*/?>|\n", re.DOTALL)
_CODE_LINE = re.compile(
    r"""
    \s*(?:
        [{}()\[\]]+[;,]?                                                     # brackets alone
      | .*(?:[{}]|\);|\w;)                                                   # ends as a statement does
      | (?:def|class|for|while|if|elif|else|try|with)\b.*:
      | (?:import|from|return|print|raise|public|private|var|let|const|\#include)\b[ (].*[\w)"'>;]
      | (?:SELECT|INSERT|UPDATE|DELETE|CREATE)\b.*
      | \\(?:begin|end|documentclass|usepackage|item|section)\b.*
      | [A-Za-z_][\w.\[\]]*[ ]?(?:[+*/-]?=|<-)[ ]?\S.*                       # an assignment
    )\s*
    """,
    re.VERBOSE,
)
_PROSE_LINE = re.compile(r"(?:[^\W\d_]{2,}[,:]? +){3,}[^\W\d_]{2,}")  # four words in a row
_MARKER = re.compile(r"[ \t]*(?:(?:[-*•–]|\d{1,3}[.)]|\(?[A-Za-z][.)])[ \t]+|#{1,6}[ \t]+|>[ \t]*)?")
_SENTENCE_END = re.compile(r"""(?<![.!?…])([.!?…]+["'”’»)\]]*)(\s+)(?=["'“‘«(\[¿¡]*[\dA-ZÀ-ÖØ-Þ])""")
_ABBREVIATION = re.compile(
    r"(?:\W*)(?:[A-Za-z]|(?:[A-Za-z]\.)+[A-Za-z]?|Mr|Mrs|Ms|Dr|Prof|St|Sr|Jr|vs|etc|No|Fig|Inc|Ltd|Co|approx|cf|al)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Segment:
    """A part of a text; ``keep``: it stays unchanged."""

    text: str
    keep: bool


def split(text: str) -> list[Segment]:
    """Return sentences and the parts between them; joined, they are ``text`` again."""
    found: list[Segment] = []
    at = 0
    for block in _BLOCK.finditer(text):
        found += _line(text[at : block.start()])
        found.append(Segment(block[0], keep=True))
        at = block.end()
    found += _line(text[at:])
    return [segment for segment in found if segment.text]


def translate_texts(texts: Sequence[str], translate: Callable[[list[str]], list[str]]) -> list[str]:
    """Translate texts with ``translate``, which gets each sentence once and returns as many."""
    split_texts = [split(text) for text in texts]
    sentences = list(dict.fromkeys(s.text for segments in split_texts for s in segments if not s.keep))
    masked = [_mask(sentence) for sentence in sentences]
    replies = translate([text for text, _ in masked]) if masked else []
    done: dict[str, str] = {}
    broken: dict[str, list[Segment]] = {}
    for sentence, (_, kept), reply in zip(sentences, masked, replies, strict=True):
        unmasked = _unmask(reply, kept)
        if unmasked is None:
            broken[sentence] = _around(sentence)
        else:
            done[sentence] = unmasked
    pieces = list(dict.fromkeys(s.text.strip() for parts in broken.values() for s in parts if not s.keep))
    around = dict(zip(pieces, translate(pieces), strict=True)) if pieces else {}
    for sentence, parts in broken.items():
        done[sentence] = "".join(p.text if p.keep else _in_place_of(p.text, around[p.text.strip()]) for p in parts)
    return ["".join(s.text if s.keep else done[s.text] for s in segments) for segments in split_texts]


def _line(line: str) -> Iterable[Segment]:
    """Yield the segments of a text without line breaks."""
    marker = _MARKER.match(line)
    start = marker.end() if marker else 0
    body = line[start:]
    if not any(map(str.isalpha, body)) or (_CODE_LINE.fullmatch(line) and not _PROSE_LINE.search(line)):
        yield Segment(line, keep=True)
        return
    yield Segment(line[:start], keep=True)
    at = 0
    for end in _SENTENCE_END.finditer(body):
        last_word = body[at : end.start()].rpartition(" ")[2]
        if end[1] == "." and _ABBREVIATION.fullmatch(last_word):
            continue
        yield Segment(body[at : end.end(1)], keep=False)
        yield Segment(end[2], keep=True)
        at = end.end()
    rest = body[at:]
    yield Segment(rest.rstrip(), keep=False)
    yield Segment(rest[len(rest.rstrip()) :], keep=True)


def _mask(sentence: str) -> tuple[str, list[str]]:
    """Return the sentence with a mask for every span, and the spans."""
    kept = [sentence[span.start : span.end] for span in spans.find(sentence)]
    between = spans.between(sentence)
    masked = (f"{_mask_name(i)}{part}" for i, part in enumerate(between[1:]))
    return between[0] + "".join(masked), kept


def _unmask(reply: str, kept: Sequence[str]) -> str | None:
    """Return the reply with the spans restored; None if a mask is missing or repeated."""
    if any(len(re.findall(rf"{_mask_name(i)}(?!\d)", reply)) != 1 for i in range(len(kept))):
        return None
    return re.sub(r"QZ(\d+)(?!\d)", lambda m: kept[int(m[1])] if int(m[1]) < len(kept) else m[0], reply)


def _mask_name(index: int) -> str:
    return f"QZ{index}"


def _around(sentence: str) -> list[Segment]:
    """Return the sentence, cut at its spans."""
    first, *rest = spans.between(sentence)
    found = [Segment(first, keep=not any(map(str.isalpha, first)))]
    for span, text in zip(spans.find(sentence), rest, strict=True):
        found.append(Segment(sentence[span.start : span.end], keep=True))
        found.append(Segment(text, keep=not any(map(str.isalpha, text))))
    return found


def _in_place_of(piece: str, translated: str) -> str:
    """Return ``translated`` with the white space around ``piece``."""
    begin = piece[: len(piece) - len(piece.lstrip())]
    return begin + translated + piece[len(piece.rstrip()) :]
