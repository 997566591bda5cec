"""Loops: exactly what the regular expression finds, as the text grows too, and with little work."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icl_local.detect import loops
from icl_local.detect.loops import Loop, LoopWatch, find_loop, find_loops

DATA = Path(__file__).parents[1] / "data"


LITERAL_LOOP = re.compile(r"(.+?)\1{5,}", re.DOTALL)


def labelled(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").splitlines()]


@st.composite
def repetitive(draw: st.DrawFn) -> str:
    """Runs of small units, whole copies and parts of one, with noise between."""
    alphabet = draw(st.sampled_from(["ab", "a-", "abc", "é \n", "-1\x00"]))
    unit = st.text(alphabet, min_size=1, max_size=14)
    pieces = draw(st.lists(st.tuples(unit, st.integers(1, 9), st.integers(0, 6)), max_size=5))
    return "".join(unit * copies + unit[:part] for unit, copies, part in pieces)


def by_definition(text: str) -> tuple[int, str, int] | None:
    """Start, unit and span of the infinite loop, tried at every place with every period."""
    n = len(text)
    for start in range(n):
        for period in range(1, (n - start) // 6 + 1):
            end = start + period
            while end < n and text[end] == text[end - period]:
                end += 1
            unit = text[start : start + period]
            if end - start >= max(6 * period, 50) and any(map(str.isalnum, unit)):
                return start, unit, end - start
    return None


def assert_literal_is_the_regex(text: str) -> None:
    match, loop = LITERAL_LOOP.search(text), find_loops(text)[0]
    assert (match is None) == (loop is None)
    if match is not None and loop is not None:
        assert (loop.start, loop.unit) == (match.start(), match[1])
        assert int(loop.copies) == len(match[0]) // len(match[1])


@settings(max_examples=200, deadline=None)
@given(repetitive())
def test_literal_loop_is_what_the_regular_expression_finds(text: str) -> None:
    assert_literal_is_the_regex(text)


@settings(max_examples=120, deadline=None)
@given(repetitive())
def test_loop_is_what_its_definition_says(text: str) -> None:
    loop = find_loop(text)
    assert (None if loop is None else (loop.start, loop.unit, loop.span)) == by_definition(text)
    assert find_loops(text)[1] == loop


@settings(max_examples=100, deadline=None)
@given(repetitive())
def test_loops_are_exact_when_every_fingerprint_collides_and_samples_come_in_small_chunks(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loops, "_PRIME", 1)
        patch.setattr(loops, "_SAMPLES", 3)
        assert_literal_is_the_regex(text)
        loop = find_loop(text)
        assert (None if loop is None else (loop.start, loop.unit, loop.span)) == by_definition(text)


@settings(max_examples=40, deadline=None)
@given(repetitive(), st.integers(1, 7))
def test_watch_says_what_find_loop_says_after_every_piece(text: str, size: int) -> None:
    watch = LoopWatch()
    for end in range(size, len(text) + size, size):
        assert watch.append(text[end - size : end]) is (find_loop(text[:end]) is not None)


def test_watch_fires_with_the_character_that_makes_the_loop() -> None:
    text = "She looked up. " + "I do not know. " * 400
    watch = LoopWatch()
    fired = next(i for i, character in enumerate(text, start=1) if watch.append(character))
    assert find_loop(text[: fired - 1]) is None
    assert find_loop(text[:fired]) == Loop(13, ". I do not know", 6.0, 90, True)
    assert watch.append("And on it goes, differently.")


@pytest.mark.parametrize(
    "text, expected",
    [
        ("one two " * 7 + "one", Loop(0, "one two ", 59 / 8, 59, True)),
        ("Well: " + "no " * 20 + "yes", Loop(5, " no", 61 / 3, 61, False)),
        ("a" * 50, Loop(0, "a", 50.0, 50, True)),
        ("a" * 49, None),
        ("-" * 500, None),
        ("|---" * 40 + "|", None),
        ("no " * 16 + "-", None),
        ("I am here. " * 5, None),
        ("", None),
    ],
)
def test_loop_needs_six_copies_a_letter_or_digit_and_fifty_characters(text: str, expected: Loop | None) -> None:
    assert find_loop(text) == expected


def test_literal_loop_takes_rules_and_short_runs() -> None:
    assert find_loops("Title\n------\n")[0] == Loop(6, "-", 6.0, 6, False)
    assert find_loops("=====")[0] is None


@pytest.mark.parametrize("text", ["\x00" * 400, "\ud800" * 400, "\ud83d\udca9\u202e" * 60, "\u0660" * 60])
def test_any_character_can_repeat(text: str) -> None:
    literal, loop = find_loops(text)
    assert literal is not None
    assert literal.span == len(text)
    assert (loop is not None) == text[0].isalnum()
    watch = LoopWatch()
    assert watch.append(text) == (loop is not None)


def comparisons(text: str) -> int:
    """Count the periods, blocks and characters that finding the loops of ``text`` compares."""
    count = 0
    agree, same_blocks, candidates = loops._agree, loops._Periods._same_blocks, loops._Periods._candidates

    def counted_agree(one: Any, other: Any) -> int:
        nonlocal count
        found = agree(one, other)
        count += found + 1
        return found

    def counted_same_blocks(self: Any, j: Any, p: Any) -> Any:
        nonlocal count
        count += len(j)
        return same_blocks(self, j, p)

    def counted_candidates(self: Any, periods: Any, *rest: Any) -> Any:
        nonlocal count
        count += len(periods)
        return candidates(self, periods, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loops, "_agree", counted_agree)
        patch.setattr(loops._Periods, "_same_blocks", counted_same_blocks)
        patch.setattr(loops._Periods, "_candidates", counted_candidates)
        find_loops(text)
    return count


def words(count: int) -> str:
    """Prose-like text that never loops: numbers of a linear congruential generator, as words."""
    state, out = 1, []
    for _ in range(count):
        state = state * 1103515245 % 2147483647
        out.append("word" + str(state % 997))
    return " ".join(out)


LONG_TEXTS: dict[str, Callable[[int], str]] = {
    "prose": words,
    "loop then prose": lambda n: "ab" * n + words(n),
    "rule": lambda n: "-" * (5 * n),
    "rules": lambda n: "".join("-" * (60 + i % 37) + "x" for i in range(n // 12)),
    "five copies": lambda n: "".join(str(i % 89 + 10) * 5 + "|" for i in range(n // 2)),
    "nested": lambda n: (("ab" * 4 + "c") * 5 + "d") * (n // 9),
}


@pytest.mark.parametrize("kind", LONG_TEXTS)
def test_sixteen_times_the_text_needs_about_sixteen_times_the_comparisons(kind: str) -> None:
    make = LONG_TEXTS[kind]
    assert comparisons(make(64_000)) < 24 * comparisons(make(4_000))


def test_prose_needs_fewer_comparisons_than_it_has_characters() -> None:
    """The regular expression tries every period at every place."""
    for row in labelled("labelled_loops.jsonl"):
        if row["loop"] == "no":
            assert comparisons(row["text"][:1500]) < 2_000, row["id"]


def rates(
    rows: list[dict[str, str]], truth: Callable[[dict[str, str]], bool], find: Callable[[str], object]
) -> tuple[float, float]:
    """Precision and recall."""
    outcomes = [(truth(row), find(row["text"]) is not None) for row in rows]
    hits = sum(is_so and said for is_so, said in outcomes)
    return hits / sum(said for _, said in outcomes), hits / sum(is_so for is_so, _ in outcomes)


def test_loops_and_other_repetition_are_distinguished_in_labelled_texts() -> None:
    rows = labelled("labelled_loops.jsonl")
    assert len(rows) >= 300
    precision, recall = rates(rows, lambda row: row["loop"] == "exact", find_loop)
    assert precision >= 0.90
    assert recall >= 0.92
    written = [row for row in rows if not row["id"].startswith("own/")]
    assert rates(written, lambda row: row["loop"] == "exact", find_loop)[0] >= 0.98
    lettered = [row for row in rows if row["note"] != "no letter or digit"]
    assert rates(lettered, lambda row: row["loop"] == "exact", find_loop)[1] == 1.0
