"""The views of responses, critical errors, progress and throughput: what they count, and one row of what they are."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from icl_local.store import upkeep
from icl_local.store.database import Store, query
from tests.store.rows import error_row, response

TIME = "2026-11-21T10:00:00+00:00"
MODELS = [
    {"model_id": "m1", "label": "Llama3.2 1B", "variant": "base", "dpo": False, "size_class": "small"},
    {"model_id": "m2", "label": "Llama3.2 1B", "variant": "base", "dpo": True, "size_class": "small"},
    {"model_id": "m3", "label": "gpt-x", "variant": "imported", "dpo": False},
]
FILES = [
    {"gguf_sha256": f"g{i}", "file_name": f"{i}.gguf", "source": "file", "bytes": 1, "quantization": kind}
    for i, kind in ((1, "Q4_K_M"), (2, "Q8_0"))
]
# query_key -> task; q0 asks for code, q1 does not, q2 is a safety query, q3 has unknown tasks
TASKS: dict[str, list[str] | None] = {"q0": ["coding", "math"], "q1": ["writing"], "q2": [], "q3": None}


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with models, files, queries and a run, and no response."""
    path = tmp_path_factory.mktemp("known") / "x.duckdb"
    with Store(path) as target:
        target.put([("models", row) for row in MODELS])
        target.put([("gguf_files", row) for row in FILES])
        target.put([("datasets", {"dataset": "d", "source": "d.jsonl"})])
        target.put(
            [
                (
                    "queries",
                    {
                        "query_key": key,
                        "dataset": "d",
                        "query_id": key[1:],
                        "language": "en",
                        "split": "safety" if task == [] else "multi",
                        "task": task,
                        "instruction": f"question {key}",
                    },
                )
                for key, task in TASKS.items()
            ]
        )
        target.put([("runs", {"run_id": "r", "command": "run", "version": "0", "started_at": TIME})])
        target.put([("settings", {"settings_id": key, "backend": "llama.cpp"}) for key in ("s1", "s2")])
    return path


@pytest.fixture
def db(known: Path, tmp_path: Path) -> Path:
    """A copy of it, with its spool."""
    shutil.copytree(known.parent, tmp_path, dirs_exist_ok=True)
    return tmp_path / known.name


_numbers = iter(range(10**6))


def answers(
    *query_keys: str, found: dict[str, str] | None = None, **more: object
) -> list[tuple[str, dict[str, object]]]:
    """A response to each query; ``found`` names the error that the answer to a query has."""
    records: list[tuple[str, dict[str, object]]] = []
    for query_key in query_keys:
        key = next(_numbers)
        row = {"model_id": "m1", "gguf_sha256": "g1", "settings_id": "s1", "created_at": TIME, **more}
        records.append(("responses", response(key, query_key=query_key, **row)))
        for error in ("infinite_loop", "infinite_loop_literal", "unintended_code"):
            records.append(("critical_errors", error_row(key, error, found=(found or {}).get(query_key) == error)))
    return records


def put(db: Path, *records: tuple[str, dict[str, object]]) -> None:
    with Store(db) as target:
        target.put(records)


def rows(db: Path, sql: str) -> list[tuple[Any, ...]]:
    return query(db, sql).rows


RATES = "select error, n_errors, n, round(percent, 1) from error_rates where model = 'Llama3.2 1B' order by error"


def test_code_counts_where_the_task_is_known_and_is_not_coding(db: Path) -> None:
    everywhere = dict.fromkeys(TASKS, "unintended_code")
    put(db, *answers(*TASKS, found=everywhere))
    assert rows(db, RATES)[-1] == ("unintended_code", 2, 3, 66.7)
    assert rows(db, "select query_id, counted from critical_errors order by query_id") == [
        ("0", False),
        ("1", True),
        ("2", True),
        ("3", None),
    ]


def test_loops_count_over_all_responses_whatever_the_task_and_both_readings_apart(db: Path) -> None:
    put(db, *answers(*TASKS, found={"q3": "infinite_loop_literal", "q0": "infinite_loop"}))
    assert rows(db, RATES)[:2] == [("infinite_loop", 1, 4, 25.0), ("infinite_loop_literal", 1, 4, 25.0)]


def test_a_cell_without_errors_has_its_rows_at_zero(db: Path) -> None:
    put(db, *answers("q0", "q1"))
    assert rows(db, RATES) == [
        ("infinite_loop", 0, 2, 0.0),
        ("infinite_loop_literal", 0, 2, 0.0),
        ("unintended_code", 0, 2, 0.0),
    ]


