"""Effects of parameters and components of variance, against statsmodels and scipy to 1e-9, on made scores."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

import icl_local as icl
from tests import shared
from tests.store.truth import clustered

Row = dict[str, Any]
ASPECTS = ["helpfulness", "clarity", "factuality", "depth", "engagement"]
N_QUERIES = 12
SAME_TEXT = (0, 1)  # queries of one text


class Made:
    """A database of its own, into which scores are written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        shared.copy_empty_database(path)
        self.con = duckdb.connect(str(path), config={"threads": 1})
        self.put("models", model_id="m", label="Made 1B", variant="base", dpo=False)
        self.put("judges", judge_id="j", name="made", backend="local", model="made")
        self.put("judge_templates", template_sha256="t", name="multi", text="", metrics=ASPECTS)
        self.put("judge_templates", template_sha256="r", name="rules", text="", metrics=["contains"])
        for query in range(N_QUERIES):
            text = "same" if query in SAME_TEXT else f"text {query}"
            self.put("queries", query_key=f"q{query}", dataset="d", query_id=str(query), language="es", split="multi",
                     instruction=text)  # fmt: skip

    def put(self, table: str, **row: object) -> None:
        marks = ", ".join("?" * len(row))
        self.con.execute(f"insert into raw.{table} ({', '.join(row)}) values ({marks})", list(row.values()))

    def cell(self, method: str) -> None:
        self.put("cells", cell_id=method, weights="w", recipe=method, dataset="d", language="es", settings_id="s",
                 method=method, model_id="m")  # fmt: skip

    def answer(self, method: str, query: int, draw: int | None = None) -> str:
        key = f"{method} {query} {draw}"
        self.put("responses", response_id=key, model_id="m", query_key=f"q{query}", run_id="r", method=method,
                 language="es", settings_id="s", text="x", raw_text="x", finish_reason="stop", draw=draw,
                 created_at="2026-01-01", cell_id=method)  # fmt: skip
        return key

    def judge(self, response: str, scores: list[float | None], repeat: int = 0, template: str = "t") -> None:
        self.put("judgments", judgment_id=f"{response} {template} {repeat}", attempt=1, response_id=response,
                 judge_id="j", template_sha256=template, repeat=repeat, status="ok", scores=scores,
                 not_applicable=[False] * len(scores), created_at="2026-01-01")  # fmt: skip

    def rows(self, view: str, **equal: object) -> list[Row]:
        found = self.con.execute(f"select * from main.{view}")
        columns = [column[0] for column in found.description]
        rows = [dict(zip(columns, row, strict=True)) for row in found.fetchall()]
        return [row for row in rows if all(row[name] == value for name, value in equal.items())]


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Made]:
    database = Made(tmp_path / "made.duckdb")
    yield database
    database.con.close()


def scores_of(made: Made, methods: list[str], seed: int = 0) -> dict[tuple[str, int], float]:
    """Write five scores for each method and query, and return their means; one answer has none."""
    random = np.random.default_rng(seed)
    of_query, found = random.normal(3, 0.5, N_QUERIES), {}
    for number, method in enumerate(methods):
        made.cell(method)
        for query in range(N_QUERIES):
            aspects = np.clip(of_query[query] + 0.3 * number + random.normal(0, 0.4, len(ASPECTS)), 1, 5)
            response = made.answer(method, query)
            if (method, query) == (methods[-1], N_QUERIES - 1):
                made.judge(response, [None, *aspects[1:]])
            else:
                made.judge(response, list(aspects))
                found[method, query] = float(aspects.mean())
            made.judge(response, [float(aspects[0] > 3)], template="r")
    return found


def crossed(values: Mapping[tuple[str, int], float], methods: list[str]) -> Row:
    """Return the components by statsmodels' analysis of variance of a balanced two-way table."""
    complete = [q for q in range(N_QUERIES) if all((m, q) in values for m in methods)]
    by_text: dict[tuple[str, int], list[float]] = {}
    for method in methods:
        for query in complete:
            by_text.setdefault((method, min(SAME_TEXT) if query in SAME_TEXT else query), []).append(
                values[method, query]
            )
    frame = pd.DataFrame([(m, q, np.mean(scores)) for (m, q), scores in by_text.items()], columns=["m", "q", "y"])
    table = anova_lm(ols("y ~ C(m) + C(q)", frame).fit())
    ms_factor, ms_query, ms_rest = table["mean_sq"]
    levels, queries = len(methods), frame["q"].nunique()
    factor, query = max(0, (ms_factor - ms_rest) / queries), max(0, (ms_query - ms_rest) / levels)
    return {
        "levels": levels,
        "n_queries": queries,
        "mean": frame["y"].mean(),
        "sd_factor": math.sqrt(factor),
        "sd_query": math.sqrt(query),
        "sd_rest": math.sqrt(ms_rest),
        "se_queries": math.sqrt(query / queries + ms_rest / (levels * queries)),
        "se_all": math.sqrt(factor / levels + query / queries + ms_rest / (levels * queries)),
        "share": factor / (factor + query + ms_rest),
    }


def assert_same(found: Row, expected: Row) -> None:
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-9, rel=0)


@pytest.mark.parametrize(("parameter", "factor"), [("seed", "examples"), ("order", "order")])
def test_crossed_components_are_those_of_statsmodels(made: Made, parameter: str, factor: str) -> None:
    first = "urial[k=2]" if parameter == "order" else "urial[k=2,seed=1]"
    methods = [first, *(f"urial[k=2,{parameter}={n}]" for n in (2, 3, 4))]
    values = scores_of(made, methods)
    (row,) = made.rows("variance_components", factor=factor, metric="avg")
    assert (row["method"], row["base_method"], row["model"]) == ("urial[k=2]", "urial", "Made 1B")
    assert_same(row, crossed(values, methods))
    assert {one["metric"] for one in made.rows("variance_components")} == {*ASPECTS, "avg", "contains"}


