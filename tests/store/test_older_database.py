"""A database of version 0.1.0, from before the views had macros: tests/synthetic.py with 10 queries a cell."""

from __future__ import annotations

import lzma
import math
from pathlib import Path

import duckdb
import pytest

from icl_local import store
from icl_local.store import schema

VALUES = ("table_3", "table_8", "figure_2", "score_means", "score_breakdown", "error_breakdown", "judge_ledger")
CHANGED = {"ci_low", "ci_high", "cell_id"}  # intervals are by Student's t since; cells have keys of their own
FILE = Path(__file__).parents[1] / "data" / "older.duckdb.xz"


@pytest.fixture
def older(tmp_path) -> Path:
    path = tmp_path / "older.duckdb"
    path.write_bytes(lzma.decompress(FILE.read_bytes()))
    return path


def columns(con: duckdb.DuckDBPyConnection) -> dict[str, list[str]]:
    listed = "select view_name from duckdb_views() where schema_name = 'main' and not internal"
    views = [view for (view,) in con.execute(listed).fetchall()]
    return {view: [row[0] for row in con.execute(f"describe main.{view}").fetchall()] for view in views}


def values(con: duckdb.DuckDBPyConnection, view: str, names: list[str]) -> list[str]:
    """Return the rows of these columns as sorted text, floats to nine digits."""
    kept = [name for name in names if name not in CHANGED]
    found = con.execute(f"select {', '.join(kept)} from main.{view}").fetchall()
    return sorted(str(_rounded(row)) for row in found)


def _rounded(value: object) -> object:
    if isinstance(value, float):
        return "nan" if math.isnan(value) else f"{value:.9g}"
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return value


def test_opening_it_keeps_the_views_columns_and_values(older):
    with duckdb.connect(str(older), read_only=True) as con:
        known = columns(con)
        before = {view: values(con, view, known[view]) for view in VALUES}
    with store.reader(older) as con:
        assert not schema.outdated(con, older)
    with duckdb.connect(str(older), read_only=True) as con:
        now = columns(con)
        for view, names in known.items():
            assert set(names) <= set(now[view]), view
        for view, rows in before.items():
            assert values(con, view, known[view]) == rows, view
            assert rows


def test_its_responses_are_in_cells(older):
    found = store.query(older, "select count(*), count(distinct cell_id), count(cell_id) from raw.responses").rows
    assert found == [(410, 60, 410)]


def test_it_takes_new_rows(older):
    with store.Store(older) as target:
        target.put([("datasets", {"dataset": "mine", "source": "file", "created_at": store.now()})])
    assert store.query(older, "select count(*) from raw.datasets where dataset = 'mine'").rows == [(1,)]
