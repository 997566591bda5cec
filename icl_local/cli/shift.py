"""`icl shift`: what `icl score` found about stored answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from icl_local.cli import console, options, values


@click.command("shift")
@click.option("--lang", type=values.LANGUAGES, default=(), help="Only these languages.")
@click.option(
    "--reading",
    type=click.Choice(["all", "own_top", "with_end"]),
    default="all",
    help="own_top: only tokens that were the writing model's first choice; with_end: the end token too.",
)
@click.option("--tokens", type=values.COUNT, default=10, help="Most shifted tokens that are shown.")
@options.output_format
@options.db
def command(output_format: str, db: Path, **given: Any) -> None:
    """Show how many tokens of stored answers the base model would not have written.

    icl score makes the rows. docs/shift.md explains the tables; csv and json have every column of the views.

    Example: icl shift --lang es
    """
    from icl_local.results import shift_tables

    console.print_tables(shift_tables(db, whole=output_format in ("csv", "json"), **given), output_format)
