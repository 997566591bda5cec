"""Where an answer ends: stops, and the fence that the prompt left open."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icl_local.detect import Answer, critical_error_rows, find_answer, find_stop, server_stops, stop_pattern
from icl_local.detect.code import find_code

ENGLISH, SPANISH, FRENCH = (("# Query", "#Query"), ("# Consulta", "#Consulta"), ("# Question", "#Question"))
TAIL = "```\n\n# Answer:\n```\n"
LABELLED = Path(__file__).parents[1] / "data" / "labelled_base_outputs.jsonl"


def answer(raw_text: str, *, stops: tuple[str, ...] = ENGLISH, prompt_tail: str | None = TAIL) -> Answer:
    return find_answer(raw_text, stops=stops, prompt_tail=prompt_tail)


def has_code(raw_text: str) -> bool:
    rows = critical_error_rows("id", answer(raw_text))
    return bool(next(row["found"] for row in rows if row["error"] == "unintended_code"))


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("Four.\n```\n\n# Query:\n```What is", "Four."),
        ("Four.\n```\n\n#Query:", "Four."),
        ("Four.\n```", "Four."),
        ("Four.", "Four."),
        ("  \n Four.\u00a0\n", "Four."),
        ("Four.```", "Four."),
        ("Four.\n\n# Query:\n```What is", "Four."),
        ("# Query", ""),
        ("```", ""),
        ("```\n\n# Answer:\n```\nFour.", ""),
        ("", ""),
    ],
)
def test_the_answer_ends_at_the_stop_or_at_the_prompts_fence(raw: str, expected: str) -> None:
    assert answer(raw).text == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("Paris is the capital.\n```\n\nTotal = 5 apples", "Paris is the capital."),
        ("Answer.\n```\n\nHere:\n```\nfoo(bar)\n```\nok", "Answer."),
        ("No.\n```\n\n### Example:\n```python\nprint(1)\n```", "No."),
        ("No.```\n\n```sql\nselect a from b;\n```", "No."),
    ],
)
def test_what_follows_the_closed_answer_is_not_the_answer_and_no_code_of_its_own(raw: str, expected: str) -> None:
    assert answer(raw).text == expected
    assert not has_code(raw)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("Use:\n```python\nx = 1\n```\nDone.\n```\n\n# Query:", "Use:\n```python\nx = 1\n```\nDone."),
        ("```python\nx = 1\n```", "```python\nx = 1\n```"),
        ("```python\nx = 1\n```\n```\n# Query:", "```python\nx = 1\n```"),
        ("```python\nx = 1", "```python\nx = 1"),
        ("Use:\n```python\nx = 1\n```", "Use:\n```python\nx = 1\n```"),
        ("cut off in ```python\nx = 1", "cut off in ```python\nx = 1"),
        ("```c\nx;\n```java\ny();\n```\nboth\n```\nmore", "```c\nx;\n```java\ny();\n```\nboth"),
        ("Say ```x``` here", "Say ```x``` here"),
        ("Say ```x``` here\n```\nmore", "Say ```x``` here"),
    ],
)
def test_a_block_of_the_answers_own_keeps_both_its_fences(raw: str, expected: str) -> None:
    assert answer(raw).text == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("```\nFour.", "Four."),
        ("```Four.\n# Query", "Four."),
        ("```\nFour.\n```", "```\nFour.\n```"),
        ("```\nText\n```python\nx = 1\n```", "Text\n```python\nx = 1\n```"),
    ],
)
def test_a_fence_that_repeats_the_prompts_is_left_out_where_nothing_closes_it(raw: str, expected: str) -> None:
    assert answer(raw).text == expected


@pytest.mark.parametrize("tail", [None, "\nA:", "``` in words:\n", "<|im_end|>\n<|im_start|>assistant\n"])
def test_a_prompt_that_leaves_no_fence_open_explains_none(tail: str | None) -> None:
    assert answer("a\n```\nb\n# Query: c", prompt_tail=tail).text == "a\n```\nb"


@pytest.mark.parametrize("raw", ["```\n# Query: x\n```", "  x \n", ""])
def test_a_text_without_stops_is_the_answer_as_it_stands(raw: str) -> None:
    assert find_answer(raw, prompt_tail=TAIL).text == raw


@pytest.mark.parametrize(
    ("text", "stops", "start"),
    [
        ("Oui.\n\n## Questions fréquentes\n1. Non", FRENCH, None),
        ("Oui.\n\n# Questions fréquentes\n1. Non", FRENCH, None),
        ("Oui.\n\n# Question :\n```", FRENCH, 6),
        ("Oui.\n\n# Question\u00a0: a", FRENCH, 6),
        ("Oui.\n\n#Question:", FRENCH, 6),
        ("Sí.\n## Consultas\n- a", SPANISH, None),
        ("Sí.\n# Consulta:", SPANISH, 4),
        ("See # Query: it is a comment", ENGLISH, None),
        ("x = 1  # Query: a", ENGLISH, None),
        ("a\n# Query b\n#Query c", ENGLISH, None),
        ("a\n# Query", ENGLISH, 2),
        ("# Query：a", ENGLISH, 0),
        ("a\nQ: b", ("Q:",), 2),
        ("a Q: b", ("Q:",), 2),
    ],
)
def test_a_heading_stops_at_the_start_of_a_line_and_with_its_colon(
    text: str, stops: tuple[str, ...], start: int | None
) -> None:
    assert find_stop(text, stops) == start


def test_a_growing_text_waits_for_the_colon() -> None:
    pattern = stop_pattern(FRENCH)
    assert pattern.search(b"a\n# Question") is None
    assert pattern.search(b"a\n# Questions :") is None
    assert pattern.search("a\n# Question\u202f:".encode()) is not None


def test_a_server_gets_at_most_four_strings_that_stop_nowhere_else() -> None:
    assert server_stops(FRENCH) == ["\n# Question:", "\n#Question:", "\n# Question :", "\n#Question :"]
    assert server_stops(("###END", "Q:")) == ["Q:", "\n###END:", "\n###END :"]
    assert server_stops(()) == []
    for stop in server_stops(FRENCH):
        assert find_stop(f"a{stop}b", FRENCH) == 2


texts = st.lists(
    st.sampled_from(["```", "`", "# Query:", "#Query", "a", "python", "\n", " ", "é", ":"]), max_size=14
).map("".join)


@given(texts, st.sampled_from([TAIL, "\nA:"]))
@settings(max_examples=600, deadline=None)
def test_an_answer_is_a_part_of_the_text_and_its_own_answer(raw: str, tail: str) -> None:
    found = answer(raw, prompt_tail=tail)
    assert found.text == found.text.strip()
    assert found.text in found.generated or not found.text
    assert raw.startswith(found.text, found.start)
    assert find_stop(found.generated, ENGLISH) is None
    assert answer(found.text, prompt_tail=tail).text == found.text


@given(texts, st.integers(1, 5))
@settings(max_examples=300, deadline=None)
def test_a_text_that_grows_stops_where_the_whole_text_says(raw: str, size: int) -> None:
    data, pattern = raw.encode(), stop_pattern(ENGLISH)
    grown = next((data[:end] for end in range(size, len(data) + size, size) if pattern.search(data[:end])), None)
    if grown is not None:
        assert find_stop(grown.decode("utf-8", "replace"), ENGLISH) == find_stop(raw, ENGLISH)


def test_loops_count_in_all_that_was_generated_and_code_in_the_answer_alone() -> None:
    raw = "\nNo.\n```\n\n" + "# Answer: no way\n" * 10 + "\n# Query:"
    loop, _, code = critical_error_rows("id", answer(raw))
    assert (loop["found"], code["found"]) == (True, False)
    start = loop["start_char"]
    assert isinstance(start, int)
    assert raw[start:].startswith(str(loop["unit"]))
    _, _, code = critical_error_rows("id", answer("\n\ndef area(r):\n    return r\n```"))
    assert code["start_char"] == 2


def test_labelled_outputs_of_base_prompts() -> None:
    rows = [json.loads(line) for line in LABELLED.read_text("utf-8").splitlines()]
    assert len(rows) >= 200
    assert {(row["language"], row["code"]) for row in rows} == {
        (c, b) for c in ("en", "es", "fr") for b in (True, False)
    }
    stops = {"en": ENGLISH, "es": SPANISH, "fr": FRENCH}
    right = false_alarms = missed = 0
    for row in rows:
        found = answer(row["raw_text"], stops=stops[row["language"]])
        right += found.text == row["raw_text"][: row["answer_end"]].strip()
        code = find_code(found.text) is not None
        false_alarms += code and not row["code"]
        missed += row["code"] and not code
    assert right >= 0.98 * len(rows)
    assert (false_alarms, missed) == (0, 0)
