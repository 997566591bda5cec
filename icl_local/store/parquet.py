"""Parquet files, read and written by DuckDB."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb

from icl_local.exceptions import InputError
from icl_local.files import draft_file
from icl_local.store.database import reader
from icl_local.store.read_only import only_reads


def read_parquet(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a Parquet file as dicts, in its order. Raises InputError if it cannot be read."""
    try:
        with duckdb.connect() as con:
            found = con.execute("from read_parquet($1)", [str(path)])
            names = [column[0] for column in found.description]
            return [dict(zip(names, row, strict=True)) for row in found.fetchall()]
    except duckdb.Error as error:
        raise InputError(f"{path} cannot be read as Parquet: {str(error).splitlines()[0]}") from error


def export_parquet(path: Path, sql: str, out: Path, params: Sequence[object] = ()) -> int:
    """Write the rows of a ``select`` to a Parquet file, whole or not at all; return how many."""
    with draft_file(out) as draft, reader(path, unsafe=True) as con:
        only_reads(con, sql, params)
        target = str(draft).replace("'", "''")
        copy = f"copy ({sql.rstrip().rstrip(';')}\n) to '{target}' (format parquet)"
        written = con.execute(copy, list(params)).fetchone()
    return int(written[0]) if written else 0
