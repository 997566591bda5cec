"""SHA-256 of large files, remembered so that 5 GB of weights are not read again for every command.

A digest is remembered under the file's path with its size, modification time and inode, in one small JSON file of
the user's cache folder. If that folder cannot be written, every call reads the file: slower, never wrong.
"""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

from icl_local.exceptions import ConfigError
from icl_local.files import PRIVATE, json_object, write_file
from icl_local.identity import sha256_file

# callback: (description, bytes done, total bytes or None if unknown)
OnBytes = Callable[[str, int, int | None], None]

# A file changed again within its clock's resolution would keep its time: fresh files are not remembered (git's rule).
_SETTLED_SECONDS = 2.0
_SLOW_BYTES = 2**26  # less is read too fast for progress to be useful


def cache_folder() -> Path:
    """Return the folder for files that can be made again: $XDG_CACHE_HOME/icl-local, default ~/.cache/icl-local."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "icl-local"


def make_cache_folder(name: str = "") -> Path:
    """Return the folder ``name`` of the cache folder, made if it is missing. Raises ConfigError."""
    folder = cache_folder() / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make {folder}: {error.strerror}; set XDG_CACHE_HOME to another folder") from error
    return folder


def sha256_of(path: Path, *, name: str | None = None, on_progress: OnBytes | None = None) -> str:
    """Return 64 hex digits over the file's bytes, read only if the file is new or has changed. Raises OSError.

    ``name`` stands in the progress instead of the file's.
    """
    path = path.resolve()
    stat = path.stat()
    known = _load().get(str(path))
    if known is not None and known[:-1] == _marks(stat):
        return str(known[-1])
    slow = on_progress if stat.st_size >= _SLOW_BYTES else None
    reading = f"checksum of {name or path.name}"
    if slow is not None:
        slow(reading, 0, stat.st_size)
    digest = sha256_file(path)
    if slow is not None:
        slow(reading, stat.st_size, stat.st_size)
    if _marks(path.stat()) == _marks(stat) and time.time() - stat.st_mtime > _SETTLED_SECONDS:
        remember(path, digest)
    return digest


def remember(path: Path, digest: str) -> None:
    """Store a digest that the caller has just computed over the file."""
    path = path.resolve()
    entries = {name: entry for name, entry in _load().items() if os.path.exists(name)}
    entries[str(path)] = [*_marks(path.stat()), digest]
    target = cache_folder() / "checksums.json"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_file(target, json.dumps(entries, indent=0), mode=PRIVATE)
    except OSError:
        return  # the digest is computed again next time


def _marks(stat: os.stat_result) -> list[int | str]:
    return [stat.st_size, stat.st_mtime_ns, stat.st_ino]


def _load() -> dict[str, list[int | str]]:
    """Return the entries, path -> [size, mtime_ns, inode, digest]; a damaged file counts as an empty one."""
    entries = json_object(cache_folder() / "checksums.json")
    return {name: entry for name, entry in entries.items() if isinstance(entry, list) and len(entry) == 4}
