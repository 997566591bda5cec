"""Translate long texts with a model of single sentences: split them, translate, and join the parts in place.

Line breaks, list markers, code blocks and lines of code never reach the model. Code, URLs and placeholders inside a
sentence are masked. If the model does not return every mask exactly once, the text around them is translated piece by
piece, so that they always survive. Pure.
"""

import re
from collections.abc import Callable, Iterable, Sequence

from icl_local.translate import spans
from icl_local.translate.spans import PROSE, Part

_KEPT = "kept"  # the kind of layout and lines of code
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


def split(text: str) -> list[Part]:
    """Return sentences (prose) and the layout and code between them; joined, they are ``text`` again."""
    found: list[Part] = []
    at = 0
    for block in _BLOCK.finditer(text):
        found += [*_line(text[at : block.start()]), Part(block[0], _KEPT)]
        at = block.end()
    found += _line(text[at:])
    return [part for part in found if part.text]


def translate_texts(texts: Sequence[str], translate: Callable[[list[str]], list[str]]) -> list[str]:
    """Translate texts with ``translate``, which gets each sentence once and returns as many."""
    split_texts = [split(text) for text in texts]
    sentences = _distinct(part.text for parts in split_texts for part in parts if part.kind == PROSE)
    replies = translate([_mask(sentence) for sentence in sentences]) if sentences else []
    done = {s: _unmask(reply, s) for s, reply in zip(sentences, replies, strict=True)}
    broken = [sentence for sentence, text in done.items() if text is None]
    pieces = _distinct(part.text.strip() for sentence in broken for part in _around(sentence) if part.kind == PROSE)
    around = dict(zip(pieces, translate(pieces), strict=True)) if pieces else {}
    for sentence in broken:
        done[sentence] = "".join(
            part.text.replace(part.text.strip(), around[part.text.strip()]) if part.kind == PROSE else part.text
            for part in _around(sentence)
        )
    return [
        "".join((done[part.text] or "") if part.kind == PROSE else part.text for part in parts) for parts in split_texts
    ]


def _line(line: str) -> Iterable[Part]:
    """Yield the segments of a text without line breaks."""
    marker = _MARKER.match(line)
    start = marker.end() if marker else 0
    body = line[start:]
    if not any(map(str.isalpha, body)) or (_CODE_LINE.fullmatch(line) and not _PROSE_LINE.search(line)):
        yield Part(line, _KEPT)
        return
    yield Part(line[:start], _KEPT)
    at = 0
    for end in _SENTENCE_END.finditer(body):
        last_word = body[at : end.start()].rpartition(" ")[2]
        if end[1] == "." and _ABBREVIATION.fullmatch(last_word):
            continue
        yield Part(body[at : end.end(1)])
        yield Part(end[2], _KEPT)
        at = end.end()
    rest = body[at:]
    yield Part(rest.rstrip())
    yield Part(rest[len(rest.rstrip()) :], _KEPT)


def _distinct(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))


def _mask(sentence: str) -> str:
    """Return the sentence with a mask for every span: QZ0, QZ1 and so on."""
    prose = [part.text for part in spans.parts(sentence) if part.kind == PROSE]
    return prose[0] + "".join(f"QZ{number}{text}" for number, text in enumerate(prose[1:]))


def _unmask(reply: str, sentence: str) -> str | None:
    """Return the reply with the spans of ``sentence`` restored; None if a mask is missing or repeated."""
    kept = [part.text for part in spans.parts(sentence) if part.kind != PROSE]
    if any(len(re.findall(rf"QZ{number}(?!\d)", reply)) != 1 for number in range(len(kept))):
        return None
    return re.sub(r"QZ(\d+)(?!\d)", lambda m: kept[int(m[1])] if int(m[1]) < len(kept) else m[0], reply)


def _around(sentence: str) -> list[Part]:
    """Return the sentence, cut at its spans; only what has letters is prose."""
    return [part if any(map(str.isalpha, part.text)) else Part(part.text, _KEPT) for part in spans.parts(sentence)]
