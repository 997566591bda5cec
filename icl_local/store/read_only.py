"""The check that a statement of a user only reads."""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import duckdb

from icl_local.exceptions import StoreError
from icl_local.store.ingest import Connection

_WRITES = re.compile("COPY|EXECUTE|INSERT|UPDATE|DELETE|MERGE_INTO|CREATE|ATTACH|EXPORT", re.IGNORECASE)
_EXPLAIN = re.compile(r"\s*explain\s+(analyze\s+)?(\([^)]*\)\s*)?", re.IGNORECASE)


def only_reads(con: Connection, sql: str, params: Sequence[object] = ()) -> None:
    """Raise StoreError unless ``sql`` is one select (or explain of one) whose plan writes nothing.

    A read-only connection without access to files is not enough: ``copy ... to`` can still write the database's
    own file and log, DuckDB 2.0 accepts it within a ``with``, and a table function can run SQL hidden in JSON.
    """
    statements = con.extract_statements(sql)
    if len(statements) == 1 and statements[0].type == duckdb.StatementType.EXPLAIN:
        sql = _EXPLAIN.sub("", sql, count=1)
        statements = con.extract_statements(sql)
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise StoreError("give one select, from, with, show, describe or explain: no other statement is run here")
    plan = con.execute(f"explain (format json) {sql}", list(params)).fetchall()[0][1]
    writing = [name for name in _operators(json.loads(plan)) if _WRITES.search(name)]
    if writing:
        raise StoreError(f"a query may only read here, and this one would run {writing[0]}; see --unsafe")


def _operators(plan: Any) -> Iterator[str]:
    """Yield the names of a physical plan's operators, from its JSON."""
    for node in plan if isinstance(plan, list) else [plan]:
        yield str(node["name"])
        yield from _operators(node.get("children", []))
