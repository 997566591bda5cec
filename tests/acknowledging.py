"""The command line, which writes to stdout the table of every row that its spool has: python -m tests.acknowledging.

A new database is a copy of the suite's empty one.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from icl_local.cli import main
from icl_local.store import database, spool
from tests import shared


def start(*arguments: str, environment: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """Start ``icl ARGUMENTS`` with its messages in a pipe."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.acknowledging", *arguments],
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(process: subprocess.Popen[str], table: str, rows: int) -> None:
    """Return once ``process`` has acknowledged so many rows more of ``table``. Raises where it ends before."""
    assert process.stdout is not None
    for line in process.stdout:
        rows -= line.rstrip() == table
        if rows <= 0:
            return
    raise AssertionError(f"ended too early: {process.communicate()[1]}")


if __name__ == "__main__":
    append = spool.Spool.append

    def acknowledge(self: spool.Spool, records: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        append(self, records)
        sys.stdout.writelines(f"{table}\n" for table, _ in records)
        sys.stdout.flush()

    spool.Spool.append = acknowledge  # type: ignore[method-assign]
    database._create = shared.copy_empty_database
    main(sys.argv[1:])
