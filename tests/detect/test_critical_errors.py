"""Stored rows of critical errors, rates on real answers, and the language of a text."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from icl_local import detect
from icl_local.detect import code, critical_errors, find_answer
from icl_local.detect.code import find_code
from icl_local.detect.critical_errors import critical_error_rows
from icl_local.detect.loops import find_loops
from icl_local.resources import read_text


def test_detector_version_names_algorithm_and_patterns() -> None:
    assert re.fullmatch(r"\d+\.\d+", detect.detector_version())
    assert detect.detector_version().endswith("." + code.patterns_version())


def test_rows_have_the_columns_of_their_table_and_name_all_three_errors() -> None:
    schema = read_text("db", "migrations/0001_init.sql").partition("create table raw.critical_errors (")[2]
    columns = re.findall(r"^    (\w+) (?:varchar|boolean|integer|double)", schema.partition(");")[0], re.MULTILINE)
    python = "def area(radius):\n    return 3.14159 * radius ** 2\n"
    for text in ("", "Paris.", python, "no way " * 60, "-" * 30, "\ud800\x00" * 40):
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
    printed = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True).stdout
    assert printed.startswith(f"detector {detect.detector_version()}\n")
    assert len(re.findall(r"precision +\d+\.\d %", printed)) == 9
