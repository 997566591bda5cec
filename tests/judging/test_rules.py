"""Rules as a judge: each metric, and verdicts that follow a corrected reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from scipy.stats import binomtest
from statsmodels.stats.proportion import proportion_confint

import icl_local as icl
from icl_local import store
from icl_local.exceptions import InputError
from icl_local.judging import rules
from icl_local.judging.ledger import Task
from icl_local.judging.rules import RULES, RuleTemplates, verdict
from tests.judge_rows import database, response_rows

CASES: list[tuple[str, str, str, dict[str, Any], float | None]] = [
    # metric, language, answer, expected, score
    ("exact_match", "es", "  «La PARÍS.»", {"reference": ["París"]}, 1),
    ("exact_match", "en", "Paris is it", {"reference": ["Paris"]}, 0),
    ("exact_match", "fr", "l’Été", {"reference": ["autre", "été"]}, 1),
    ("exact_match", "en", "Paris", {}, None),
    ("exact_match", "en", "-5", {"reference": ["5"]}, 0),
    ("exact_match", "en", "−5 °", {"reference": ["-5"]}, 1),
    ("exact_match", "en", "_Paris_", {"reference": ["Paris"]}, 1),
    ("contains", "fr", "La capitale d’Italie", {"reference": ["Italie"]}, 1),
    ("contains", "en", "It is Einstein's.", {"reference": ["Einstein"]}, 1),
    ("contains", "en", "It is New York, of course.", {"reference": ["new york"]}, 1),
    ("contains", "en", "It is a newyorker", {"reference": ["new york"]}, 0),
    ("exact_match", "en", "A.", {"reference": ["A"]}, 1),
    ("exact_match", "en", "B", {"reference": ["A"]}, 0),
    ("contains", "ja", "首都は東京です", {"reference": ["東京"]}, 1),
    ("contains", "ja", "首都は京都です", {"reference": ["東京"]}, 0),
    ("numeric", "en", "First 3, then 1,234.50.", {"reference": ["1234.5"]}, 1),
    ("numeric", "es", "Son 1.234,5 euros", {"reference": ["1234.5"]}, 1),
    ("numeric", "es", "Son 2.5", {"reference": ["2,5"]}, 1),
    ("numeric", "fr", "Il y en a 1 234 567,5.", {"reference": ["1234567,5"]}, 1),
    ("numeric", "en", "In 2020 500", {"reference": ["500"]}, 1),
    ("numeric", "en", "5-7", {"reference": ["7"]}, 1),
    ("numeric", "en", "x = -7", {"reference": ["7"]}, 0),
    ("numeric", "en", "no number", {"reference": ["4"]}, 0),
    ("numeric", "en", "four", {"reference": ["four"]}, None),
    ("choice", "en", "The answer is (B).", {"choices": ["cat", "dog"], "answer": 1}, 1),
    ("choice", "en", "b) because a lion roars", {"choices": ["cat", "dog"], "answer": 1}, 1),
    ("choice", "es", "(b).", {"choices": ["gato", "perro"], "answer": 1}, 1),
    ("choice", "es", " b\n", {"choices": ["gato", "perro"], "answer": 1}, 1),
    ("choice", "es", "Pertenece a", {"choices": ["gato", "perro"], "answer": 0}, 0),
    ("choice", "en", "It is a city, New York City", {"choices": ["New York", "New York City"], "answer": 1}, 1),
    ("choice", "en", "It is New York", {"choices": ["New York", "New York City"], "answer": 1}, 0),
    ("choice", "en", "A or B", {"choices": ["cat", "dog"], "answer": 1}, 0),
    ("choice", "en", "I think of a dog", {"choices": ["cat", "dog"], "answer": 1}, 1),
    ("choice", "en", "neither", {"choices": ["cat", "dog"], "answer": 1}, 0),
    ("regex", "en", "Hello there", {"checks": [{"id": "regex", "pattern": "(?i)^hello"}]}, 1),
    ("ifeval_strict", "en", "a, b", {"checks": [{"id": "punctuation:no_comma"}, {"id": "startend:quotation"}]}, 0),
    ("ifeval_share", "en", '"a, b"', {"checks": [{"id": "punctuation:no_comma"}, {"id": "startend:quotation"}]}, 0.5),
    ("ifeval_loose", "en", 'Sure,\n"a b"', {"checks": [{"id": "punctuation:no_comma"}]}, 1),
]


def task(language: str, text: str, expected: dict[str, Any]) -> Task:
    template = RuleTemplates().get(split="multi", language=language)
    return Task("j", 1, "r", template, 0, "multi", language, "?", text, expected)


@pytest.mark.parametrize(("metric", "language", "text", "expected", "score"), CASES)
def test_a_rule_scores(metric: str, language: str, text: str, expected: dict[str, Any], score: float | None) -> None:
    assert RULES[metric](task(language, text, expected)) == score


def test_the_text_of_the_rules_lists_them() -> None:
    assert RuleTemplates().get(split="safety", language="fr").aspects == tuple(RULES)
    assert [aspect.metric for aspect in verdict(task("en", "x", {})).aspects] == list(RULES)


def test_a_hostile_pattern_ends_and_one_that_is_not_of_re2_is_refused() -> None:
    assert not store.matches("(a+)+$", "a" * 50_000 + "b")
    with pytest.raises(InputError, match="not one of RE2"):
        store.matches(r"(a)\1", "aa")


def test_a_corrected_reference_is_scored_once_more(tmp_path: Path) -> None:
    rows = response_rows(2)
    key = next(row["query_key"] for table, row in rows if table == "queries")
    path = database(tmp_path / "t.duckdb", rows)

    def expect(reference: str, second: int) -> None:
        row = {"expectation_id": reference, "query_key": key, "expected": {"reference": [reference]}}
        with store.Store(path) as target:
            target.put([("expectations", {**row, "created_at": f"2026-01-01T00:00:{second:02}"})])

    def judged() -> tuple[int, list[float | None]]:
        made = icl.judge(path, judge=rules.NAME, progress=None).progress
        scores = (
            "select score from scores join responses using (response_id) where query_key = ? and metric = 'contains'"
        )
        assert made
        return made.done, [score for (score,) in store.query(path, scores, [key]).rows]

    expect("not in it", 1)
    assert judged() == (2, [0])
    assert judged() == (0, [0])
    text = next(row["text"] for table, row in rows if table == "responses")
    expect(str(text).split()[0], 2)
    assert judged() == (1, [1])
    assert judged() == (0, [1])
    assert store.query(path, "select mean, n from metric_means where metric = 'contains'").rows == [(1, 1)]
    expect("not in it", 3)
    assert judged() == (1, [0])


def test_rates_of_two_methods_are_compared_query_by_query(tmp_path: Path) -> None:
    n, rows = 12, []
    for method in ("zero-shot", "urial"):
        rows += response_rows(n, method=method)
    for table, row in rows:
        if table == "responses":
            row["text"] = "It is right." if row["method"] == "urial" else "No."
    keys = {row["query_key"]: None for table, row in rows if table == "queries"}
    rows += [
        (
            "expectations",
            {
                "expectation_id": key,
                "query_key": key,
                "expected": {"reference": ["right"]},
                "created_at": "2026-01-01",
            },
        )
        for key in keys
    ]
    path = database(tmp_path / "t.duckdb", rows)
    icl.judge(path, judge=rules.NAME, progress=None)
    means = store.query(
        path, "select method, mean, ci_low, ci_high, n from metric_means where metric = 'contains'"
    ).rows
    low, high = proportion_confint(n, n, alpha=0.05, method="beta")
    assert sorted(means) == [
        ("urial", 1, pytest.approx(low), pytest.approx(high), n),
        ("zero-shot", 0, pytest.approx(1 - high), pytest.approx(1 - low), n),
    ]
    test = "select rate_a, rate_b, only_a, only_b, p from outcome_tests where metric = 'contains' and a = 'zero-shot'"
    assert store.query(path, test).rows == [(0, 1, 0, n, pytest.approx(binomtest(0, n).pvalue))]
    table = icl.table(path, "metrics")
    column = table.columns.index("contains")
    assert [row[column] for row in table.rows] == [0, 1]
    assert list(table.marks) == [(1, column)]
    with store.writer(path, wait_seconds=1) as con:  # another judge of the same name
        con.execute("insert into raw.judges select * replace ('other' as judge_id) from raw.judges")
        con.execute(
            "insert into raw.judgments select * replace ('other' as judge_id, judgment_id || ' other' as judgment_id) "
            "from raw.judgments"
        )
    assert len(icl.table(path, "metrics").rows) == 4


def test_methods_of_a_table_of_metrics_are_in_the_order_of_their_names(tmp_path: Path) -> None:
    methods = ["zero-shot", "urial", *(f"urial[k={k}]" for k in range(6))]
    rows = [row for method in reversed(methods) for row in response_rows(1, method=method)]
    expected = {"expected": {"reference": ["x"]}, "created_at": "2026-01-01"}
    keys = {row["query_key"] for table, row in rows if table == "queries"}
    rows += [("expectations", {"expectation_id": key, "query_key": key, **expected}) for key in keys]
    path = database(tmp_path / "t.duckdb", rows)
    icl.judge(path, judge=rules.NAME, progress=None)
    table = icl.table(path, "metrics")
    assert [row[table.columns.index("method")] for row in table.rows] == methods


def test_rules_leave_the_paper_s_tables_alone(tmp_path: Path) -> None:
    path = database(tmp_path / "t.duckdb", response_rows(2))
    before = icl.table(path, 1).rows
    icl.judge(path, judge=rules.NAME, progress=None)
    assert icl.table(path, 1).rows == before
