"""The spool: what it acknowledges survives kills, full disks and folding, and what it did not is never half there."""

from __future__ import annotations

import errno
import json
import mmap
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icl_local.exceptions import DiskFull, StoreError
from icl_local.store import spool

# appends rows until it is killed or the disk is full; prints the number of each once it is acknowledged
WRITER = """
import sys
from collections.abc import Callable
from pathlib import Path
from icl_local.exceptions import DiskFull
from icl_local.store.spool import Spool
journal = Spool(Path(sys.argv[1]))
number = int(sys.argv[2])
try:
    while True:
        journal.append([("responses", {"response_id": str(number), "text": "x" * 5000}),
                        ("critical_errors", {"response_id": str(number)})])
        print(number, flush=True)
        number += 1
except DiskFull as error:
    print(error, file=sys.stderr)
    sys.exit(3)
"""


def row(key: object, **more: object) -> tuple[str, dict[str, object]]:
    return ("responses", {"response_id": str(key), **more})


def keys(folder: Path) -> list[str]:
    return [record.row["response_id"] for record in spool.read(folder) if record.table == "responses"]


def write(folder: Path, *numbers: int) -> Path:
    """One finished file with one line a number."""
    journal = spool.Spool(folder)
    for number in numbers:
        journal.append([row(number)])
    assert journal.path is not None
    path = journal.path
    journal.close()
    return path


def fold(folder: Path, keep: Callable[[spool.SpoolRow], bool] = lambda record: True) -> Path | None:
    """Fold the finished files, all of which a database holds."""
    return spool.fold(folder, keep=keep, read={path.name: path.stat().st_size for path in spool.files(folder)})


def test_records_come_back_as_they_went_in(tmp_path: Path) -> None:
    journal = spool.Spool(tmp_path / "s")
    first: dict[str, object] = {
        "response_id": "a",
        "text": "line\nbreak \u2028 é",
        "exact": True,
        "task": ["x"],
        "n": None,
    }
    journal.append([("responses", first), ("prompts", {"prompt_id": "p", "stops": []})])
    journal.append([("scores", {"score": 1.5, "detail": {"q": [1, 2]}})])
    assert [(record.table, dict(record.row)) for record in spool.read(tmp_path / "s")] == [
        ("responses", first),
        ("prompts", {"prompt_id": "p", "stops": []}),
        ("scores", {"score": 1.5, "detail": {"q": [1, 2]}}),
    ]
    journal.close()


def test_only_the_owner_can_read_it(tmp_path: Path) -> None:
    path = write(tmp_path / "s", 1)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_no_file_is_made_before_the_first_record(tmp_path: Path) -> None:
    journal = spool.Spool(tmp_path / "s")
    journal.append([])
    journal.close()
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("lone \ud83d high", "lone � high"),
        ("lone \ude00", "lone �"),
        ("\ud83d\ude00 pair", "😀 pair"),
        ("a\0b", "a\0b"),
    ],
)
def test_text_that_is_not_unicode_is_made_so(tmp_path: Path, text: str, kept: str) -> None:
    journal = spool.Spool(tmp_path)
    journal.append([row(1, text=text)])
    journal.close()
    assert next(spool.read(tmp_path)).row["text"] == kept


def test_numbers_that_json_lacks_are_kept_as_names(tmp_path: Path) -> None:
    journal = spool.Spool(tmp_path)
    journal.append([("training_steps", {"loss": float("nan"), "detail": {"x": [float("inf"), 1.0]}})])
    journal.close()
    assert next(spool.read(tmp_path)).row == {"loss": "NaN", "detail": {"x": ["Infinity", 1.0]}}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.dictionaries(st.text(min_size=1, max_size=8), json_values, max_size=4), min_size=1, max_size=4))
def test_any_row_is_one_line_and_comes_back(rows: list[dict[str, Any]]) -> None:
    line = spool.encode([("t", one) for one in rows])
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert "Infinity" in line.decode() or [record["row"] for record in json.loads(line)["records"]] == rows


def test_a_torn_last_line_is_ignored_and_cut_once_its_writer_is_gone(tmp_path: Path) -> None:
    path = write(tmp_path, 1, 2)
    whole = path.stat().st_size
    with path.open("ab") as file:
        file.write(b'{"v": 1, "records": [{"t": "resp')
    assert keys(tmp_path) == ["1", "2"]
    assert spool.cut_torn(tmp_path) == [(path, 32)]
    assert path.stat().st_size == whole


@pytest.mark.parametrize("size", [1, 32, (1 << 20) - 1, 1 << 20, 3 << 20])
def test_a_torn_line_may_be_long_or_all_of_a_file(tmp_path: Path, size: int) -> None:
    path = write(tmp_path, 1)
    whole = path.read_bytes()
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "torn.jsonl").write_bytes(b"x" * size)
    with path.open("ab") as file:
        file.write(b"x" * size)
    assert sorted(spool.cut_torn(tmp_path)) == sorted([(path, size), (tmp_path / "torn.jsonl", size)])
    assert (path.read_bytes(), (tmp_path / "torn.jsonl").read_bytes()) == (whole, b"")


def test_torn_lines_are_cut_where_files_cannot_be_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENODEV, "No such device")

    monkeypatch.setattr(mmap, "mmap", refuse)
    path = write(tmp_path, 1)
    whole = path.read_bytes()
    path.write_bytes(whole + b"torn")
    assert spool.cut_torn(tmp_path) == [(path, 4)]
    assert path.read_bytes() == whole


