"""Read a judge's reply as scores; nothing is added that the reply does not contain.

Well-formed JSON is read as it is, with numbers in quotes too: the published template shows them so. Fences, surrounding
words, inner quotes, line breaks, trailing commas and a score such as "4/5" are tolerated and named, and the verdict is
marked ``repaired``. An aspect that is missing, out of range or unreadable has no score. Two verdicts that differ, or a
truncated one, give no score at all.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from icl_local.judging.template import SCORES, metric_of
from icl_local.judging.tolerant_json import Doubled, Malformed, TolerantReader, Torn, read_strict

OK, REPAIRED, NOT_APPLICABLE = "ok", "repaired", "not_applicable"
INCOMPLETE, OUT_OF_RANGE = "incomplete", "out_of_range"
REFUSED, TRUNCATED, PARSE_ERROR = "refused", "truncated", "parse_error"

_OPENINGS_TRIED = 64
_THINKING = re.compile(r"\A\s*<think(?:ing)?>.*?</think(?:ing)?>", re.DOTALL)
_FENCES = re.compile(r"\s*(?:```\w*\s*)*")
_NUMBER = re.compile(r"(-?\d{1,6}(?:\.\d{1,6})?)(?:\s*(?:/|out of)\s*5(?:\.0)?)?", re.ASCII)
_PLAIN_NUMBER = re.compile(r"\s*[\d.]+\s*")
_NO_SCORE = {"n/a", "na", "n.a.", "not applicable"}
_REFUSAL = re.compile(
    r"\W*(?:(?:i['’]?m |i am )?(?:very |so )?sorry|i (?:can['’]?t|cannot|can not|won['’]?t|am unable|am not able)|"
    r"as an ai|lo siento|no puedo|(?:je suis )?désolée?|je ne peux)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class AspectScore:
    """One aspect of a verdict: ``score`` is None if the judge gave none, or if the aspect is not applicable."""

    metric: str
    score: float | None = None
    not_applicable: bool = False
    reason: str | None = None


@dataclass(frozen=True)
class Verdict:
    """A judge's scored reply: all requested aspects in order, the names of the ``repairs``, and the ``error``."""

    status: str
    aspects: tuple[AspectScore, ...]
    repairs: tuple[str, ...] = ()
    error: str | None = None

    @property
    def n_scores(self) -> int:
        """Return the number of aspects with a score."""
        return sum(aspect.score is not None for aspect in self.aspects)


def no_verdict(status: str, aspects: Sequence[str], error: str | None) -> Verdict:
    """Return a verdict without any score."""
    return Verdict(status, tuple(AspectScore(metric_of(aspect)) for aspect in aspects), error=error)


def parse_verdict(reply: str, aspects: Sequence[str], *, cut_off: bool = False) -> Verdict:
    """Return the verdict in ``reply`` on ``aspects`` (keys of the JSON form); ``cut_off``: the token limit ended it.

    status: ok | repaired | not_applicable (an aspect is "N/A") | incomplete (an aspect is missing or unreadable) |
    out_of_range; without any score: refused | truncated | parse_error. It never raises.
    """
    try:
        found, repairs = _find(reply, aspects)
    except Torn as torn:
        return no_verdict(TRUNCATED, aspects, f"the verdict {torn}")
    except Malformed as error:
        if cut_off:
            return no_verdict(TRUNCATED, aspects, "the token limit was reached before a verdict")
        if _REFUSAL.match(reply):
            return no_verdict(REFUSED, aspects, "the judge declined")
        return no_verdict(PARSE_ERROR, aspects, str(error))
    return _judged(found, aspects, repairs)


def _find(reply: str, aspects: Sequence[str]) -> tuple[Mapping[str, Any], set[str]]:
    """Return values by aspect, and the repairs. Raises Malformed (Torn) unless there is exactly one verdict."""
    try:
        whole = read_strict(reply)
    except Malformed:
        return _search(reply, aspects)
    repairs: set[str] = set()
    found = _aspects_in(whole, aspects, repairs)
    if found is None:
        raise Malformed("JSON without any of the requested aspects")
    return found, repairs


