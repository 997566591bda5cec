"""`icl errors`: infinite loops and unintended code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import icl_local
from icl_local.cli import console, options

ERRORS = ("infinite_loop", "infinite_loop_literal", "unintended_code")
SHOWN = ("query_id", "model", "method", "language", "dpo", "error", "kind", "copies", "span")
EXCERPT_CHARACTERS = 160


@click.command("errors")
@click.option("--list", "listed", is_flag=True, help="Show the responses that have an error, not the table.")
@click.option("--error", type=click.Choice(ERRORS), help="Kind of error that --list shows.")
@click.option("--redetect", is_flag=True, help="Run the present detector on every response first.")
@options.only
@options.output_format
@options.db
def command(output_format: str, db: Path, **given: Any) -> None:
    """Show critical errors in percent: loops under both readings, and unintended code.

    loop is the default reading; literal is any sequence repeated more than 5 times, also rules (-----) and table lines.
    code is the percentage of the n_code responses with a known task that contain code though the task is not coding.

    Example: icl errors --list --error infinite_loop --lang en
    """
    found = icl_local.errors(db, **given)
    for note in found.notes:
        console.say(note)
    if not given["listed"] or output_format != "text":
        title = None if given["listed"] else found.title
        console.print_rows(found.columns, found.rows, output_format=output_format, title=title)
        return
    rows = [(*(row[name] for name in SHOWN), _excerpt(row)) for row in found.dicts()]
    console.print_rows((*SHOWN, "place in the text"), rows)
    console.say(f"{len(rows):,} found; whole answers: icl show QUERY_ID")


def _excerpt(row: dict[str, Any]) -> str:
    start = max(0, int(row["start_char"] or 0) - 20)
    text = str(row["raw_text"])[start : start + EXCERPT_CHARACTERS]
    return ("…" if start else "") + text.replace("\n", "⏎")
