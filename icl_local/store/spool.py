"""The journal of a database: folder ``<db>.spool/``, one JSONL file for each process, fsynced with every put.

One call of ``append`` is one line, one os.write and one fsync, so a put is kept whole or not at all, wherever
the process is killed. A line is ``{"v": 2, "records": [{"t": TABLE, "row": {...}}, ...]}`` in UTF-8; rows hold
the columns of ``raw.TABLE``, timestamps as ISO 8601 in UTC, json columns as objects. A writer holds a lock beside
its file while it lives; files without one are finished, may have a torn last line, and are folded into one.
"""

import contextlib
import json
import os
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, NoReturn

from icl_local.exceptions import DiskFull, StoreError
from icl_local.files import NO_SPACE, PRIVATE, open_draft, open_to_append
from icl_local.operating_system import locked, sync_folder

Row = dict[str, Any]
Record = tuple[str, dict[str, object]]  # a table of schema raw and a row of it


class SpoolRow(NamedTuple):
    """One row of ``raw.<table>`` as a process put it."""

    table: str
    row: Mapping[str, Any]


def _cells_have_keys(old: SpoolRow) -> SpoolRow | None:
    """Rename the key of run_cells, which version 1 called cell_id; drop its bootstraps, which pooled unlike cells."""
    if old.table == "bootstraps":
        return None
    if old.table == "run_cells":
        row = dict(old.row)
        row["run_cell_id"] = row.pop("cell_id", None)
        return SpoolRow(old.table, row)
    return old


VERSION = 2
_BLOCK = 1 << 20  # bytes read at once from the end of a file
# old version -> function that turns a row of it into one of the next version (or None: dropped)
UPGRADES: dict[int, Callable[[SpoolRow], SpoolRow | None]] = {1: _cells_have_keys}


@dataclass(frozen=True)
class Line:
    """One put: its bytes, the byte offset after it, and its records, none if it is ``damaged``."""

    raw: bytes
    end: int
    records: tuple[SpoolRow, ...]
    damaged: bool


def spool_folder(path: Path) -> Path:
    """Return the spool folder of a database: ``<db>.spool`` beside it."""
    return path.with_name(path.name + ".spool")


class Spool:
    """Writer of this process's own file, created at the first append. Safe to use from several threads."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path: Path | None = None
        self._file = -1
        self._size = 0
        self._lock = threading.RLock()
        self._held = contextlib.ExitStack()  # the lock of the file

    def append(self, records: Sequence[tuple[str, Mapping[str, object]]]) -> None:
        """Write all of ``records`` (table, row) or none; on return they survive a kill and a power cut.

        Raises DiskFull if no space is left, StoreError if the folder cannot be written.
        """
        if not records:
            return
        line = encode(records)
        with self._lock:
            try:
                if self._file < 0 or os.fstat(self._file).st_nlink == 0:  # another process removed the file
                    self._open()
                done = 0
                while done < len(line):
                    done += os.write(self._file, line[done:])
                os.fsync(self._file)
            except OSError as error:
                try:
                    os.ftruncate(self._file, self._size)
                except OSError:  # no file is open, or its end stays torn; readers ignore a torn end
                    self.close()
                _refuse(error, self.folder)
            self._size += len(line)

    def close(self) -> None:
        """Close the file, which stays in the folder."""
        with self._lock:
            if self._file >= 0:
                os.close(self._file)
            self._held.close()
            self._file, self.path, self._size = -1, None, 0

    def _open(self) -> None:
        self.close()
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
        path = self.folder / f"{stamp}-{os.getpid()}-{secrets.token_hex(4)}.jsonl"
        self._held.enter_context(locked(lock_file(path)))
        self._file = open_to_append(path, new=True)
        self.path = path
        sync_folder(self.folder)


def encode(records: Sequence[tuple[str, Mapping[str, object]]]) -> bytes:
    """Return one line; lone surrogates become U+FFFD, non-finite numbers the strings NaN, Infinity, -Infinity."""
    body = {"v": VERSION, "records": [{"t": table, "row": dict(row)} for table, row in records]}
    try:
        text = json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except ValueError:
        finite = json.loads(json.dumps(body), parse_constant=str)
        text = json.dumps(finite, ensure_ascii=False, separators=(",", ":"))
    try:
        return text.encode() + b"\n"
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode() + b"\n"


def mark_complete(folder: Path) -> None:
    """Record that the database was made with this spool, which therefore has every row, unlike a copy's spool."""
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(open_to_append(complete_mark(folder)))


