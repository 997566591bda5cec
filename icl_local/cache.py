"""The folder of what can be made again: checksums, probes, fetched sources, random models. Private to its user."""

import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from icl_local.exceptions import ConfigError
from icl_local.files import PRIVATE, write_file


def cache_path(name: str) -> Path:
    """Return the path of ``name`` in $XDG_CACHE_HOME/icl-local, by default ~/.cache/icl-local; nothing is made."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "icl-local" / name


def cache_folder(name: str = "") -> Path:
    """Return the folder ``name`` of the cache, made if it is missing. Raises ConfigError."""
    folder = cache_path(name)
    try:
        for one in (cache_path(""), folder):
            one.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ConfigError(f"cannot make {folder}: {error.strerror}; set XDG_CACHE_HOME to another folder") from error
    return folder


def write(name: str, text: str) -> None:
    """Replace a file of the cache; nothing happens where it cannot be written, and the text is made again next time."""
    with suppress(OSError, ConfigError):
        cache_folder()
        write_file(cache_path(name), text, mode=PRIVATE)


def kept_folder(name: str, fill: Callable[[Path], Path]) -> Path:
    """Return the folder ``name`` of the cache, made whole by the first call or not at all. Raises ConfigError.

    ``fill`` gets an empty folder to work in and returns the one of its folders that is kept.
    """
    folder = cache_path(name)
    if folder.is_dir():
        return folder
    with tempfile.TemporaryDirectory(dir=cache_folder(), prefix=f".{name}-") as work:
        made = fill(Path(work))
        try:
            made.rename(folder)
        except OSError:
            if not folder.is_dir():  # another process was faster
                raise
    return folder
