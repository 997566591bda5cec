"""Whole commands beside each other on one database: two runs and a reader that comes back."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from icl_local import store
from icl_local.store.database import query

ICL = [sys.executable, "-m", "icl_local.cli"]


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