def test_prompts_that_did_not_fit_and_failures_are_not_answers(db: Path) -> None:
    put(db, *answers("q0"), *answers("q1", finish_reason="prompt_too_long"), *answers("q2", finish_reason="error"))
    assert {n for _, _, n, _ in rows(db, RATES)} == {1}
    assert rows(db, "select done, n_prompt_too_long, n_failed from progress") == [(3, 1, 1)]


def test_settings_and_quantizations_are_never_pooled(db: Path) -> None:
    put(db, *answers("q0"), *answers("q0", settings_id="s2"), *answers("q0", gguf_sha256="g2"))
    cells = rows(db, "select quantization, settings_id, n from error_rates where error = 'infinite_loop' order by all")
    assert cells == [("Q4_K_M", "s1", 1), ("Q4_K_M", "s2", 1), ("Q8_0", "s1", 1)]


def test_the_papers_tables_show_the_setting_with_most_responses_then_the_latest(db: Path) -> None:
    put(db, *answers("q0", "q1", settings_id="s2"), *answers("q0", settings_id="s1"))
    assert rows(db, "select settings_id, n_responses from paper_cells") == [("s2", 2)]
    later = "2026-11-22T10:00:00+00:00"
    put(db, *answers("q2", settings_id="s1", created_at=later))
    assert rows(db, "select settings_id, n_responses from paper_cells") == [("s1", 2)]
    assert rows(db, "select model, method, n, quantization, settings_id from table_4") == [
        ("Llama3.2 1B", "urial", 2, "Q4_K_M", "s1")
    ]


def test_tables_of_scores_show_a_judged_cell_before_a_larger_one(db: Path) -> None:
    put(db, *answers("q0", settings_id="s1"))
    ((judged,),) = rows(db, "select response_id from responses")
    put(db, *answers("q0", "q1", settings_id="s2", created_at="2026-11-22T10:00:00+00:00"))
    template = {"template_sha256": "t", "name": "multi", "text": "", "metrics": ["clarity"]}
    verdict = {"judgment_id": "j", "attempt": 1, "response_id": judged, "judge_id": "j", "template_sha256": "t"}
    put(
        db,
        ("judges", {"judge_id": "j", "name": "local:j", "backend": "local", "model": "j"}),
        ("judge_templates", template),
        ("judgments", {**verdict, "repeat": 0, "status": "ok", "scores": [4.0], "not_applicable": [False],
                       "reasons": [""], "created_at": TIME}),
    )  # fmt: skip
    assert rows(db, "select clear, n_judged, n_expected, settings_id from table_1") == [(4.0, 1, 1, "s1")]
    assert rows(db, "select n, settings_id from table_4") == [(2, "s2")]


def test_tables_4_6_and_8_take_their_languages_and_models(db: Path) -> None:
    put(
        db,
        *answers("q0", "q1"),
        *answers("q0", language="fr"),
        *answers("q0", model_id="m2"),
        *answers("q1", model_id="m2", language="de"),
        *answers("q3", model_id="m3", gguf_sha256=None, settings_id=None, method="imported"),
    )
    assert rows(db, "select model, method, n from table_4 order by all") == [
        ("Llama3.2 1B", "urial", 2),
        ("gpt-x", "imported", 1),
    ]
    assert rows(db, "select language, model, method, n from table_6 order by all") == [
        ("fr", "Llama3.2 1B", "urial", 1)
    ]
    assert rows(db, "select language, model, method, dpo from table_8 order by all") == [
        ("de", "Llama3.2 1B", "urial", True),
        ("en", "Llama3.2 1B", "urial", False),
        ("en", "Llama3.2 1B", "urial", True),
        ("en", "gpt-x", "imported", False),
        ("fr", "Llama3.2 1B", "urial", False),
    ]


def test_imported_texts_have_their_label_and_no_file(db: Path) -> None:
    put(db, *answers("q3", model_id="m3", gguf_sha256=None, settings_id=None, finish_reason="imported"))
    assert rows(db, "select model, quantization, dpo, settings_id, task, split from responses") == [
        ("gpt-x", "none", False, "imported", None, "multi")
    ]


def test_a_response_with_broken_references_is_still_seen(db: Path) -> None:
    put(db, *answers("gone", model_id="gone", gguf_sha256="gone", settings_id="gone", run_id="gone", prompt_id="gone"))
    assert rows(db, "select model, quantization, query_id from responses") == [("gone", "none", None)]
    assert rows(db, "select table_name, column_name, key from broken_references order by all") == [
        ("responses", column, "gone")
        for column in ("gguf_sha256", "model_id", "prompt_id", "query_key", "run_id", "settings_id")
    ]


