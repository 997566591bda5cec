"""`icl db snapshot`: a consistent copy of the database."""

from __future__ import annotations

from pathlib import Path

import click

from icl_local.cli import console
from icl_local.cli.options import db_option
from icl_local.wording import counted


@click.command("snapshot")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), required=True, help="File to write.")
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
@db_option
def command(output: Path, force: bool, db: Path) -> None:
    """Write a consistent copy of the database, also during a run.

    Example: icl db snapshot -o results-2026-11-21.duckdb
    """
    from icl_local.store import upkeep

    count = upkeep.snapshot(db, output, overwrite=force)
    console.say(f"{counted(count, 'row')} in {output}")
