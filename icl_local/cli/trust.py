"""`icl trust`: how far a judge can be trusted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import icl_local
from icl_local.cli import console, options, values


@options.defaults_of(icl_local.trust)
@click.command("trust")
@click.option("--judge", type=values.STORED_JUDGE, help="Judge to compare; without one, only error rates.")
@click.option(
    "--reference",
    type=values.STORED_JUDGE,
    help="human: the mean of the raters; human without NAME: of the others; or a judge that scored a sample.",
)
@click.option("--sample", help="Only labels of this sample.")
@options.reading
@options.output_format
@options.db
def command(output_format: str, db: Path, **given: Any) -> None:
    """Compare a judge with human raters or another judge, and correct its means by their labels.

    First the agreement, then the judge's bias, corrected means of the cells with 95 % intervals, and differences
    between cells. Error rates, corrected by the labels of `icl sample draw --errors`, need no judge. csv and json have
    every column of the views. docs/trust.md says what each number may be used for.

    Example: icl trust --judge openai:gpt-4o-mini

    Example: icl trust --sample LOOPS
    """
    whole = output_format in ("csv", "json")
    console.print_tables(icl_local.trust(db, whole=whole, **given), output_format)
