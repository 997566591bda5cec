"""Parquet files, read and written by DuckDB."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import duckdb

from icl_local.exceptions import InputError
from icl_local.files import draft_file
from icl_local.store.database import quoted, reader
from icl_local.store.read_only import only_reads
from icl_local.store.spool import Row

_BATCH_ROWS = 10_000  # read at once, so that a big file is not in memory twice


def read_parquet(path: Path) -> list[Row]:
    """Return the rows of a Parquet file as JSON objects, in its order: a date as text, NaN as None.

    Raises InputError if it cannot be read.
    """
    rows: list[Row] = []
    try:
        with duckdb.connect() as con:
            found = con.execute("select to_json(icl_row) from read_parquet($1) as icl_row", [str(path)])
            while batch := found.fetchmany(_BATCH_ROWS):
                rows += [json.loads(row, parse_constant=lambda name: None) for (row,) in batch]
    except duckdb.Error as error:
        raise InputError(f"{path} cannot be read as Parquet: {str(error).splitlines()[0]}") from error
    return rows


def export_parquet(
    path: Path,
    sql: str,
    out: Path,
    params: Sequence[object] = (),
    *,
    on_count: Callable[[int], None] = lambda count: None,
) -> int:
    """Write the rows of a ``select`` to a Parquet file, whole or not at all; return how many.

    ``on_count`` gets their number before ``out`` is replaced, and keeps it by an exception.
    """
    with draft_file(out) as draft, reader(path, unsafe=True) as con:
        only_reads(con, sql, params)
        copy = f"copy ({sql.rstrip().rstrip(';')}\n) to {quoted(draft)} (format parquet)"
        ((count,),) = con.execute(copy, list(params)).fetchall()
        on_count(count)
    return int(count)