def complete_mark(folder: Path) -> Path:
    """Return the file that exists if the database can be made again from the spool alone."""
    return folder / "complete"


def files(folder: Path) -> list[Path]:
    """Return the spool's files, oldest first by name; none without a spool."""
    return sorted(folder.glob("*.jsonl"))


def lock_file(path: Path) -> Path:
    """Return the file that the writer of a spool file holds a lock on while it lives."""
    return path.with_suffix(".lock")


def lines(path: Path, offset: int = 0) -> Iterator[Line]:
    """Yield the complete lines of one file from a byte offset on, without a torn last line.

    A missing file (folded by another process) has none. Raises StoreError for a line of a newer version.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        file.seek(offset)
        for raw in file:
            if not raw.endswith(b"\n"):
                return
            offset += len(raw)
            found = _decode(raw, path)
            yield Line(raw, offset, found or (), found is None)


def read(folder: Path) -> Iterator[SpoolRow]:
    """Yield every readable record of a spool in order, upgraded to the present version."""
    for path in files(folder):
        for line in lines(path):
            yield from line.records


@contextlib.contextmanager
def finished(folder: Path) -> Iterator[list[Path]]:
    """Yield the files of ended processes, locked during the block."""
    with contextlib.ExitStack() as held:
        claimed = []
        for path in files(folder):
            with contextlib.suppress(OSError):  # in use, or not ours to write
                held.enter_context(locked(lock_file(path), wait=False))
                claimed.append(path)
        yield [path for path in claimed if path.exists()]


def cut_torn(folder: Path) -> list[tuple[Path, int]]:
    """Cut the torn last line off every finished file; return (file, bytes cut) for each that had one."""
    cut = []
    with finished(folder) as claimed:
        for path in claimed:
            with contextlib.suppress(PermissionError), path.open("r+b") as file:
                size, whole = file.seek(0, os.SEEK_END), _whole_bytes(file)
                if whole < size:
                    file.truncate(whole)
                    cut.append((path, size - whole))
    return cut


def _whole_bytes(file: BinaryIO) -> int:
    """Return the length of a file up to its last line break. Not by mmap, which some file systems lack."""
    end = file.seek(0, os.SEEK_END)
    while end:
        start = max(0, end - _BLOCK)
        file.seek(start)
        if place := file.read(end - start).rfind(b"\n") + 1:
            return start + place
        end = start
    return 0


def fold(folder: Path, *, keep: Callable[[SpoolRow], bool], read: Mapping[str, int]) -> Path | None:
    """Join all finished files into one without the records that ``keep`` refuses; damaged lines stay as they are.

    ``read``: bytes of each file, by name, that the database holds; a file that was not read to its end is left alone.
    The new file is complete on disk before an old one goes, so a kill leaves records twice, never lost. Returns
    the new file, None where there was nothing to join. Only one process may fold at a time.
    """
    with finished(folder) as claimed:
        sources = [path for path in claimed if path.stat().st_size <= read.get(path.name, 0)]
        if not sources:
            return None
        target = folder / f"{sources[-1].name.split('-')[0]}-folded-{secrets.token_hex(4)}.jsonl"
        for left in folder.glob("*.part"):  # by a fold that was killed
            left.unlink()
        try:
            with open_draft(target, mode=PRIVATE, sync=True) as out:
                for source in sources:
                    for line in lines(source):
                        kept = [record for record in line.records if keep(record)]
                        if len(kept) == len(line.records):
                            out.write(line.raw)
                        elif kept:
                            out.write(encode(kept))
        except OSError as error:
            _refuse(error, folder)
        for source in sources:
            source.unlink(missing_ok=True)
    return target


def _decode(raw: bytes, path: Path) -> tuple[SpoolRow, ...] | None:
    """Return the upgraded records of one line; None if it is damaged."""
    try:
        body = json.loads(raw)
        version = int(body["v"])
        records = [SpoolRow(str(item["t"]), dict(item["row"])) for item in body["records"]]
    except (ValueError, TypeError, KeyError):
        return None
    if version > VERSION:
        raise StoreError(f"{path} was written by a newer icl-local (spool version {version}); upgrade icl-local")
    for step in range(version, VERSION):
        records = [new for old in records if (new := UPGRADES[step](old)) is not None]
    return tuple(records)


def _refuse(error: OSError, folder: Path) -> NoReturn:
    if error.errno in NO_SPACE:
        raise DiskFull(
            f"no space left for {folder}; everything acknowledged is kept: free some space, then run the same "
            "command again"
        ) from error
    raise StoreError(f"cannot write {folder}: {error.strerror or error}; check its permissions") from error
