"""What is built once for a whole run of the suite, in a folder that all its processes share."""

from __future__ import annotations

import fcntl
import functools
import os
from collections.abc import Callable
from pathlib import Path

from icl_local.files import draft_file
from icl_local.store import database

FOLDER = "ICL_TESTS_FOLDER"  # the environment variable that names it; tests/conftest.py makes the folder
Run = Callable[..., tuple[int, str, str]]  # the fixture icl: (exit status, stdout, stderr) of a command line
_create = database._create


def built_once(name: str, build: Callable[[Path], object]) -> Path:
    """Return the folder ``name``: the first caller of all processes fills it by ``build(folder)``, the others wait."""
    folder = Path(os.environ[FOLDER]) / name
    with open(folder.with_name(f"{name}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            draft = folder.with_name(f"{name}.draft")
            draft.mkdir()
            build(draft)
            draft.rename(folder)
    return folder


@functools.cache
def empty_database() -> Path:
    """Return a database without rows, to be copied: making its views takes two seconds."""
    return built_once("empty", lambda folder: _create(folder / "empty.duckdb")) / "empty.duckdb"


def copy_empty_database(path: Path) -> None:
    """Do what the store does for a new database, by a copy. Where that fails, the store does it and says why."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft_file(path, overwrite=False) as draft:
            draft.write_bytes(empty_database().read_bytes())
            draft.chmod(0o600)
    except OSError:
        _create(path)
