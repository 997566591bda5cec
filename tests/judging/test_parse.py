"""Verdict parsing: every well-formed verdict is read, damage is mended or refused, and no score is ever made up."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from icl_local.judging.parse import Verdict, parse_verdict
from tests.counting import calls

ASPECTS = ("helpfulness", "clarity", "factuality", "depth", "engagement", "language_consistency")
PAIR = ("helpfulness", "clarity")
GOOD = '{"helpfulness": {"reason": "a", "score": 4}, "clarity": {"reason": "b", "score": 5}}'

many = settings(max_examples=2000, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


def scores(verdict: Verdict) -> list[float | None]:
    return [aspect.score for aspect in verdict.aspects]


reasons = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
truths = st.tuples(*[st.integers(1, 5)] * len(ASPECTS))


@given(truths, st.lists(reasons, min_size=6, max_size=6), st.sampled_from([None, 0, 2]), st.booleans(), st.randoms())
@settings(max_examples=200, deadline=None, derandomize=True)
def test_every_well_formed_verdict_is_read_as_it_is(truth, reasons, indent, ascii_only, random):
    entries = [(a, {"reason": r, "score": s}) for a, r, s in zip(ASPECTS, reasons, truth, strict=True)]
    random.shuffle(entries)
    verdict = parse_verdict(json.dumps(dict(entries), indent=indent, ensure_ascii=ascii_only), ASPECTS)
    assert verdict.status == "ok"
    assert verdict.repairs == ()
    assert scores(verdict) == [float(score) for score in truth]
    assert [aspect.reason for aspect in verdict.aspects] == reasons


# Each turns the text of a verdict into a damaged one without touching a digit, so whatever is read must be the truth.
NUMBER = re.compile(r'"score": "?(\d)(?:/5)?"?')
DAMAGE = {
    "fence": lambda t: f"```json\n{t}\n```",
    "bare fence": lambda t: f"```\n{t}```",
    "words": lambda t: f"Here is my evaluation, I gave high marks: {t} Hope that helps!",
    "error text": lambda t: f"Error: upstream failed with score {{five}} {t}",
    "trailing comma": lambda t: t.replace("}}", "},}"),
    "inner trailing comma": lambda t: t.replace("}, ", ",}, "),
    "line break": lambda t: t.replace("good", "go\nod"),
    "inner quotes": lambda t: t.replace("good", 'a "good" one'),
    "quoted list": lambda t: t.replace("good", 'said "yes", "no", and {so on}'),
    "apostrophe": lambda t: t.replace("good", "it's \\'fine\\'"),
    "single quotes": lambda t: t.replace('"', "'"),
    "strings": lambda t: NUMBER.sub(r'"score": "\1"', t),
    "of five": lambda t: NUMBER.sub(r'"score": "\1/5"', t),
    "not applicable": lambda t: NUMBER.sub('"score": "N/A"', t, count=1),
    "no comma": lambda t: t.replace('", "score"', '" "score"', 1),
    "no comma between": lambda t: t.replace("}, ", "}\n"),
    "capitals": lambda t: t.replace('"clarity"', '"Clarity"').replace("language_consistency", "Language Consistency"),
    "bare keys": lambda t: t.replace('"score"', "score").replace('"reason"', "reason"),
    "wrapped": lambda t: f'{{"evaluation": {t}}}',
    "in a list": lambda t: f"[{t}]",
    "twice": lambda t: f"{t}\n{t}",
    "draft": lambda t: "<think>" + NUMBER.sub('"score": 0', t) + "</think>" + t,
    "no last brace": lambda t: t[:-1],
    "lost aspect": lambda t: t.replace('"depth"', '"overall"'),
    "stray brace": lambda t: "{" + t,
    "escape": lambda t: t.replace("good", "C:\\path \\d"),
}


EDITS = ["cut", "delete", "delete another", "insert"]


def _edit(text: str, place: float, insert: str) -> str:
    """Insert a character at a place, or delete the one there unless it is a digit."""
    at = min(len(text) - 1, int(len(text) * place))
    if insert:
        return text[:at] + insert + text[at:]
    return text if text[at : at + 1].isdigit() else text[:at] + text[at + 1 :]


@given(
    truths,
    st.lists(st.sampled_from(sorted(DAMAGE) + EDITS * 3), min_size=1, max_size=4),
    st.floats(0, 1),
    st.sampled_from("\"\\{}[],: \n'xN`"),
)
@many
def test_two_thousand_damaged_verdicts_never_gain_or_swap_a_score(truth, damages, place, character):
    text = json.dumps({a: {"reason": "good " * 3, "score": s} for a, s in zip(ASPECTS, truth, strict=True)})
    edits = {
        "cut": lambda t: t[: int(len(t) * place)],
        "delete": lambda t: _edit(t, place, ""),
        "delete another": lambda t: _edit(t, 1 - place, ""),
        "insert": lambda t: _edit(t, place, character),
    }
    for name in damages:
        text = {**DAMAGE, **edits}[name](text)
    verdict = parse_verdict(text, ASPECTS)
    for aspect, given_score in zip(verdict.aspects, truth, strict=True):
        assert aspect.score is None or aspect.score == given_score
    if verdict.status in ("refused", "truncated", "parse_error"):
        assert scores(verdict) == [None] * len(ASPECTS)
    if verdict.status in ("ok", "repaired"):
        assert scores(verdict) == [float(score) for score in truth]


@given(st.one_of(st.text(max_size=200), st.text(alphabet='{}[]":,\\ \n0123456789eE.-nulltrefasNI', max_size=200)))
@settings(max_examples=500, deadline=None, derandomize=True)
def test_any_text_ends_in_a_status_without_raising(text):
    verdict = parse_verdict(text, PAIR)
    assert len(verdict.aspects) == 2
    assert all(score is None or 1 <= score <= 5 for score in scores(verdict))


json_values = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=True) | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*PAIR, "score", "reason", "x"]), inner)
    ),
    max_leaves=8,
)


@given(json_values)
@settings(max_examples=500, deadline=None, derandomize=True)
def test_any_json_value_ends_in_a_status_without_raising(value):
    verdict = parse_verdict(json.dumps(value), PAIR)
    assert all(score is None or 1 <= score <= 5 for score in scores(verdict))


@pytest.mark.parametrize(
    "text, status, expected",
    [
        (GOOD, "ok", [4, 5]),
        (f"```json\n{GOOD}\n```", "repaired", [4, 5]),
        (GOOD.replace("4", '"4"'), "ok", [4, 5]),
        (GOOD.replace("4", '"4"').replace("5", '" 5.0 "'), "ok", [4, 5]),
        (GOOD.replace("4", '"4/5"'), "repaired", [4, 5]),
        (GOOD.replace("4", '"4/10"'), "incomplete", [None, 5]),
        (GOOD.replace("4", '"N/A"'), "not_applicable", [None, 5]),
        (GOOD.replace("4", "N/A"), "not_applicable", [None, 5]),
        (GOOD.replace("4", "6"), "out_of_range", [None, 5]),
        (GOOD.replace("4", "0"), "out_of_range", [None, 5]),
        (GOOD.replace("4", "-4"), "out_of_range", [None, 5]),
        (GOOD.replace("4", "1e400"), "out_of_range", [None, 5]),
        (GOOD.replace("4", "9" * 5000), "parse_error", [None, None]),
        (GOOD.replace("4", "NaN"), "incomplete", [None, 5]),
        (GOOD.replace("4", "true"), "incomplete", [None, 5]),
        (GOOD.replace("4", "null"), "incomplete", [None, 5]),
        (GOOD.replace("4", '"four"'), "incomplete", [None, 5]),
        (GOOD.replace("4", '"٤"'), "incomplete", [None, 5]),
        (GOOD.replace("4", '"[score from 1 to 5]"'), "incomplete", [None, 5]),
        (GOOD.replace("4", '"3-4"'), "incomplete", [None, 5]),
        (GOOD.replace("4", "4.5"), "ok", [4.5, 5]),
        ('{"helpfulness": {"reason": "a", "score": 4}}', "incomplete", [4, None]),
        ('{"helpfulness": 4, "clarity": 5}', "repaired", [4, 5]),
        (GOOD.replace("4}", '4, "score": 3}'), "parse_error", [None, None]),
        (GOOD + GOOD.replace("4", "3"), "parse_error", [None, None]),
        (GOOD[:-3], "truncated", [None, None]),
        (GOOD[:30], "truncated", [None, None]),
        ("I'm sorry, but I can't judge this.", "refused", [None, None]),
        ("Lo siento, no puedo evaluar eso.", "refused", [None, None]),
        ("Je suis désolé, je ne peux pas.", "refused", [None, None]),
        ("4", "parse_error", [None, None]),
        ("", "parse_error", [None, None]),
        ("Error code: 500 - the last score was 5", "parse_error", [None, None]),
        ('{"error": {"message": "helpfulness 5, clarity 5", "code": 500}}', "parse_error", [None, None]),
        ("<html><h1>502</h1>score: 5</html>", "parse_error", [None, None]),
    ],
)
def test_each_kind_of_reply_has_its_status(text, status, expected):
    verdict = parse_verdict(text, PAIR)
    assert (verdict.status, scores(verdict)) == (status, expected)


def test_a_reply_at_its_token_limit_without_a_verdict_is_truncated():
    assert parse_verdict("Let me think about", PAIR, cut_off=True).status == "truncated"


def test_not_applicable_keeps_its_mark_and_no_number():
    first = parse_verdict(GOOD.replace("4", '" n/a "'), PAIR).aspects[0]
    assert (first.score, first.not_applicable) == (None, True)


def test_one_aspect_alone_may_come_without_its_name():
    verdict = parse_verdict('{"reason": "harmless", "score": 5}', ("safety",))
    assert (verdict.status, scores(verdict), verdict.repairs) == ("repaired", [5.0], ("flat",))


def test_another_aspect_s_score_is_not_taken_for_the_one_asked():
    assert scores(parse_verdict(GOOD, ("safety",))) == [None]
    assert scores(parse_verdict(f"Sure: {GOOD}", ("safety",))) == [None]


HOSTILE = ["{" * 200_000, "[" * 200_000, '{"a":' * 50_000, '"' * 100_000, '{"a": "' + '"x' * 100_000]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_nesting_is_refused_in_a_few_steps_a_character(text):
    assert scores(parse_verdict(text, PAIR)) == [None, None]
    assert calls(lambda: parse_verdict(text, PAIR)) < 5 * len(text)
