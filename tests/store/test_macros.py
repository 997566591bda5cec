"""The SQL vocabulary in the database file: plain clients can read it, and it agrees with the Python side."""

from __future__ import annotations

import re
from pathlib import Path

import duckdb
import pytest

from icl_local import store
from icl_local.results import paper_tables
from icl_local.store import ingest, schema
from tests import reference, synthetic


@pytest.fixture(scope="module")
def study() -> Path:
    return synthetic.made(queries=10, complicated=True)


def test_every_view_of_an_attached_database_uses_its_own_macros(study):
    read = ("table_1", "figure_2", "cell_pairs", "verdicts")
    with duckdb.connect() as con:
        con.execute("create macro main.method_order(method) as error('not this one')")
        con.execute("create macro main.metrics() as ['nonsense']")
        con.execute(f"attach '{study}' as x (read_only)")
        for view in schema.views():
            con.execute(f"describe select * from x.main.{view}")
        attached = {name: con.execute(f"select * from x.main.{name}").fetchall() for name in read}
    with duckdb.connect(str(study), read_only=True) as con:
        for name, rows in attached.items():
            assert sorted(map(str, rows)) == sorted(map(str, con.execute(f"from main.{name}").fetchall()))
            assert rows


def test_macros_and_python_agree(study):
    def value(sql: str) -> object:
        return store.query(study, f"select {sql}").rows[0][0]

    assert value("metrics()") == reference.METRICS
    assert value("aspects()") == reference.ASPECTS
    assert list(paper_tables.SCORES.values()) == reference.METRICS
    columns = store.query(study, "from table_3").columns
    assert [name for name in columns if name in paper_tables.SCORES] == list(paper_tables.SCORES)
    for status in ("ok", "repaired", "refused", *ingest.TRANSIENT):
        assert value(f"transient('{status}')") == (status in ingest.TRANSIENT)


def test_a_changed_macro_makes_a_database_outdated(study, monkeypatch):
    with store.reader(study) as con:
        assert not schema.outdated(con, study)
        monkeypatch.setattr(schema, "fingerprint", schema.fingerprint.__wrapped__)  # other threads keep the cached one
        assert not schema.outdated(con, study)
        monkeypatch.setattr(schema, "macros", lambda: ("create or replace macro main.metrics() as ['clarity'];",))
        assert schema.outdated(con, study)


def test_views_and_macros_hold_no_if_which_older_clients_cannot_read() -> None:
    """DuckDB 2 stores if(...) as a function that DuckDB 1 does not have; case is read by both."""
    statements = [*schema.macros(), *schema.views().values()]
    assert [sql.splitlines()[0] for sql in statements if re.search(r"\bif\s*\(", sql)] == []
