"""Databases without rows, copied from one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def new_database(empty_database: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Makes a database of that name."""

    def make(name: str) -> Path:
        return Path(shutil.copy(empty_database, tmp_path / f"{name}.duckdb"))

    return make


@pytest.fixture
def db(new_database: Callable[[str], Path]) -> Path:
    return new_database("mine")
