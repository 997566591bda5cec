"""The cache folder: private, made by who writes, and whole or not there."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from icl_local import cache
from icl_local.exceptions import ConfigError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    return tmp_path / "caches" / "icl-local"


def test_a_folder_is_private_and_a_path_makes_nothing(home: Path) -> None:
    assert cache.cache_path("probes") == home / "probes"
    assert not home.exists()
    assert cache.cache_folder("probes") == home / "probes"
    assert {stat.S_IMODE(folder.stat().st_mode) for folder in (home, home / "probes")} == {0o700}
    cache.write("machine-id", "abc")
    assert (home / "machine-id").read_text() == "abc"
    assert stat.S_IMODE((home / "machine-id").stat().st_mode) == 0o600


def test_where_nothing_can_be_written_only_what_needs_a_folder_fails(home: Path) -> None:
    home.parent.write_text("a file")
    cache.write("machine-id", "abc")
    with pytest.raises(ConfigError, match="set XDG_CACHE_HOME"):
        cache.cache_folder("bench")


def test_a_folder_is_kept_whole_and_made_once(home: Path) -> None:
    def fill(work: Path) -> Path:
        (work / "made").mkdir()
        (work / "made" / "file").write_text("one")
        return work / "made"

    def fail(work: Path) -> Path:
        fill(work)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.kept_folder("sources", fail)
    assert list(home.iterdir()) == []
    assert cache.kept_folder("sources", fill) == home / "sources"
    assert cache.kept_folder("sources", fail) == home / "sources"
    assert [path.relative_to(home).as_posix() for path in home.rglob("*")] == ["sources", "sources/file"]


def test_a_faster_process_wins(home: Path) -> None:
    def late(work: Path) -> Path:
        (home / "sources").mkdir()
        (home / "sources" / "file").write_text("theirs")
        (work / "made").mkdir()
        return work / "made"

    assert (cache.kept_folder("sources", late) / "file").read_text() == "theirs"
