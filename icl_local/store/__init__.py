"""The spool and the DuckDB database; only this room imports duckdb.

A row is safe once the spool has it; the database follows and can be rebuilt from it.
"""

from icl_local.store.database import (
    LOCK_WAIT_SECONDS,
    Rows,
    Store,
    exists,
    fetch,
    ids,
    lost,
    named,
    now,
    only_one,
    query,
    quoted,
    reader,
    refuse_other_texts,
    require,
    selected,
    sql_text,
    writer,
)
from icl_local.store.ingest import TRANSIENT, Connection
from icl_local.store.parquet import export_parquet, read_parquet
from icl_local.store.patterns import matches
from icl_local.store.selection import Names, Selection, listed
from icl_local.store.spool import Record, Row, spool_folder
