"""DuckDB's errors as expected errors, and the faults that opening can repair."""

import os
import re
from pathlib import Path

import duckdb

from icl_local.exceptions import DiskFull, StoreError, StoreLocked
from icl_local.store import spool
from icl_local.wording import shell

MISSING = (duckdb.BinderException, duckdb.CatalogException)  # a column, a view, a macro
_OF_THE_QUERY = (*MISSING, duckdb.ParserException, duckdb.ConversionException)
_HELD = ("lock on file", "different configuration", "file handle conflict", "being used by another process")


class Behind(StoreError):
    """The database lacks rows of its spool or views of this version, or its log cannot be replayed."""


class Damaged(Behind):
    """A block of the database file has another checksum than its contents."""


def describe(error: duckdb.Error, path: Path) -> StoreError:
    """Return DuckDB's error on the file at ``path`` as an expected error: what is wrong, and what to do next."""
    message = str(error)
    if isinstance(error, _OF_THE_QUERY):  # the message may quote what the signs below look for
        return _plain(message)
    if any(sign in message for sign in _HELD):
        holder = re.search(r"held in (\S+) \(PID (\d+)\)", message)
        by = f"{os.path.basename(holder[1])}, process {holder[2]}" if holder else "this process"
        return StoreLocked(f"{path} is held by {by}; close it there")
    if any(sign in message for sign in ("No space left", "File too large", "Disk quota")):
        return DiskFull(f"no space left for {path}; free some space")
    if "replaying WAL" in message:
        return Behind(f"the log of {path} is damaged; run: {_repair(path)}")
    if "not a valid DuckDB database" in message or "Is a directory" in message:
        return not_a_database(path)
    if found := re.search(r'Cannot open file ".*": (.+)', message):
        return StoreError(f"{path} cannot be opened: {found[1]}; check its permissions, or name another with --db")
    if "database file with version number" in message:
        return StoreError(f"{path} was written by a newer DuckDB; run: pip install -U duckdb")
    if any(sign in message for sign in ("Corrupt", "Could not read enough bytes", "database has been invalidated")):
        kind = Damaged if "computed checksum" in message else StoreError
        restore = "has no spool to restore it from; use a copy of it, or keep what can still be read"
        return kind(f"{path} is damaged{_in_spool(path) or f' and {restore}: {_repair(path)}'}")
    return _plain(message)


def not_a_database(path: Path) -> StoreError:
    """Return the error for a file of another kind, which may have replaced a database."""
    return StoreError(f"{path} is not a DuckDB database{_in_spool(path) or '; name another file'}")


def _in_spool(path: Path) -> str:
    return f"; its rows are in the spool, run: {_repair(path)}" if spool.files(spool.spool_folder(path)) else ""


def _repair(path: Path) -> str:
    return f"icl db doctor --repair --db {shell(path)}"


def _plain(message: str) -> StoreError:
    return StoreError(" ".join(message.split("\n\nLINE ", 1)[0].split()))
