"""Patterns of RE2, by DuckDB: their time is linear in the text."""

from functools import cache

import duckdb

from icl_local.exceptions import InputError


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
