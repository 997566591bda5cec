"""Files that appear whole or not at all: written under a hidden name beside their place, then renamed."""

import contextlib
import errno
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from icl_local.exceptions import ConfigError, DiskFull, InputError
from icl_local.operating_system import NoLocks, sync_folder

NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}  # errno values of a full disk
DATABASE_MARK = b"DUCK"
PRIVATE = 0o600  # mode of a file that only its owner can read: a person's texts and data, not a report to share


@contextlib.contextmanager
def draft_file(path: Path, *, overwrite: bool = True, unique: bool = True) -> Iterator[Path]:
    """Yield a name for the new contents of ``path``; rename it to ``path`` at the end, delete it on an error.

    The caller makes the file. With ``overwrite=False`` a file that another process put at ``path`` meanwhile stays.
    With ``unique=False`` the name is the same each time, so that a large draft of a killed process is overwritten.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part" if unique else f".{path.name}.partial")
    try:
        yield draft
        if overwrite:
            draft.replace(path)
            return
        try:
            os.link(draft, path)  # unlike a rename, never over another file
        except FileExistsError:
            pass
        except OSError:  # a file system without hard links
            draft.rename(path)
    finally:
        with contextlib.suppress(OSError):  # no such file, or a folder that takes none
            draft.unlink()


@contextlib.contextmanager
def open_draft(path: Path, *, mode: int = 0o666, sync: bool = False) -> Iterator[BinaryIO]:
    """Yield a binary file whose contents replace ``path`` when the block ends without an error.

    ``mode`` is reduced by the umask. With ``sync`` the new file survives a power cut.
    """
    with draft_file(path) as draft, open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        yield file
        if sync:
            file.flush()
            os.fsync(file.fileno())
    if sync:
        sync_folder(path.parent)


def write_file(path: Path, content: str | bytes, *, mode: int = 0o666, sync: bool = False) -> None:
    """Replace ``path`` by ``content`` (text in UTF-8), whole or not at all. Raises OSError, UnicodeEncodeError."""
    with open_draft(path, mode=mode, sync=sync) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def json_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file; an empty one if it cannot be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


@contextlib.contextmanager
def result_at(path: Path) -> Iterator[None]:
    """Write to a file or folder that a user named with -o, never over a database. Raises DiskFull, ConfigError."""
    if database_mark(path) == DATABASE_MARK:
        raise ConfigError(f"{path} is a database; choose another place with -o")
    try:
        yield
    except NoLocks as error:
        raise ConfigError(f"{path}: its file system has no locks; choose another place with -o") from error
    except OSError as error:
        if error.errno in NO_SPACE:
            raise DiskFull(f"no space left for {path}; free some space, then run the same command again") from error
        raise ConfigError(f"cannot write {path}: {error.strerror}; choose another place with -o") from error


def regular_file(path: Path) -> Path:
    """Return the path of a file that is read more than once.

    Raises InputError for a folder, and for a pipe, which would wait.
    """
    if path.is_dir():
        raise InputError(f"{path}: is a folder; name a file in it")
    if path.exists() and not path.is_file():
        raise InputError(f"{path}: is not a regular file; save its contents to one, and name that")
    return path


def database_mark(path: Path) -> bytes | None:
    """Return bytes 8 to 11 of a file, DATABASE_MARK in DuckDB's; None if it is a pipe or cannot be read."""
    if not path.is_file():  # a pipe would wait for its writer
        return None
    try:
        with path.open("rb") as file:
            return file.read(12)[8:]
    except OSError:
        return None


def write_result(path: Path, content: str | bytes, *, mode: int = 0o666) -> None:
    """Replace a file that a user named with -o. Raises DiskFull, ConfigError."""
    with result_at(path):
        write_file(path, content, mode=mode)


def write_new(path: Path, content: str) -> None:
    """Write a file that a user named; one with other contents stays. Raises DiskFull, ConfigError."""
    try:
        existing = path.read_bytes() if path.exists() else None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    if existing is None:
        write_result(path, content)
    elif existing != content.encode():
        raise ConfigError(f"{path} exists and is another file; move it away, or name another with -o")


def open_to_append(path: Path, *, new: bool = False) -> int:
    """Return a descriptor whose writes go to the end of a private file. Raises FileExistsError for a ``new`` one."""
    binary = getattr(os, "O_BINARY", 0)  # Windows writes two bytes for a line break without it
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | binary | (os.O_EXCL if new else 0), PRIVATE)
