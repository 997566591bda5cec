"""Cells: one key in Python and in SQL, nothing unlike in one cell, and databases of earlier versions."""

from __future__ import annotations

import hashlib
from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icl_local import store
from icl_local.exceptions import InputError
from icl_local.identity import cell_key
from icl_local.store import Store, upkeep
from icl_local.store.database import query, refuse_other_texts
from tests.judge_rows import database, response_rows
from tests.store.rows import response

PARTS = ("weights", "recipe", "dataset", "language", "settings_id")
SQL = "select substr(sha256(concat_ws(chr(31), 'cell', ?, ?, ?, ?, ?)), 1, 32)"


def rows_of(key: int, *, query_id: str = "q", text: str = "Why?", dataset: str = "d", **more: object) -> store_rows:
    query_key = hashlib.md5(f"{dataset}{query_id}{text}".encode()).hexdigest()
    asked = {"query_key": query_key, "dataset": dataset, "query_id": query_id, "language": "en", "split": "multi"}
    return [
        ("queries", {**asked, "instruction": text}),
        ("responses", response(key, query_key=query_key, gguf_sha256="g", settings_id="s", **more)),
    ]


store_rows = list[tuple[str, dict[str, object]]]


@settings(deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), min_size=5, max_size=5))
def test_the_key_is_the_same_in_python_and_in_sql(parts: list[str]) -> None:
    with duckdb.connect() as con:
        assert con.execute(SQL, parts).fetchone() == (cell_key(**dict(zip(PARTS, parts, strict=True))),)


def test_unlike_responses_are_never_in_one_cell(tmp_path: Path) -> None:
    db = tmp_path / "x.duckdb"
    prompt = {"method": "urial", "language": "en", "head": "h", "tail": "t", "stops": ["# Query:"]}
    with Store(db) as target:
        target.put([("prompts", {"prompt_id": name, **prompt}) for name in ("p1", "p2")])
        target.put(rows_of(1, prompt_id="p1"))
        target.put(rows_of(2, prompt_id="p1", dataset="e"))  # another query set
        target.put(rows_of(3, prompt_id="p2"))  # an edited prompt text
        target.put([(t, {**r, "gguf_sha256": "h"} if t == "responses" else r) for t, r in rows_of(4, prompt_id="p1")])
        target.put([(t, {**r, "settings_id": "z"} if t == "responses" else r) for t, r in rows_of(5, prompt_id="p1")])
        target.put(rows_of(6, prompt_id="p1", query_id="r"))  # a second query of the first cell
    assert query(db, "select n_responses from cells order by 1").rows == [(1,), (1,), (1,), (1,), (2,)]


def test_an_earlier_text_of_a_query_stands_in_a_cell_of_its_own(tmp_path: Path) -> None:
    db = tmp_path / "x.duckdb"
    with Store(db) as target:
        target.put([*rows_of(1, text="old", created_at="2026-01-01"), *rows_of(2, text="new", created_at="2026-01-02")])
    found = query(db, "select response_id, dataset from responses order by 1").rows
    assert found == [("1", "d (earlier text 1)"), ("2", "d")]
    assert upkeep.rebuild(db).rows["responses"] == 2
    assert query(db, "select response_id, dataset from responses order by 1").rows == found


def test_a_query_stored_with_another_text_is_refused(tmp_path: Path) -> None:
    with Store(tmp_path / "x.duckdb") as target:
        target.put(rows_of(1, text="Why?"))
        refuse_other_texts(target.named, "d", "en", {"q": "Why?", "r": "How?"})
        refuse_other_texts(target.named, "d", "fr", {"q": "Pourquoi ?"})
        with pytest.raises(InputError, match=r"'q' of query set d .* give --dataset NAME"):
            refuse_other_texts(target.named, "d", "en", {"q": "Why not?"})


def test_doctor_reports_a_query_with_two_responses_in_a_cell(tmp_path: Path) -> None:
    db = tmp_path / "x.duckdb"
    with Store(db) as target:
        target.put([*rows_of(1, cell_id="c"), *rows_of(2, cell_id="c")])
    found = [finding.message for finding in upkeep.check(db) if "has 2 responses" in finding.message]
    assert found == ["cell c: query q has 2 responses; remove all but one with `icl db forget`"]


def test_cells_come_back_with_a_rebuild(tmp_path: Path) -> None:
    db = tmp_path / "x.duckdb"
    with Store(db) as target:
        target.put(rows_of(1))
    before = query(db, "select * from raw.cells").rows
    db.unlink()
    upkeep.rebuild(db)
    assert query(db, "select * from raw.cells").rows == before
    assert store.ids(db, "cells", "cell_id") == {before[0][0]}


def test_responses_whose_naming_was_killed_get_their_cells_at_the_next_reading(tmp_path: Path) -> None:
    """The ingest commits rows before their cells; a kill between the two must not leave them without."""
    db = database(tmp_path / "x.duckdb", response_rows(3))
    with store.writer(db, wait_seconds=5) as con:
        con.execute("update raw.responses set cell_id = null")
        con.execute("delete from raw.cells")
    assert store.query(db, "select count(*), count(distinct cell_id) from responses").rows == [(3, 1)]
    assert store.query(db, "select n_responses from cells").rows == [(3,)]
