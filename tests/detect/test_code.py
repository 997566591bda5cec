"""Code in a text: every kind, what is not code, and hostile lines."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from icl_local.detect import code
from icl_local.detect.code import find_code
from icl_local.resources import read_text
from tests.counting import calls

DATA = Path(__file__).parents[1] / "data"


def labelled(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").splitlines()]


def words(count: int) -> str:
    """Prose-like text that never loops: numbers of a linear congruential generator, as words."""
    state, out = 1, []
    for _ in range(count):
        state = state * 1103515245 % 2147483647
        out.append("word" + str(state % 997))
    return " ".join(out)


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


def test_latex_counts_only_when_included() -> None:
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
    known = {"1": "b484bf702bbf653f"}
    assert known.get(code.patterns_version()) == digest, "raise `version` in code.toml, then name its digest here"


def test_every_rule_says_when_it_is_tried() -> None:
    for rule in code._patterns().rules:
        assert bool(rule.first) != bool(rule.has), rule.line.pattern


def rates(
    rows: list[dict[str, str]], truth: Callable[[dict[str, str]], bool], find: Callable[[str], object]
) -> tuple[float, float]:
    """Precision and recall."""
    outcomes = [(truth(row), find(row["text"]) is not None) for row in rows]
    hits = sum(is_so and said for is_so, said in outcomes)
    return hits / sum(said for _, said in outcomes), hits / sum(is_so for is_so, _ in outcomes)


def test_code_and_prose_are_distinguished_in_labelled_texts() -> None:
    rows = labelled("labelled_code.jsonl")
    assert len(rows) >= 300
    precision, recall = rates(rows, lambda row: bool(row["code"]), find_code)
    assert precision >= 0.98
    assert recall >= 0.92
