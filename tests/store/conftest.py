"""Databases to write to, to read from and to damage: copies, since making one costs more."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from icl_local import store
from icl_local.store import database
from tests.store.rows import fill


@pytest.fixture
def absent(tmp_path: Path) -> Path:
    return tmp_path / "x.duckdb"


@pytest.fixture
def db(empty_database: Path, absent: Path) -> Path:
    """An empty database."""
    return Path(shutil.copy(empty_database, absent))


@pytest.fixture(scope="module")
def made(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small database to read from, never written by a test."""
    return fill(Path(shutil.copy(empty_database, tmp_path_factory.mktemp("made") / "x.duckdb")), 1, 2, 3)


@pytest.fixture
def copy(made: Path, db: Path) -> Path:
    """A copy of it, with its spool."""
    shutil.copy(made, db)
    shutil.copytree(store.spool_folder(made), store.spool_folder(db))
    return db


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "LOCK_WAIT_SECONDS", 0.1)