def test_a_living_writers_file_is_neither_cut_nor_folded(tmp_path: Path) -> None:
    write(tmp_path, 1)
    write(tmp_path, 2)
    living = spool.Spool(tmp_path)
    living.append([row(3)])
    assert living.path is not None
    with living.path.open("ab") as file:
        file.write(b"half a line of the next put")
    assert spool.cut_torn(tmp_path) == []
    fold(tmp_path)
    assert living.path in spool.files(tmp_path)
    assert len(spool.files(tmp_path)) == 2
    living.close()


def test_a_damaged_line_is_reported_and_its_neighbours_are_read(tmp_path: Path) -> None:
    path = write(tmp_path, 1, 2, 3)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1][:10] + b"\xff" + lines[1][11:] + lines[2])
    assert keys(tmp_path) == ["1", "3"]
    assert [line.damaged for line in spool.lines(path)] == [False, True, False]


def test_reading_goes_on_from_an_offset(tmp_path: Path) -> None:
    path = write(tmp_path, 1, 2, 3)
    first = next(spool.lines(path))
    assert [line.records[0].row["response_id"] for line in spool.lines(path, first.end)] == ["2", "3"]


def test_a_newer_spool_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"v": 99, "records": []}\n')
    with pytest.raises(StoreError, match="newer icl-local"):
        list(spool.read(tmp_path))


def test_an_older_spool_is_upgraded_step_by_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "VERSION", 1)
    write(tmp_path, 1, 2)

    def renamed(old: spool.SpoolRow) -> spool.SpoolRow:
        return spool.SpoolRow(old.table, {"id": old.row["response_id"]})

    def dropped(old: spool.SpoolRow) -> spool.SpoolRow | None:
        return old if old.row["id"] == "2" else None

    monkeypatch.setattr(spool, "VERSION", 3)
    monkeypatch.setattr(spool, "UPGRADES", {1: renamed, 2: dropped})
    assert [record.row for record in spool.read(tmp_path)] == [{"id": "2"}]


def test_every_old_version_has_an_upgrade() -> None:
    assert set(spool.UPGRADES) == set(range(1, spool.VERSION))


def test_a_write_that_stops_halfway_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = spool.Spool(tmp_path)
    journal.append([row(1)])
    real = os.write
    calls: list[int] = []

    def full(file: int, data: bytes) -> int:
        calls.append(len(data))
        if len(calls) == 1:
            return real(file, data[:20])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(DiskFull, match="free some space"):
        journal.append([row(2)])
    monkeypatch.setattr(os, "write", real)
    journal.append([row(3)])
    journal.close()
    assert keys(tmp_path) == ["1", "3"]
    assert len(calls) == 2


def test_a_folder_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot write"):
        spool.Spool(tmp_path / "file" / "s").append([row(1)])


def test_a_removed_file_is_created_again(tmp_path: Path) -> None:
    journal = spool.Spool(tmp_path)
    journal.append([row(1)])
    assert journal.path is not None
    journal.path.unlink()
    journal.append([row(2)])
    journal.close()
    assert keys(tmp_path) == ["2"]


def test_threads_share_one_file(tmp_path: Path) -> None:
    journal = spool.Spool(tmp_path)
    threads = [
        threading.Thread(target=lambda start=start: [journal.append([row(start + i)]) for i in range(20)])  # type: ignore[misc]
        for start in range(0, 160, 20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    journal.close()
    assert sorted(keys(tmp_path), key=int) == [str(i) for i in range(160)]
    assert len(spool.files(tmp_path)) == 1


def test_folding_joins_files_in_order_and_drops_what_is_refused(tmp_path: Path) -> None:
    for start in (0, 10, 20):
        write(tmp_path, start, start + 1)
    target = fold(tmp_path, keep=lambda record: record.row["response_id"] != "10")
    assert spool.files(tmp_path) == [target]
    assert keys(tmp_path) == ["0", "1", "11", "20", "21"]


def test_folding_keeps_damaged_lines_for_the_doctor(tmp_path: Path) -> None:
    path = write(tmp_path, 1)
    path.write_bytes(b"damaged\n" + path.read_bytes())
    write(tmp_path, 2)
    target = fold(tmp_path)
    assert target is not None
    assert [line.damaged for line in spool.lines(target)] == [True, False, False]


@pytest.mark.parametrize("step", ["replace", "unlink"])
def test_folding_killed_halfway_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    write(tmp_path, 1)
    write(tmp_path, 2)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Path, step, killed)
        with pytest.raises(KeyboardInterrupt):
            fold(tmp_path)
    assert set(keys(tmp_path)) == {"1", "2"}
    fold(tmp_path)
    assert set(keys(tmp_path)) == {"1", "2"}


def writer(folder: Path, start: int, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(folder), str(start)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def test_nothing_acknowledged_is_lost_when_writers_are_killed(tmp_path: Path) -> None:
    acknowledged: list[str] = []
    for kill in range(8):
        with writer(tmp_path, kill * 100_000) as process:
            assert process.stdout is not None
            for _ in range(5 + 7 * kill):
                acknowledged.append(process.stdout.readline().strip())
            process.send_signal(signal.SIGKILL)
            acknowledged += [line for line in process.stdout.read().split("\n")[:-1] if line]
    spool.cut_torn(tmp_path)
    tables = [record.table for record in spool.read(tmp_path)]
    found = keys(tmp_path)
    assert set(acknowledged) <= set(found)
    assert len(found) == len(set(found))
    assert tables.count("critical_errors") == tables.count("responses")  # a put is whole or not there


def test_a_full_disk_is_reported_and_everything_acknowledged_is_there(tmp_path: Path) -> None:
    limit = 60_000
    with writer(tmp_path, 0, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))) as process:
        out, err = process.communicate()
    assert process.returncode == 3
    assert "no space left" in err
    assert keys(tmp_path) == out.split()
    (file,) = spool.files(tmp_path)
    assert file.read_bytes().endswith(b"\n")
