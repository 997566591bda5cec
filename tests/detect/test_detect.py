"""Loops against the regular expression and against their definition; code against texts labelled by hand."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icl_local import detect
from icl_local.detect import code, critical_errors, find_answer, loops
from icl_local.detect.critical_errors import (
    Loop,
    LoopWatch,
    critical_error_rows,
    find_code,
    find_literal_loop,
    find_loop,
    find_loops,
)
from icl_local.resources import read_text
from tests.counting import calls

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
    match, loop = LITERAL_LOOP.search(text), find_literal_loop(text)
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
    assert find_loops(text) == (find_literal_loop(text), loop)


@settings(max_examples=100, deadline=None)
@given(repetitive())
def test_loops_are_exact_when_every_fingerprint_collides_and_probes_come_in_small_chunks(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loops, "_PRIME", 1)
        patch.setattr(loops, "_PROBES", 3)
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
    assert find_literal_loop("Title\n------\n") == Loop(6, "-", 6.0, 6, False)
    assert find_literal_loop("=====") is None


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


PYTHON = "def area(radius):\n    return 3.14159 * radius ** 2\n"


@pytest.mark.parametrize(
    "kind, text",
    [
        ("python", PYTHON),
        ("java", "public static void main(String[] args) {\n    int total = 0;\n}"),
        ("c", "#include <stdio.h>\nint main(void) { return 0; }"),
        ("javascript", "const greet = (name) => `Hello ${name}`;"),
        ("sql", "SELECT name FROM pets WHERE age > 3;"),
        ("shell", "sudo apt install vlc"),
        ("html", '<div class="box">Hello</div>'),
        ("css", ".box {\n  color: red;\n}"),
        ("php", "<?php echo 'hello'; ?>"),
        ("csharp", "using System;\nnamespace Demo { }"),
        ("go", 'package main\n\nimport "fmt"\n'),
        ("rust", 'fn main() {\n    println!("hello");\n}'),
        ("other", "library(dplyr)\nx <- c(1, 2)"),
        ("fenced", "```python\n```"),
        ("fenced", "```\nls -la\n```"),
        ("fenced", "~~~sql\nselect 1\n~~~"),
        ("fenced", "Try ```npm run build && npm start``` now."),
        ("fenced", "The script:\n\n```bash\nfor f in *; do"),
    ],
)
def test_code_of_every_kind_is_found_where_it_begins(kind: str, text: str) -> None:
    code = find_code("Here it is.\n\n" + text)
    assert code is not None
    assert code.kind == kind
    assert code.start == 13 + max(text.find("```"), 0)
    assert ("Here it is.\n\n" + text)[code.start :].startswith(code.evidence)


@pytest.mark.parametrize(
    "text",
    [
        "Use `print(x)` to show it and `git push` to send it.",
        "```\nDear Ms Brown,\n\nThank you for the interview; I enjoyed it.\n```",
        "```text\nx = compute(1)\n```",
        "The answer is Paris.\n```",
        "The formula is \\( x = \\frac{1}{2} \\) and\n\\[ y = x^2 \\]",
        "x = 5\ny = 6\nx + y = 11",
        "while the rain was falling,\nfor love of all the rest,\nif nobody was calling,\nreturn was for the best.",
    ],
)
def test_mentions_letters_formulas_and_verse_are_no_code(text: str) -> None:
    assert find_code(text) is None


def test_latex_counts_only_when_asked_for() -> None:
    source = "\\documentclass{article}\n\\begin{document}\nHello.\n\\end{document}"
    assert find_code(source) is None
    code = find_code(source, include=["latex"])
    assert code is not None
    assert code.kind == "latex"


def test_weak_lines_count_together_but_not_far_apart() -> None:
    lines = ["import taxes", "total = sum(prices)", "else:"]
    assert find_code("\n".join(lines)) is not None
    assert find_code(("\n" + "The prose goes on. " * 40 + "\n").join(lines)) is None


HOSTILE_LINES = [
    "(",
    "<a ",
    "{",
    "= ",
    '"a": ',
    "a.b(",
    "; ",
    "$x ",
    "select a,",
    "def f(",
    "\\frac",
    "public a ",
    "<p>",
    "`a",
]


def match_hostile_lines(length: int) -> list[bool]:
    """Match every rule of code with every hostile line of ``length`` characters, behind each of the rule's starts."""
    texts = [(piece * length)[:length] for piece in HOSTILE_LINES]
    return [
        rule.line.match(start + space + text) is not None
        for rule in code._patterns().rules
        for text in texts
        for start in (*rule.first, *rule.has)
        for space in (" ", "")
    ]


def test_hostile_lines_come_to_an_end_whatever_their_length() -> None:
    """A pattern that backtracks exponentially would not."""
    assert match_hostile_lines(400) == match_hostile_lines(100)


def hostile_texts(length: int) -> list[str]:
    return [piece * length for piece in ("def f(\n", "``` x\n", "{;=(<$ ", "a = b(\n", "```\n```\n", "x\n")]


def test_long_hostile_texts_need_steps_by_their_length() -> None:
    small, large = hostile_texts(2_000), hostile_texts(8_000)
    assert calls(lambda: list(map(find_code, large))) < 5 * calls(lambda: list(map(find_code, small)))


