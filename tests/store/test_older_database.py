"""A database of version 0.1.0, from before the views had macros: tests/synthetic.py with 10 queries a cell."""

from __future__ import annotations

import lzma
import math
from pathlib import Path

import duckdb
import pytest

from icl_local import store
from icl_local.store import schema

VALUES = ("table_3", "table_8", "figure_2", "paired_differences", "score_breakdown", "error_breakdown", "judge_ledger")
FILE = Path(__file__).parents[1] / "data" / "older.duckdb.xz"


@pytest.fixture
def older(tmp_path) -> Path:
    path = tmp_path / "older.duckdb"
    path.write_bytes(lzma.decompress(FILE.read_bytes()))
    return path


def contents(path: Path) -> dict[str, tuple[list[str], list[str]]]:
    """Return of each view its columns and, of VALUES, its rows as sorted text, floats to nine digits."""
    views = {}
    with duckdb.connect(str(path), read_only=True) as con:
        for view in schema.views():
            read = view.name in VALUES
            found = con.execute(f"select * from main.{view.name} limit {10**9 * read}")
            columns = [column[0] for column in found.description]
            views[view.name] = columns, sorted(str(_rounded(row)) for row in found.fetchall())
            assert views[view.name][1] or not read
    return views


def _rounded(value: object) -> object:
    if isinstance(value, float):
        return "nan" if math.isnan(value) else f"{value:.9g}"
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return value


def test_opening_it_keeps_the_views_columns_and_values(older):
    before = contents(older)
    with store.reader(older) as con:
        assert not schema.outdated(con, older)
    assert contents(older) == before


def test_it_takes_new_rows(older):
    with store.Store(older) as target:
        target.put([("datasets", {"dataset": "mine", "source": "file", "created_at": store.now()})])
    assert store.query(older, "select count(*) from raw.datasets where dataset = 'mine'").rows == [(1,)]
