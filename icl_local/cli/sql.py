"""`icl sql`: query the database, read-only."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

import icl_local
from icl_local.cli import console, options, values
from icl_local.wording import counted

TEXT_ROWS = 200


@options.defaults_of(icl_local.query)
@click.command("sql")
@click.argument("query", required=False, type=values.QUERY)
@click.option("--schema", is_flag=True, help="List the views, their columns and what one row is.")
@click.option("--limit", type=values.COUNT, help=f"Largest number of rows; {TEXT_ROWS} for text.")
@click.option("--timeout", type=values.POSITIVE, help="Seconds that a query may take.")
@click.option("--unsafe", is_flag=True, help="Allow other files, other databases and extensions.")
@options.output_format
@options.db
def command(
    query: str | None, schema: bool, limit: int | None, timeout: float, unsafe: bool, output_format: str, db: Path
) -> None:
    """Run one select on the database; - reads it from standard input.

    The query cannot write, reach other files or load code, and a run may continue. Rows too wide for the
    terminal (180 characters without one) are shown with a line for each column.

    Example: icl sql "select model, method, count(*) from responses group by all" --format csv
    """
    from icl_local import store

    if schema:
        query = store.sql_text("described_views")
    elif query is None:
        raise click.UsageError("give a query, - to read one from standard input, or --schema")
    elif query == "-":
        query = sys.stdin.read()
    if unsafe:
        console.say("unsafe: this query may read and write other files, attach databases and load extensions")
    most = limit or (TEXT_ROWS if output_format == "text" else None)

    def end() -> None:
        click.echo(f"error: the query took longer than {timeout:g} s and did not stop; ended this process", err=True)
        os._exit(1)  # the connection is read-only

    more = None if most is None else most + 1
    found = store.query(db, query, timeout=timeout, unsafe=unsafe, limit=more, on_stuck=end)
    rows = found.rows[:most]
    if output_format == "text":
        console.print_answer(found.columns, rows)
    else:
        console.print_rows(found.columns, rows, output_format=output_format)
    if len(found.rows) > len(rows):
        console.say(f"only the first {counted(len(rows), 'row')}; --limit gives more")
