"""Whole commands beside each other on one database: two runs and a reader that comes back."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from icl_local import store
from icl_local.store.database import query
from tests import acknowledging

ICL = [sys.executable, "-m", "icl_local"]


@pytest.fixture
def arguments(tiny_gguf: Path, tmp_path: Path) -> list[str]:
    items = [{"id": i, "instruction": f"Tell number {i} of things", "task": ["writing"]} for i in range(8)]
    queries = tmp_path / "queries.jsonl"
    queries.write_text("".join(json.dumps(item) + "\n" for item in items))
    run = ["run", "--model", str(tiny_gguf), "--queries", str(queries), "--max-tokens", "30", "--parallel", "2"]
    return [*ICL, *run, "--no-probe", "--db", str(tmp_path / "x.duckdb")]


def start(command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_runs_and_a_reader_at_once_all_finish_without_duplicates(arguments: list[str], tmp_path: Path) -> None:
    db = tmp_path / "x.duckdb"
    store.Store(db).close()
    runs = [start(arguments), start(arguments)]
    counted = []
    while any(process.poll() is None for process in runs):
        counted.append(query(db, "select count(*) from responses").rows[0][0])
        with contextlib.suppress(subprocess.TimeoutExpired):
            runs[0].wait(0.05)  # a reader without a pause takes the runs' core
    assert [(process.wait(), process.communicate()[1])[0] for process in runs] == [0, 0]
    assert counted == sorted(counted)
    asked = "select count(*), count(distinct (query_id)), count(distinct response_id) from responses"
    assert query(db, asked).rows == [(8, 8, 8)]
    assert query(db, "select count(*) from progress where done = wanted").rows[0][0] >= 1


def test_a_second_run_waits_for_the_first_and_makes_what_it_leaves(arguments: list[str], tmp_path: Path) -> None:
    db = tmp_path / "x.duckdb"
    long = [*arguments, "--max-tokens", "300"]
    with acknowledging.start(*long[len(ICL) :]) as first:
        acknowledging.wait_for(first, "responses", 1)
        first.send_signal(signal.SIGSTOP)
        second = start(long)
        assert second.stderr is not None
        while "another process is making these responses" not in (line := second.stderr.readline()):
            assert line, "the second run did not wait"
        first.send_signal(signal.SIGINT)
        first.send_signal(signal.SIGCONT)
        first.communicate()
    _, stderr = second.communicate()
    assert (first.returncode, second.returncode) == (130, 0), stderr
    asked = "select r.status, r.n_done, count(*) from raw.run_cells r join raw.responses using (run_id) group by all"
    (_, _, n_first), (_, n_done, n_second) = query(db, f"{asked} order by r.status desc").rows
    assert 0 < n_done == n_second == 8 - n_first


def test_two_shards_of_a_cell_are_made_at_once(arguments: list[str], tmp_path: Path) -> None:
    long = [*arguments, "--max-tokens", "300"]
    with acknowledging.start(*long[len(ICL) :], "--shard", "1/2") as first:
        acknowledging.wait_for(first, "responses", 1)
        first.send_signal(signal.SIGSTOP)
        second = subprocess.run([*long, "--shard", "2/2"], capture_output=True, text=True, timeout=300)
        first.send_signal(signal.SIGCONT)
        first.communicate()
    assert (first.returncode, second.returncode) == (0, 0), second.stderr
    assert query(tmp_path / "x.duckdb", "select count(*), count(distinct response_id) from responses").rows == [(8, 8)]
