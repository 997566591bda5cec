"""Draws in the views, the figure and the judge: one cell decoded greedily and with three draws a query."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from statsmodels.stats.proportion import proportion_confint

import icl_local
from icl_local import store
from icl_local.results import answers, figures, paper_tables
from tests.shared import copy_empty_database

LOOPS = {"0": (True, True, True), "1": (False, True, False), "2": (False,) * 3, "3": (False,) * 3}
GREEDY = ("0", "1")  # the queries that loop


@pytest.fixture(scope="module")
def decoded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("draws") / "d.duckdb"
    copy_empty_database(path)
    names = {"model_id": "m", "gguf_sha256": "g", "method": "urial", "language": "en"}
    sampling = {"temperature": 0.7, "top_p": 0.9, "min_p": 0.0}
    rows: list[tuple[str, dict[str, object]]] = [
        ("models", {"model_id": "m", "label": "Tiny", "variant": "base", "dpo": False})
    ]
    for cell, more in (("greedy", {}), ("warm", sampling)):
        rows.append(("settings", {"settings_id": cell, "backend": "llama.cpp", "max_tokens": 9, **more}))
        parts = {"cell_id": cell, "weights": "g", "recipe": "p", "dataset": "d", "settings_id": cell}
        rows.append(("cells", {**names, **parts}))
    for query, draws in LOOPS.items():
        asked = {"dataset": "d", "query_id": query, "language": "en", "split": "multi", "task": []}
        rows.append(("queries", {"query_key": query, **asked, "instruction": f"{query}?"}))
        for number, loops in [(0, query in GREEDY), *enumerate(draws, 1)]:
            cell = "warm" if number else "greedy"
            row = {
                **names,
                "response_id": f"{query} {number}",
                "query_key": query,
                "run_id": "r",
                "cell_id": cell,
                "settings_id": cell,
                "text": f"loops {loops}",
                "raw_text": "",
                "finish_reason": "eog",
                "text_language": "es" if (query, number) == ("3", 2) else "en",
                "created_at": store.now(),
                **({"draw_seed": 1, "draw": number} if number else {}),
            }
            error = {"response_id": row["response_id"], "error": "infinite_loop", "detector_version": "1"}
            rows += [("responses", row), ("critical_errors", {**error, "found": loops})]
    with store.Store(path) as target:
        target.put(rows)
    return path


def test_a_rate_over_draws_is_the_mean_of_shares_with_the_error_between_queries(decoded: Path) -> None:
    columns = "temperature, error, percent, n_errors, n, n_queries, ci_low, ci_high"
    found = store.query(decoded, f"select {columns} from decoding_errors order by all").rows
    assert [row[:6] for row in found] == [
        (0.0, "infinite_loop", 50.0, 2, 4, 4),
        (0.0, "other_language", 0.0, 0, 4, 4),
        (0.7, "infinite_loop", pytest.approx(100 / 3), 4, 12, 4),
        (0.7, "other_language", pytest.approx(100 / 12), 1, 12, 4),
    ]
    for row, variance in ((found[0], 1 / 4), (found[2], (1 + 1 / 9) / 4 - 1 / 9)):
        share = row[2] / 100
        size = 4 * share * (1 - share) / variance
        low, high = proportion_confint(share * size, size, method="wilson")
        assert row[6:] == pytest.approx((100 * low, 100 * high))


def test_draws_of_a_query_are_compared_with_each_other(decoded: Path) -> None:
    columns = "temperature, n_queries, draws, distinct_texts, loops_in_all, loops_in_some, loops_in_none"
    assert store.query(decoded, f"select {columns} from draw_diversity").rows == [(0.7, 4, 3.0, 1.25, 1, 1, 2)]


def test_tables_take_greedy_cells_first_and_count_queries(decoded: Path) -> None:
    sql = "select cell_id, table_place, n_responses, n_multi from cells order by table_place"
    assert store.query(decoded, sql).rows == [("greedy", 1, 4, 4), ("warm", 2, 12, 4)]


def test_the_figure_of_decoding_has_a_band_for_each_temperature(decoded: Path) -> None:
    with paper_tables.open_views(decoded) as views:
        figure = figures.draw(views, "decoding")
    assert figure is not None
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["greedy", "temperature 0.7"]
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["infinite loops", "another language"]


def test_answers_say_their_draw(decoded: Path) -> None:
    (query,) = answers.find(decoded, "1", store.Selection())
    assert [one["sampling"] for one in query["answers"]] == [
        None,
        *(f"temperature 0.7, top-p 0.9, draw {n} of seed 1" for n in (1, 2, 3)),
    ]
    assert answers.title(query["answers"][2]).endswith("urial · temperature 0.7, top-p 0.9, draw 2 of seed 1")


def test_a_judge_can_be_given_the_first_draws_alone(decoded: Path, tmp_path: Path) -> None:
    db = Path(shutil.copy(decoded, tmp_path))
    for draws, judged in ((1, 8), (None, 16)):
        icl_local.judge(db, judge="rules", draws=draws, progress=None)
        assert store.query(db, "select count(distinct response_id) from raw.judgments").rows == [(judged,)]
