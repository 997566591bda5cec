"""Remembered checksums: computed once, again after a change, and never from a damaged cache."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from icl_local import cache
from icl_local.weights import checksum


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's registry and caches of these tests; the registry file in return."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("ICL_MODELS_FILE", str(tmp_path / "config" / "models.toml"))
    return tmp_path / "config" / "models.toml"


def settled(path: Path) -> Path:
    """The file as if it had been written some time ago."""
    os.utime(path, (1_700_000_000, 1_700_000_000))
    return path


def test_a_checksum_is_computed_once_and_again_after_a_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checksum, "_SLOW_BYTES", 1)
    path = tmp_path / "weights"
    path.write_bytes(b"one")
    settled(path)
    seen: list[str] = []

    def sha256() -> str:
        return checksum.sha256_of(path, on_progress=lambda what, done, total: seen.append(f"{done}/{total}"))

    assert sha256() == sha256() == hashlib.sha256(b"one").hexdigest()
    assert seen == ["0/3", "3/3"]
    path.write_bytes(b"two")
    os.utime(path, (1_700_000_001, 1_700_000_001))
    assert sha256() == hashlib.sha256(b"two").hexdigest()
    assert len(seen) == 4
    other = tmp_path / "other"  # same size and time, another inode
    other.write_bytes(b"six")
    os.replace(other, path)
    os.utime(path, (1_700_000_001, 1_700_000_001))
    assert sha256() == hashlib.sha256(b"six").hexdigest()


def test_a_file_written_just_now_is_not_remembered(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"one")
    checksum.sha256_of(path)
    assert not cache.cache_path("checksums.json").exists()


@pytest.mark.parametrize("content", ["", "[]", '{"/x": 3}', '{"/x": [1, 2]}', "\0"])
def test_a_damaged_checksum_cache_counts_as_empty(tmp_path: Path, content: str) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"one")
    settled(path)
    (cache.cache_folder() / "checksums.json").write_text(content)
    assert checksum.sha256_of(path) == hashlib.sha256(b"one").hexdigest()


def test_a_cache_that_cannot_be_written_costs_time_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocker = tmp_path / "file"
    blocker.write_bytes(b"")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocker))
    path = settled(tmp_path / "file")
    assert checksum.sha256_of(path) == checksum.sha256_of(path) == hashlib.sha256(b"").hexdigest()
