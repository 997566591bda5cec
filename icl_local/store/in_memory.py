"""DuckDB without a database: the rows of a Parquet file, and patterns that cannot take long."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import duckdb

from icl_local.exceptions import InputError


def read_parquet(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a Parquet file as dicts, in its order. Raises InputError if it cannot be read."""
    try:
        with duckdb.connect() as con:
            found = con.execute("from read_parquet($1)", [str(path)])
            names = [column[0] for column in found.description]
            return [dict(zip(names, row, strict=True)) for row in found.fetchall()]
    except duckdb.Error as error:
        raise InputError(f"{path} cannot be read as Parquet: {str(error).splitlines()[0]}") from error


def matches(pattern: str, text: str) -> bool:
    """Return whether RE2's ``pattern`` occurs in ``text``; its time is linear in the text. Raises InputError."""
    try:
        found = _connection().execute("select regexp_matches($1, $2)", [text, pattern]).fetchone()
    except duckdb.Error as error:
        raise InputError(f"the pattern {pattern!r} is not one of RE2: {str(error).splitlines()[0]}") from error
    return bool(found and found[0])


@cache
def _connection() -> duckdb.DuckDBPyConnection:
    return duckdb.connect()