def test_a_response_never_scanned_is_reported(db: Path) -> None:
    put(db, answers("q0")[0])
    assert [finding.message for finding in upkeep.check(db)] == [
        "raw.responses: 1 unknown response_id (no critical_errors)"
    ]
    assert upkeep.redetect(db)["done"] == 1
    assert upkeep.check(db) == []


CELL: tuple[str, dict[str, object]] = (
    "cells",
    {
        "cell_id": "cell",
        "weights": "g1",
        "recipe": "p1",
        "dataset": "d",
        "language": "en",
        "settings_id": "s1",
        "method": "urial",
        "model_id": "m1",
        "gguf_sha256": "g1",
    },
)


def cell(
    key: str, *, status: str, n_wanted: int = 10, n_done: int = 4, **more: object
) -> tuple[str, dict[str, object]]:
    row: dict[str, object] = {
        "run_cell_id": key,
        "cell_id": "cell",
        "run_id": "r",
        "model_id": "m1",
        "gguf_sha256": "g1",
        "method": "urial",
        "language": "en",
        "settings_id": "s1",
        "status": status,
        "n_wanted": n_wanted,
        "n_done": n_done,
    }
    return "run_cells", {**row, **more}


def test_progress_knows_what_the_largest_run_wanted_and_how_the_latest_ended(db: Path) -> None:
    later = {"run_id": "r2", "command": "run", "version": "0", "started_at": "2026-11-22T00:00:00+00:00"}
    put(db, ("runs", later), CELL, *answers("q0", "q1", cell_id="cell"), cell("c1", status="done", n_wanted=8))
    put(db, cell("c2", status="started", n_wanted=5, run_id="r2"))
    assert rows(db, "select done, wanted, missing, status from progress") == [(2, 8, 6, "started")]
    put(db, cell("c2", status="failed", n_wanted=5, run_id="r2", error="llama.cpp died"))
    assert rows(db, "select done, wanted, status, error from progress") == [(2, 8, "failed", "llama.cpp died")]


def test_a_cell_that_made_nothing_yet_is_in_progress(db: Path) -> None:
    put(db, CELL, cell("c1", status="started", n_done=0))
    assert rows(db, "select model, quantization, method, language, done, wanted from progress") == [
        ("Llama3.2 1B", "Q4_K_M", "urial", "en", 0, 10)
    ]


def test_throughput_is_of_processes_and_leaves_out_those_that_made_nothing(db: Path) -> None:
    times = {"wall_seconds": 20.0, "prefill_seconds": 4.0, "decode_seconds": 10.0}
    tokens = {"prompt_tokens": 4000, "prefilled_tokens": 1200, "new_tokens": 800}
    put(db, cell("c1", status="done", **times, **tokens), cell("c2", status="failed", n_done=0, wall_seconds=5.0))
    columns = "new_tokens_per_second, decode_tokens_per_second, prefill_tokens_per_second, responses_per_hour"
    assert rows(db, f"select {columns}, process_id from throughput") == [(40.0, 80.0, 300.0, 720.0, "c1")]


def test_errors_by_cell_puts_the_rates_side_by_side(db: Path) -> None:
    put(db, *answers(*TASKS, found={"q1": "unintended_code", "q3": "infinite_loop"}))
    assert rows(
        db, "select infinite_loop, infinite_loop_literal, unintended_code, n, n_known_task from errors_by_cell"
    ) == [(25.0, 0.0, pytest.approx(33.333, abs=0.001), 4, 3)]


GRAINS = {
    "responses": "response_id",
    "critical_errors": "response_id, error",
    "error_rates": "cell_id, error",
    "errors_by_cell": "cell_id",
    "paper_cells": "model, method, language, dpo",
    "progress": "cell_id",
    "throughput": "process_id",
    "table_4": "model, method",
    "table_6": "language, model, method",
    "table_8": "language, model, method, dpo",
}


def test_every_view_has_one_row_of_what_it_says(db: Path) -> None:
    put(
        db,
        *answers(*TASKS, found={"q1": "infinite_loop"}),
        *answers(*TASKS, model_id="m2", settings_id="s2", found={"q1": "unintended_code"}),
        *answers(*TASKS, gguf_sha256="g2", language="fr"),
        cell("c1", status="done", wall_seconds=1.0),
        cell("c2", status="done", wall_seconds=1.0),
    )
    for view, grain in GRAINS.items():
        ((all_rows, distinct),) = rows(db, f"select count(*), count(distinct ({grain})) from {view}")
        assert all_rows == distinct > 0, view
