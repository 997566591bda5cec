"""`icl status`: done and missing responses, and the speed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from icl_local.cli import console, options

if TYPE_CHECKING:
    from icl_local.store import Selection


@click.command("status")
@options.selection
@options.output_format
@options.db
def command(chosen: Selection, output_format: str, db: Path) -> None:
    """Show done and missing responses, cell by cell, and the speed.

    Rows that a killed run left in the spool are read first. Column long counts prompts that did not fit the context.
    Formats other than text have the cells only; every column is in the views progress and throughput.

    Example: icl status --db icl.duckdb
    """
    from icl_local import study
    from icl_local.store import named, selected

    cells = selected(db, "status", chosen)
    if output_format == "text":
        for name, columns, rows in study.grids(db):
            console.print_rows(columns, rows, title=f"Study {name}: done/wanted")
    console.print_rows(cells.columns, cells.rows, output_format=output_format, title="Progress")
    if output_format == "text":
        speed = named(db, "speed")
        if speed.rows:
            console.print_rows(speed.columns, speed.rows[-20:], title="Speed of the last processes")
        if not cells.rows:
            console.say(f"{db} holds no responses yet; next: icl run --help")
