"""Rows to put, questions to ask, and another process that holds the file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from icl_local import store
from icl_local.store.database import Store, query

Put = list[tuple[str, dict[str, object]]]

ERRORS = ("infinite_loop", "infinite_loop_literal", "unintended_code")


def response(key: object, **more: object) -> dict[str, object]:
    return {
        "response_id": str(key),
        "model_id": "m",
        "query_key": f"q{key}",
        "run_id": "r",
        "method": "urial",
        "language": "en",
        "text": f"text {key}",
        "raw_text": f"text {key}\n# Query",
        "finish_reason": "stop",
        "created_at": store.now(),
        **more,
    }


def error_row(
    key: object, error: str = "infinite_loop", *, found: bool = False, version: str = "1"
) -> dict[str, object]:
    return {"response_id": str(key), "error": error, "found": found, "detector_version": version}


def put_of(key: object, **more: object) -> Put:
    return [("responses", response(key, **more)), *(("critical_errors", error_row(key, error)) for error in ERRORS)]


def judged(key: object) -> Put:
    verdict: dict[str, object] = {
        "judgment_id": f"j{key}",
        "attempt": 1,
        "response_id": str(key),
        "judge_id": "judge",
        "template_sha256": "t",
        "repeat": 0,
        "status": "ok",
        "scores": [3.0],
        "created_at": store.now(),
    }
    return [("judgments", verdict)]


def fill(db: Path, *keys: object) -> Path:
    with Store(db) as target:
        for key in keys:
            target.put(put_of(key))
    return db


def stored(db: Path) -> list[str]:
    return [
        row[0] for row in query(db, "select response_id from raw.responses order by try_cast(response_id as int)").rows
    ]


def count(db: Path, table: str) -> int:
    return int(query(db, f"select count(*) from raw.{table}").rows[0][0])


def child(code: str, *arguments: object, **options: Any) -> subprocess.Popen[str]:
    """Another Python process that can be spoken to."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, **options)


HOLD = """
import sys, duckdb
con = duckdb.connect(sys.argv[1], read_only=sys.argv[2] == "read")
print("held", flush=True)
sys.stdin.readline()
con.close()
print("free", flush=True)
"""


class Holder:
    """A process that holds the database file from the start of the block until ``free``."""

    def __init__(self, path: Path, how: str = "read") -> None:
        self.process = child(HOLD, path, how)

    def __enter__(self) -> Holder:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "held\n", self.process.stderr and self.process.stderr.read()
        return self

    def free(self) -> None:
        self.process.communicate("\n")

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.free()
