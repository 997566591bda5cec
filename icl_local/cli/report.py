"""`icl report`: one HTML page of a whole study."""

from __future__ import annotations

from pathlib import Path

import click

from icl_local.cli import console
from icl_local.cli.options import db_option


@click.command("report")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("report.html"),
    show_default=True,
    help="File to write.",
)
@click.option("--judge", help="The judge whose scores are shown; by default the one with most.")
@click.option(
    "--reading",
    type=click.Choice(["strict", "just_eval"]),
    default="strict",
    show_default=True,
    help="N/A left out, or counted as 5 as just-eval does.",
)
@click.option(
    "--responses", type=click.IntRange(min=0), default=40_000, show_default=True, help="At most so many responses."
)
@click.option(
    "--max-mb", type=click.FloatRange(min=1), default=50, show_default=True, help="Texts beyond this are left out."
)
@db_option
def command(output: Path, judge: str | None, reading: str, responses: int, max_mb: float, db: Path) -> None:
    """Write tables, figures and responses as one HTML page that opens without a network.

    Example: icl report -o report.html
    """
    from icl_local.results import report

    made = report.write(db, output, judge=judge, reading=reading, max_responses=responses, max_bytes=int(max_mb * 1e6))
    console.say(f"{made.bytes / 1e6:.1f} MB, {made.responses:,} of {made.responses_stored:,} responses")
    if made.texts < made.responses:
        console.say(f"the texts of {made.responses - made.texts:,} are left out to stay under {max_mb:g} MB (--max-mb)")
    click.echo(made.path)