def _search(reply: str, aspects: Sequence[str]) -> tuple[Mapping[str, Any], set[str]]:
    """Return the only verdict among the objects in a text, each read with tolerance."""
    thinking = _THINKING.match(reply)
    text = reply[thinking.end() :] if thinking else reply
    verdicts: list[tuple[Mapping[str, Any], set[str]]] = []
    torn: Torn | None = None
    doubt: Malformed | None = None
    outside = ""
    at = end = 0
    for opening in range(_OPENINGS_TRIED):
        start = text.find("{", at)
        if start < 0:
            break
        reader = TolerantReader(text, start)
        try:
            value = reader.object()
            at = reader.at
        except Torn as error:
            if any(_entry(error.members, aspect) is None for aspect in aspects):
                torn, at = error, start + 1
                continue
            value, at = error.members, len(text)
            reader.repairs.add("unclosed")
        except Malformed as error:
            doubt, at = error, start + 1
            continue
        found = _aspects_in(value, aspects, reader.repairs, flat=opening == 0)
        if found is not None and any(_score_of(entry) != (None, False) for entry in found.values()):
            verdicts.append((found, reader.repairs))
            outside += text[end:start]
            end = at
    if torn or not verdicts:
        raise torn or doubt or Malformed("no JSON object in the reply")
    given = [[_score_of(found.get(aspect)) for aspect in aspects] for found, _ in verdicts]
    if any(scores != given[0] for scores in given):
        raise Malformed("more than one verdict in the reply, and they differ")
    verdict, repairs = verdicts[0]
    if len(verdicts) > 1:
        repairs.add("repeated")
    outside += text[end:]
    if _FENCES.fullmatch(outside) is None:
        repairs.add("words_around")
    elif outside.strip():
        repairs.add("fence")
    if thinking:
        repairs.add("thinking")
    return verdict, repairs


def _aspects_in(
    value: Any, aspects: Sequence[str], repairs: set[str], *, flat: bool = True, depth: int = 0
) -> Mapping[str, Any] | None:
    """Return the entries of ``value`` by aspect, also from one or two levels below; None if there are none.

    ``flat``: if only one aspect is requested, a score without a name belongs to it.
    """
    if isinstance(value, dict):
        entries = {aspect: _entry(value, aspect) for aspect in aspects}
        if any(entry is not None for entry in entries.values()):
            if any(aspect not in value for aspect, entry in entries.items() if entry is not None):
                repairs.add("key")
            return entries
        if flat and len(aspects) == 1 and value.keys() <= {"reason", "score"} and "score" in value:
            repairs.add("flat")
            return {aspects[0]: value}
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    below = [
        found
        for item in inner
        if depth < 2 and (found := _aspects_in(item, aspects, repairs, flat=False, depth=depth + 1)) is not None
    ]
    if len(below) > 1:
        raise Doubled("the aspects are given more than once")
    if below:
        repairs.add("wrapped")
    return below[0] if below else None


def _entry(value: Mapping[str, Any], aspect: str) -> Any:
    """Return the value of an aspect's key, ignoring capitals and spaces. Raises Doubled if two keys differ."""
    found = [item for key, item in value.items() if re.sub(r"[\s\-]+", "_", key.strip().lower()) == aspect]
    if any(item != found[0] for item in found):
        raise Doubled(f"{aspect!r} is given twice")
    return found[0] if found else None


def _judged(found: Mapping[str, Any], aspects: Sequence[str], repairs: set[str]) -> Verdict:
    """Return the entries as scores, with the status of the verdict."""
    scores, missing, outside = [], [], []
    for aspect in aspects:
        entry = found.get(aspect)
        reason = entry.get("reason") if isinstance(entry, dict) else None
        score, not_applicable = _score_of(entry)
        raw = entry.get("score") if isinstance(entry, dict) else entry
        if score is not None and not SCORES[0] <= score <= SCORES[-1]:
            outside.append(f"{aspect} {score:g}")
            score = None
        elif score is None and not not_applicable:
            missing.append(aspect)
        elif score is not None and isinstance(raw, str) and not _PLAIN_NUMBER.fullmatch(raw):
            repairs.add("of_five")
        if not isinstance(entry, dict) and (score is not None or not_applicable):
            repairs.add("bare_score")
        reason = reason if isinstance(reason, str) else None
        scores.append(AspectScore(metric_of(aspect), score, not_applicable, reason))
    if len(missing) == len(aspects):
        return no_verdict(PARSE_ERROR, aspects, "no aspect has a score that can be read")
    if outside:
        status, error = OUT_OF_RANGE, f"out of range: {', '.join(outside)}"
    elif missing:
        status, error = INCOMPLETE, f"no score for {', '.join(missing)}"
    elif any(score.not_applicable for score in scores):
        status, error = NOT_APPLICABLE, None
    else:
        status, error = (REPAIRED if repairs else OK), None
    return Verdict(status, tuple(scores), tuple(sorted(repairs)), error)


def _score_of(entry: Any) -> tuple[float | None, bool]:
    """Return the number in an entry, and whether the aspect is not applicable; (None, False) for neither."""
    value = entry.get("score") if isinstance(entry, dict) else entry
    if isinstance(value, int | float) and not isinstance(value, bool):
        return (float(value) if abs(value) < 1e6 else 1e6), False
    if not isinstance(value, str):
        return None, False
    text = value.strip().lower()
    if text in _NO_SCORE:
        return None, True
    number = _NUMBER.fullmatch(text)
    return (float(number[1]), False) if number else (None, False)
