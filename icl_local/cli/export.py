"""`icl export`: responses and judgments for other tools."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from icl_local.cli import console, options, values
from icl_local.wording import counted

if TYPE_CHECKING:
    from icl_local.store import Selection

FORMATS = ("just-eval", "alpaca-eval", "csv", "parquet", "every-eval-ever")


@click.command("export")
@click.option("--format", "form", type=click.Choice(FORMATS), required=True, help="Format of the files.")
@click.option(
    "--what",
    type=click.Choice(["responses", "judgments", "all"]),
    default="responses",
    help="all: every table, as a folder of Parquet files that `icl db merge` reads.",
)
@click.option("--organization", default="unknown", help="Organization that ran it, for every-eval-ever.")
@options.selection
@click.option("--judge", multiple=True, type=values.STORED_JUDGE, help="Only verdicts of this judge.")
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="File; a folder for several cells.")
@options.db
def command(
    form: str, what: str, organization: str, out: Path, db: Path, chosen: Selection, judge: tuple[str, ...]
) -> None:
    """Write responses and judgments for other tools.

    Example: icl export --format just-eval --model "Llama3.1 8B" --method urial --lang es -o outputs.json
    """
    from icl_local.exchange import every_eval_ever, export

    if judge and what != "judgments":
        raise click.UsageError("--judge selects verdicts; add --what judgments")
    chosen = dataclasses.replace(chosen, judge=judge)
    if form == "every-eval-ever":
        if what != "responses" or chosen.split:
            raise click.UsageError("every-eval-ever holds results, not rows; leave --what and --split out")
        done = every_eval_ever.export_records(db, out, chosen=chosen, organization=organization)
    elif what == "all":
        if form != "parquet" or chosen:
            raise click.UsageError("--what all writes every row as --format parquet; leave the other options out")
        done = export.export_tables(db, out)
    else:
        write = export.export_responses if what == "responses" else export.export_judgments
        done = write(db, out, form=form, chosen=chosen)
    console.say(
        f"{counted(done.rows, 'row')} to {', '.join(map(str, done.files[:3]))}{', ...' if len(done.files) > 3 else ''}"
    )
    if done.left_out:
        console.say(f"left out: {counted(done.left_out, 'response')} without an answer (prompt too long, error)")
    if done.lost:
        console.say(done.lost)
