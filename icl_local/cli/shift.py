"""`icl shift`: what `icl score` found about stored answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from icl_local.cli import console
from icl_local.cli.options import COUNT, LanguageList, db_option, format_option


@click.command("shift")
@click.option("--lang", type=LanguageList(), default=(), help="Only these languages.")
@click.option(
    "--reading",
    type=click.Choice(["all", "own_top", "with_end"]),
    default="all",
    show_default=True,
    help="own_top: only tokens that were the writing model's first choice; with_end: the end token too.",
)
@click.option("--tokens", type=COUNT, default=10, show_default=True, help="Most shifted tokens that are shown.")
@format_option
@db_option
def command(output_format: str, db: Path, **options: Any) -> None:
    """Show how many tokens of stored answers the base model would not have written: shares, by position, which ones.

    icl score makes the rows. docs/shift.md explains the tables; csv and json have every column of the views.

    Example: icl shift --lang es
    """
    from icl_local.results import shift_tables

    console.print_tables(shift_tables(db, whole=output_format in ("csv", "json"), **options), output_format)