@pytest.mark.parametrize("factor", ["draws", "judge"])
def test_nested_components_are_those_of_statsmodels(made: Made, factor: str) -> None:
    random, values = np.random.default_rng(3), []
    made.cell("urial")
    for query in range(2, N_QUERIES):
        level = random.normal(3, 0.6)
        for number in range(3):
            aspects = np.clip(level + random.normal(0, 0.5, len(ASPECTS)), 1, 5)
            if factor == "draws":
                made.judge(made.answer("urial", query, number + 1), list(aspects))
            else:
                response = made.answer("urial", query) if number == 0 else f"urial {query} None"
                made.judge(response, list(aspects), number)
            values.append((query, aspects.mean()))
    frame = pd.DataFrame(values, columns=["q", "y"])
    ms_query, ms_within = anova_lm(ols("y ~ C(q)", frame).fit())["mean_sq"]
    queries, query = N_QUERIES - 2, max(0, (ms_query - ms_within) / 3)
    (row,) = made.rows("variance_components", factor=factor, metric="avg")
    assert row["sd_rest"] is None
    assert_same(row, {
        "levels": 3, "n_queries": queries, "mean": frame["y"].mean(), "sd_factor": math.sqrt(ms_within),
        "sd_query": math.sqrt(query), "se_queries": math.sqrt(query / queries),
        "se_all": math.sqrt(query / queries + ms_within / (3 * queries)), "share": ms_within / (ms_within + query),
    })  # fmt: skip


def test_methods_that_score_alike_have_no_variance_between_them(made: Made) -> None:
    """The order in which DuckDB adds fractions shows in no component."""
    methods = [f"urial[k=2,seed={n}]" for n in (1, 2, 3)]
    for step, method in zip((1, 5, 7), methods, strict=True):
        made.cell(method)
        for number in range(N_QUERIES):
            query = number * step % N_QUERIES
            made.judge(made.answer(method, query), [1 + (3 * query + i) % 5 / 3 for i in range(len(ASPECTS))])
    for row in made.rows("variance_components", factor="examples"):
        assert (row["sd_factor"], row["sd_rest"]) == (0, 0)


def test_an_effect_is_a_paired_difference_from_the_method_without_parameters(made: Made) -> None:
    drawn = ["urial[k=2,seed=1]", "urial[k=2,seed=2]"]
    values = scores_of(made, ["urial", *drawn, "urial[k=1]"])
    made.cell("zero-shot")
    (row,) = made.rows("method_effects", parameter="k", value="2", metric="avg", reading="strict")
    means = [np.mean([values[method, query] for query in range(N_QUERIES)]) for method in drawn]
    change = [np.mean([values[m, q] for m in drawn]) - values["urial", q] for q in range(N_QUERIES)]
    texts = [min(SAME_TEXT) if q in SAME_TEXT else q for q in range(N_QUERIES)]
    se, count = clustered(change, texts)
    half = stats.t.ppf(0.975, count - 1) * se
    assert_same(row, {"n_variants": 2, "mean": np.mean(means), "low": min(means), "high": max(means),
                      "difference": np.mean(change), "n": N_QUERIES})  # fmt: skip
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((np.mean(change) - half, np.mean(change) + half), abs=1e-6)
    (one,) = made.rows("method_effects", parameter="k", value="1", metric="avg", reading="strict")
    assert one["n"] == N_QUERIES - 1  # one answer has no mean
    assert [r["value"] for r in made.rows("method_effects", metric="contains") if r["parameter"] == "seed"] == [
        "1",
        "2",
    ]
    assert {r["reading"] for r in made.rows("method_effects")} == {"strict", "just_eval"}


def test_tables_and_pairs_keep_methods_with_parameters_apart(made: Made) -> None:
    scores_of(made, ["zero-shot", "urial", "urial[k=1]", "urial[k=2]"])
    assert {row["method"] for row in made.rows("paper_score_rows", origin="ours")} == {"zero-shot", "urial"}
    pairs = {(row["a"], row["b"]): row["with_parameters"] for row in made.rows("cell_pairs")}
    assert pairs == {("zero-shot", "urial"): False, ("urial", "urial[k=1]"): True, ("urial", "urial[k=2]"): True}
    families = {(row["family"], row["b"]): row["n_tests"] for row in made.rows("paired_differences", reading="strict")}
    assert families == {("table_2", "urial"): 6, ("parameters", "urial[k=1]"): 12, ("parameters", "urial[k=2]"): 12}


def test_the_tables_name_what_differs(made: Made) -> None:
    scores_of(made, ["urial", *(f"urial[k=2,seed={n}]" for n in (1, 2))])
    made.con.close()
    effects, variance = (icl.table(made.path, name) for name in ("methods", "variance"))
    assert effects.columns[:5] == ("template", "method", "parameter", "value", "metric")
    assert [row[1:4] for row in effects.rows if row[4] == "avg"] == [
        ("urial", "k", "2"), ("urial", "seed", "1"), ("urial", "seed", "2"),
    ]  # fmt: skip
    (row,) = (row for row in variance.dicts() if row["metric"] == "avg")
    assert (row["method"], row["factor"], row["levels"], row["queries"]) == ("urial[k=2]", "examples", 2, 10)
    assert 0 <= row["share"] <= 100
