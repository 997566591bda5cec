"""The paper's tables, figures and sentences: views against pandas, published cells against their own sentences."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest

from tests import reference

JUDGE = "openai:synthetic-judge"
PAPER_VIEWS = [
    *(f"table_{name}" for name in "123468"),
    *(f"figure_{name}" for name in "234"),
    *("text_statistics", "versus_paper", "published_audit"),
]
KEYS = ["language", "model", "method", "dpo"]


@pytest.fixture
def published(empty_database: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """The published cells alone; what a test changes is taken back."""
    with duckdb.connect(str(empty_database)) as con:
        con.begin()
        yield con
        con.rollback()


def assert_close(ours: pd.DataFrame, theirs: pd.DataFrame, keys: list[str], columns: list[str]) -> None:
    """Both frames have the same keys and, to 1e-9, the same columns."""
    assert len(ours)
    left = ours.set_index(keys)[columns].sort_index().astype("float64")
    right = theirs.set_index(keys)[columns].sort_index().astype("float64")
    pd.testing.assert_frame_equal(left, right, check_exact=False, rtol=0, atol=1e-9, check_names=False)


@pytest.mark.parametrize("name", ["study", "complicated"])
def test_score_means_equal_pandas(name: str, request: pytest.FixtureRequest) -> None:
    path = request.getfixturevalue(name)
    wanted = reference.means(path)
    wanted["se"] = wanted["sd"] / wanted["n"] ** 0.5
    wanted["ci_low"], wanted["ci_high"] = zip(
        *(
            reference.score_interval(row["mean"], row["se"], row["n"], row["n"] - 1)
            for row in wanted[["mean", "se", "n"]].to_dict("records")
        ),
        strict=True,
    )
    answered = reference.responses(path)
    answered = answered[~answered["finish_reason"].isin(["prompt_too_long", "error"])]
    counted = answered.assign(safety=answered["split"] == "safety").groupby([*reference.CELL, "safety"]).size()
    counted = counted.rename("n_expected").reset_index()
    wanted = wanted.assign(safety=wanted["metric"] == "safety").merge(counted, on=[*reference.CELL, "safety"])
    keys = [*reference.CELL, "judge", "template_sha256", "reading", "metric"]
    columns = ["mean", "sd", "se", "ci_low", "ci_high", "n", "n_expected"]
    assert_close(reference.view(path, "score_means"), wanted, keys, columns)


@pytest.mark.parametrize("name", ["study", "complicated"])
@pytest.mark.parametrize("reading", ["strict", "just_eval"])
def test_score_tables_and_figures_equal_pandas(name: str, reading: str, request: pytest.FixtureRequest) -> None:
    path = request.getfixturevalue(name)
    wanted = reference.score_table(path, judge=JUDGE, reading=reading).reset_index()
    columns = list(reference.SHOWN)

    def judged(table: str) -> pd.DataFrame:
        found = reference.view(path, table, reading=reading)
        return found[found["n_judged"] > 0]

    english = wanted[(wanted["language"] == "en") & ~wanted["dpo"]]
    assert_close(judged("table_1"), english, ["model", "method"], columns)
    assert_close(judged("table_2"), wanted[~wanted["dpo"]], ["language", "model", "method"], columns)
    assert_close(judged("table_3"), wanted, KEYS, columns)
    long = wanted.melt(KEYS, columns, "metric", "value").dropna()
    long["metric"] = long["metric"].map(reference.SHOWN)
    long = long[long["metric"] != "avg"]
    multilingual = wanted[~wanted["dpo"]].groupby("model")["language"].nunique()
    in_figure_2 = ~long["dpo"] & long["model"].isin(multilingual[multilingual > 1].index)
    keys = ["language", "model", "method", "metric"]
    assert_close(reference.view(path, "figure_2", reading=reading), long[in_figure_2], keys, ["value"])
    aligned = set(map(tuple, wanted[wanted["dpo"]][["language", "model"]].to_numpy()))
    in_figure_3 = [tuple(cell) in aligned for cell in long[["language", "model"]].to_numpy()]
    assert_close(reference.view(path, "figure_3", reading=reading), long[in_figure_3], [*KEYS, "metric"], ["value"])


@pytest.mark.parametrize("name", ["study", "complicated"])
def test_error_tables_and_figure_equal_pandas(name: str, request: pytest.FixtureRequest) -> None:
    path = request.getfixturevalue(name)
    wanted = reference.error_table(path).reset_index()
    columns = ["infinite_loop", "unintended_code"]
    english = (wanted["language"] == "en") & ~wanted["dpo"]
    assert_close(reference.view(path, "table_4"), wanted[english], ["model", "method"], columns)
    others = wanted[(wanted["language"] != "en") & ~wanted["dpo"]]
    assert_close(reference.view(path, "table_6"), others, ["language", "model", "method"], columns)
    assert_close(reference.view(path, "table_8"), wanted, KEYS, columns)
    long = wanted.melt(KEYS, columns, "error", "percent")
    assert_close(reference.view(path, "figure_4"), long, [*KEYS, "error"], ["percent"])
    assert_close(
        reference.view(path, "error_rates"), reference.rates(path), [*reference.CELL, "error"], ["percent", "n"]
    )


def test_versus_paper_and_sentences_equal_pandas(study: Path) -> None:
    scores = reference.score_table(study, judge=JUDGE).rename(columns=reference.SHOWN).stack()
    errors = reference.error_table(study).stack()
    ours = pd.concat([scores.rename_axis([*KEYS, "metric"]), errors.rename_axis([*KEYS, "metric"])]).rename("value")
    versus = reference.view(study, "versus_paper")
    wanted = versus.merge(ours.reset_index(), on=[*KEYS, "metric"], how="left")
    assert len(versus) == 299 + 70
    assert (wanted["ours"] - wanted["value"]).abs().max() < 1e-9
    assert ((wanted["difference"] - (wanted["value"] - wanted["published"])).abs() < 1e-9).all()
    inside = (versus["published"] >= versus["ci_low"]) & (versus["published"] <= versus["ci_high"])
    assert (versus["published_inside"].astype(bool) == inside).all()

    def mean(metric: str, models: tuple[str, ...], languages: tuple[str, ...], method: str) -> float:
        return float(sum(ours[c, m, method, False, metric] for c in languages for m in models)) / (
            len(models) * len(languages)
        )

    medium, small = ("Llama3.1 8B", "EuroLLM 9B"), ("Llama3.2 1B", "EuroLLM 1.7B")
    found = reference.view(study, "text_statistics")
    found = found[found["origin"] == "ours"].drop_duplicates(["section", "statement"])
    value = found.set_index(["section", "statement"])["value"]
    for method, name in (("zero-shot", "zero-shot"), ("urial", "URIAL"), ("instruct", "instruct")):
        everywhere = value["5.1", f"Medium models, three languages, {name}: five-aspect mean"]
        assert everywhere == pytest.approx(mean("avg", medium, ("en", "es", "fr"), method), abs=1e-9)
        gap = value["5.2", f"Small less medium models, English, {name}: safety"]
        by_hand = mean("safety", small, ("en",), method) - mean("safety", medium, ("en",), method)
        assert gap == pytest.approx(by_hand, abs=1e-9)
    gain = value["5.3", "DPO gain, EuroLLM 1.7B, URIAL: five-aspect mean"]
    cells = [ours["en", "EuroLLM 1.7B", "urial", dpo, "avg"] for dpo in (True, False)]
    assert gain == pytest.approx(cells[0] - cells[1], abs=1e-9)


@pytest.mark.parametrize("name", ["study", "complicated"])
def test_rows_behind_the_tables_equal_pandas(name: str, request: pytest.FixtureRequest) -> None:
    path = request.getfixturevalue(name)
    keys = ["response_id", "judge_id", "template_sha256"]
    found = reference.view(path, "response_scores").rename(columns={"language": "language score"})
    metrics = ["language score" if metric == "language" else metric for metric in reference.METRICS]
    for reading in ("strict", "just_eval"):
        assert_close(found[found["reading"] == reading], reference.verdicts(path, reading), keys, metrics)
    outcomes = reference.outcomes(path)
    assert_close(reference.view(path, "response_errors"), outcomes, ["response_id", "error"], ["failed"])
    joined = reference.responses(path)
    answered, safety = ~joined["finish_reason"].isin(["prompt_too_long", "error"]), joined["split"] == "safety"
    joined = joined.assign(n_responses=1, n_multi=answered & ~safety, n_safety=answered & safety)
    counts = ["n_responses", "n_multi", "n_safety"]
    wanted = joined.groupby(reference.CELL)[counts].sum().reset_index()
    assert_close(reference.view(path, "cells"), wanted, reference.CELL, counts)
    assert_close(reference.view(path, "paper_cells"), wanted.merge(reference.shown_cells(path)), reference.CELL, counts)
    sizes = reference.raw(path, "models")[["label", "parameters"]].rename(columns={"label": "model"}).drop_duplicates()
    shown = reference.score_table(path, judge=JUDGE).rename(columns=reference.SHOWN)[["avg", "safety"]]
    wanted = shown.reset_index().melt(KEYS, ["avg", "safety"], "metric").dropna().merge(sizes, on="model")
    assert_close(reference.view(path, "size_scores"), wanted, [*KEYS, "metric"], ["value", "parameters"])


@pytest.mark.parametrize("name", ["study", "complicated"])
def test_breakdowns_equal_pandas(name: str, request: pytest.FixtureRequest) -> None:
    path = request.getfixturevalue(name)
    joined = reference.responses(path)[["response_id", "task", "topic", "source_set", "difficulty", "text"]]
    known = {
        name: [
            ["unknown"] if (found := reference.labels(value)) is None else found or ["none"] for value in joined[name]
        ]
        for name in ("task", "topic")
    }
    bins = [-1, 250, 500, 1000, 2000, 4000, 10**9]
    names = ["0000-0250", "0251-0500", "0501-1000", "1001-2000", "2001-4000", "4001 or more"]
    joined = joined.assign(**known, length=pd.cut(joined["text"].str.len(), bins, labels=names).astype(str))
    cells = reference.shown_cells(path)
    verdicts = reference.verdicts(path, "strict").merge(cells, on=reference.CELL)
    outcomes = reference.outcomes(path).merge(cells, on=reference.CELL)
    scores = reference.view(path, "score_breakdown")
    errors = reference.view(path, "error_breakdown")
    for dimension in ("task", "topic", "source_set", "difficulty", "length"):
        groups = joined[["response_id", dimension]].explode(dimension).rename(columns={dimension: "value"})
        grouped = verdicts.merge(groups, on="response_id").groupby([*KEYS, "judge", "template_sha256", "value"])
        wanted = grouped["avg"].agg(["mean", "count"]).reset_index().rename(columns={"count": "n"})
        found = scores[
            (scores["dimension"] == dimension) & (scores["metric"] == "avg") & (scores["reading"] == "strict")
        ]
        templates = reference.raw(path, "judge_templates").rename(columns={"name": "template"})
        wanted = wanted[wanted["n"] > 0].merge(templates[["template_sha256", "template"]], on="template_sha256")
        assert_close(found, wanted, [*KEYS, "judge", "template", "value"], ["mean", "n"])
        drop = [name for name in ("task", "topic", "source_set", "difficulty") if name in outcomes]
        failed = (
            outcomes.drop(columns=drop).merge(groups, on="response_id").groupby([*KEYS, "error", "value"])["failed"]
        )
        wanted = failed.agg(["sum", "count"]).reset_index().rename(columns={"sum": "n_errors", "count": "n"})
        assert_close(errors[errors["dimension"] == dimension], wanted, [*KEYS, "error", "value"], ["n_errors", "n"])


def test_a_cell_nobody_judged_is_there_with_what_is_expected(complicated: Path) -> None:
    table = reference.view(complicated, "table_2")
    unjudged = table[(table["language"] == "fr") & (table["method"] == "urial")]
    assert len(unjudged) == 2
    assert (unjudged["n_judged"] == 0).all()
    assert (unjudged["n_expected"] > 40).all()
    assert unjudged["avg"].isna().all()


def test_tables_take_the_judge_with_most_scores_unless_one_is_named(complicated: Path) -> None:
    assert set(reference.view(complicated, "table_1")["judge"]) == {JUDGE}
    other = reference.view(complicated, "table_1", judge="local:second.gguf")
    assert set(other["judge"].dropna()) == {"local:second.gguf"}
    wanted = reference.score_table(complicated, judge="local:second.gguf").loc["en"].reset_index()
    judged = other[other["n_judged"] > 0]
    assert_close(judged, wanted[~wanted["dpo"]], ["model", "method"], list(reference.SHOWN))


def test_published_cells_reproduce_every_average_and_sentence_or_name_the_slip(
    published: duckdb.DuckDBPyConnection,
) -> None:
    published.execute("set variable icl_origin = 'published'")
    for number, count in ((1, 12), (2, 18), (3, 11)):
        fits = published.execute(
            f"""
            select count(*), count(*) filter (where abs(t.avg - p.published) <= 0.011)
            from table_{number} as t
            join published_scores as p on p.paper_table = 'table_{number}' and p.metric = 'avg'
                and p.model = t.model and p.method = t.method
                and p.language = {"'en'" if number == 1 else "t.language"}
                and p.dpo = {"t.dpo" if number == 3 else "false"}
            """
        ).fetchone()
        assert fits == (count, count - 2 * (number == 2))
    statements = published.execute("select * from text_statistics where origin = 'published'").df()
    assert len(statements) == 50
    assert statements["value"].notna().all()
    assert (statements["slip"].notna() == (statements["agrees"] == False)).all()  # noqa: E712
    assert (statements["n_cells"] == statements["n_cells_published"]).all()
    slips = published.execute(
        "select finding, place, count(*) from published_audit group by all order by all"
    ).fetchall()
    assert slips == [
        ("average does not fit", "table_2", 2),
        ("model name", "table_2", 1),
        ("no share of 1,000", "table_6", 2),
        ("outside 1 to 5", "table_2", 1),
        ("row repeated", "table_2", 1),
        ("sentence", "section 5.1", 3),
        ("sentence", "section 5.2", 1),
        ("sentence", "section 5.3", 2),
        ("sentence", "section 6", 2),
        ("tables differ", "table_2", 8),
    ]


@pytest.mark.parametrize(
    "change, section, statement, moved",
    [
        ("metric = 'depth' and model = 'EuroLLM 9B' and method = 'urial' and language = 'fr'", "5.1",
         "Medium models, three languages, URIAL: five-aspect mean", 0.5 / 30),
        ("metric = 'safety' and model = 'Llama3.2 1B' and method = 'instruct' and language = 'en'", "5.2",
         "Small less medium models, English, instruct: safety", 0.25),
        ("metric = 'language' and model = 'Llama3.1 8B' and method = 'zero-shot' and language = 'es'", "5.1",
         "Medium models, Spanish and French, zero-shot: language score", 0.125),
    ],
)  # fmt: skip
def test_changing_one_cell_changes_its_sentence(
    published: duckdb.DuckDBPyConnection, change: str, section: str, statement: str, moved: float
) -> None:
    def value() -> tuple[float, bool]:
        found = published.execute(
            "select value, agrees from text_statistics where origin = 'published' and section = ? and statement = ?",
            [section, statement],
        ).fetchone()
        assert found is not None
        return found

    before, agreed = value()
    assert agreed
    published.execute(f"update raw.published_scores set published = published + 0.5 where {change} and not dpo")
    after, agrees = value()
    assert after - before == pytest.approx(moved)
    assert not agrees


def test_an_error_rate_changes_its_sentence(published: duckdb.DuckDBPyConnection) -> None:
    ask = (
        "select agrees from text_statistics where origin = 'published' and section = '6' "
        "and statement = 'DPO, Llama3.2 1B, zero-shot: infinite loops in percentage points'"
    )
    assert published.execute(ask).fetchone() == (False,)
    published.execute("update raw.published_errors set published_percent = 0.1 where dpo and model = 'Llama3.2 1B'")
    assert published.execute(ask).fetchone() == (True,)


def intermediate_rows(node: dict[str, Any]) -> int:
    """Add up the rows that the operators of a DuckDB profile hand on."""
    rows = node.get("intermediate_rows", node.get("operator_cardinality", 0))
    below = [*node.get("operator", []), *node.get("children", [])]
    return int(rows) + sum(map(intermediate_rows, below))


def test_all_paper_views_together_read_a_response_a_bounded_number_of_times(study: Path) -> None:
    with duckdb.connect(str(study), read_only=True) as con:
        plans = [con.execute(f"explain (analyze, format json) select * from {view}").fetchone() for view in PAPER_VIEWS]
        (n_responses,) = con.execute("select count(*) from raw.responses").fetchone() or (0,)
    rows = sum(intermediate_rows(json.loads(plan[1])) for plan in plans if plan)
    assert 12 * n_responses < rows < 550 * n_responses
