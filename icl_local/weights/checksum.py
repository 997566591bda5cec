"""SHA-256 of large files, remembered so that 5 GB of weights are not read again for every command.

A digest is remembered under the file's path with its size, modification time and inode, in one small JSON file of
the user's cache folder. If that folder cannot be written, every call reads the file: slower, never wrong.
"""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

from icl_local import cache
from icl_local.files import json_object
from icl_local.identity import sha256_file

# callback: (description, bytes done, total bytes or None if unknown)
OnBytes = Callable[[str, int, int | None], None]

# A file changed again within its clock's resolution would keep its time: fresh files are not remembered (git's rule).
_SETTLED_SECONDS = 2.0
_SLOW_BYTES = 2**26  # less is read too fast for progress to be useful


def sha256_of(path: Path, *, name: str | None = None, on_progress: OnBytes | None = None) -> str:
    """Return 64 hex digits over the file's bytes, read only if the file is new or has changed. Raises OSError.

    ``name`` stands in the progress instead of the file's.
    """
    path = path.resolve()
    stat = path.stat()
    known = _load().get(str(path))
    if known is not None and known[:-1] == _marks(stat):
        return str(known[-1])
    report = on_progress if on_progress and stat.st_size >= _SLOW_BYTES else lambda *_: None
    reading = f"checksum of {name or path.name}"
    report(reading, 0, stat.st_size)
    digest = sha256_file(path)
    report(reading, stat.st_size, stat.st_size)
    if _marks(path.stat()) == _marks(stat) and time.time() - stat.st_mtime > _SETTLED_SECONDS:
        remember(path, digest)
    return digest


def remember(path: Path, digest: str) -> None:
    """Store a digest that the caller has just computed over the file."""
    path = path.resolve()
    entries = {name: entry for name, entry in _load().items() if os.path.exists(name)}
    entries[str(path)] = [*_marks(path.stat()), digest]
    cache.write("checksums.json", json.dumps(entries, indent=0))


def _marks(stat: os.stat_result) -> list[int | str]:
    return [stat.st_size, stat.st_mtime_ns, stat.st_ino]


def _load() -> dict[str, list[int | str]]:
    """Return the entries, path -> [size, mtime_ns, inode, digest]; a damaged file counts as an empty one."""
    entries = json_object(cache.cache_path("checksums.json"))
    return {name: entry for name, entry in entries.items() if isinstance(entry, list) and len(entry) == 4}