def test_patterns_change_only_with_their_version() -> None:
    data = read_text("prompts", "detection/code.toml")
    digest = hashlib.sha256(data.encode("utf-8")).hexdigest()[:16]
    known = {"1": "2ac5823f8b785ac8"}
    assert known.get(code.patterns_version()) == digest, "raise `version` in code.toml, then name its digest here"


def test_every_rule_says_when_it_is_tried() -> None:
    for rule in code._patterns().rules:
        assert bool(rule.first) != bool(rule.has), rule.line.pattern


def test_detector_version_names_algorithm_and_patterns() -> None:
    assert re.fullmatch(r"\d+\.\d+", detect.DETECTOR_VERSION)
    assert detect.DETECTOR_VERSION.endswith("." + code.patterns_version())


def test_rows_have_the_columns_of_their_table_and_name_all_three_errors() -> None:
    schema = read_text("db", "migrations/0001_init.sql").partition("create table raw.critical_errors (")[2]
    columns = re.findall(r"^    (\w+) (?:varchar|boolean|integer|double)", schema.partition(");")[0], re.MULTILINE)
    for text in ("", "Paris.", PYTHON, "no way " * 60, "-" * 30, "\ud800\x00" * 40):
        rows = critical_error_rows("id", find_answer(text))
        assert [row["error"] for row in rows] == ["infinite_loop", "infinite_loop_literal", "unintended_code"]
        for row in rows:
            assert list(row) == columns
            assert json.loads(json.dumps(row)) == row


def test_rows_hold_what_was_found() -> None:
    loop, literal, code = critical_error_rows("r1", find_answer("```python\n" + "x = 1\n" * 12 + "```"))
    where = {"start_char": 9, "unit": "\nx = 1", "copies": 73 / 6, "span": 73, "reaches_end": False, "kind": None}
    assert loop["found"] is True
    assert where.items() <= loop.items()
    assert where.items() <= literal.items()
    assert {"found": True, "start_char": 0, "unit": "```python", "kind": "fenced", "span": None}.items() <= code.items()


def rates(
    rows: list[dict[str, str]], truth: Callable[[dict[str, str]], bool], find: Callable[[str], object]
) -> tuple[float, float]:
    """Precision and recall."""
    outcomes = [(truth(row), find(row["text"]) is not None) for row in rows]
    hits = sum(is_so and said for is_so, said in outcomes)
    return hits / sum(said for _, said in outcomes), hits / sum(is_so for is_so, _ in outcomes)


def test_code_is_told_from_prose_in_labelled_texts() -> None:
    rows = labelled("labelled_code.jsonl")
    assert len(rows) >= 300
    precision, recall = rates(rows, lambda row: bool(row["code"]), find_code)
    assert precision >= 0.98
    assert recall >= 0.92


def test_loops_are_told_from_repetition_in_labelled_texts() -> None:
    rows = labelled("labelled_loops.jsonl")
    assert len(rows) >= 300
    precision, recall = rates(rows, lambda row: row["loop"] == "exact", find_loop)
    assert precision >= 0.90
    assert recall >= 0.92
    written = [row for row in rows if not row["id"].startswith("own/")]
    assert rates(written, lambda row: row["loop"] == "exact", find_loop)[0] >= 0.98
    lettered = [row for row in rows if row["note"] != "no letter or digit"]
    assert rates(lettered, lambda row: row["loop"] == "exact", find_loop)[1] == 1.0


def test_strong_models_rarely_loop_and_rarely_write_code_unasked(shared_dir: Path) -> None:
    queries = (shared_dir / "just_eval" / "queries.en.jsonl").read_text(encoding="utf-8").splitlines()
    tasks = [json.loads(line)["task"] for line in queries]
    for file in sorted((shared_dir / "just_eval" / "outputs").glob("*.json"))[:3]:
        texts = [item["output"] for item in json.loads(file.read_text(encoding="utf-8"))]
        loops = [find_loops(text) for text in texts]
        codes = [find_code(text) for text, task in zip(texts, tasks, strict=True) if "coding" not in task]
        assert sum(loop is not None for _, loop in loops) <= 0.01 * len(texts)
        assert 0.005 * len(texts) <= sum(literal is not None for literal, _ in loops) <= 0.04 * len(texts)
        assert sum(code is not None for code in codes) <= 0.01 * len(texts)


@pytest.mark.parametrize(
    "text, code",
    [
        ("The museum opens at nine and closes at five.", "en"),
        ("El museo abre a las nueve y cierra a las cinco.", "es"),
        ("Le musée ouvre à neuf heures et ferme à cinq heures.", "fr"),
        ("El museo \ud800 abre a las nueve y cierra \x00 a las cinco.", "es"),
        ("[12, 15, 9]\n{}", None),
        ("Ok.", None),
        ("", None),
    ],
)
def test_language_is_identified_where_there_is_enough_text(text: str, code: str | None) -> None:
    assert detect.identify_language(text) == code


def test_language_is_unknown_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "py3langid.langid", None)
    critical_errors._language_identifier.cache_clear()
    try:
        assert detect.identify_language("The museum opens at nine and closes at five.") is None
    finally:
        critical_errors._language_identifier.cache_clear()


def test_evaluation_script_prints_precision_and_recall() -> None:
    script = Path(__file__).resolve().parents[2] / "scripts" / "evaluate_detection"
    told = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True).stdout
    assert told.startswith(f"detector {detect.DETECTOR_VERSION}\n")
    assert len(re.findall(r"precision +\d+\.\d %", told)) == 9
