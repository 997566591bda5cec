"""`icl sample`: random samples of answers for people to label."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from icl_local.cli import console, options, values

ERRORS = ("infinite_loop", "unintended_code")

if TYPE_CHECKING:
    from icl_local.store import Selection


@click.group("sample")
def command() -> None:
    """Draw random samples of answers for people to label, and list them.

    Example: icl sample list
    """


@command.command("draw")
@click.argument("name")
@click.option("--per-cell", type=values.COUNT, required=True, help="Answers of each cell and stratum.")
@click.option("--seed", type=values.NATURAL, required=True, help="Same seed, same queries.")
@click.option("--by", type=click.Choice(["task"]), help="Draw from each task by itself.")
@click.option("--errors", type=click.Choice(ERRORS), help="Draw from flagged answers and from the others.")
@click.option("--judged-by", type=values.STORED_JUDGE, help="Only answers that this judge scored.")
@click.option("--plan", is_flag=True, help="Store nothing; show how wide intervals would be, and the hours of work.")
@options.selection
@options.output_format
@options.db
def draw(
    name: str,
    per_cell: int,
    seed: int,
    by: str | None,
    errors: str | None,
    judged_by: str | None,
    plan: bool,
    chosen: Selection,
    output_format: str,
    db: Path,
) -> None:
    """Draw the same random queries in every cell, for people to label.

    `icl browse --rate NAME` shows their answers to a rater. A larger --per-cell under the same name keeps what is
    labelled. Several --split or --by strata get this number each. With --errors the raters say whether an answer
    has the error, and `icl trust` corrects the error rate.

    Example: icl sample draw PILOT --per-cell 100 --seed 1 --lang en --split multi

    Example: icl sample draw PILOT --per-cell 100 --seed 1 --method zero-shot,urial --plan

    Example: icl sample draw LOOPS --per-cell 50 --seed 1 --errors infinite_loop
    """
    from icl_local.judging import draw_sample

    if by and errors:
        raise click.UsageError("--by or --errors, not both")
    if judged_by:
        chosen = replace(chosen, judge=judged_by)
    made = draw_sample(db, name, chosen, per_cell=per_cell, seed=seed, by=by or errors, plan=plan)
    console.print_rows(made.columns, made.rows, output_format=output_format)
    for note in made.notes:
        console.say(note)
    if not plan:
        console.say(f"next: icl browse --rate {name} --rater YOUR-NAME --db {db}")


@command.command("list")
@options.output_format
@options.db
def list_samples(output_format: str, db: Path) -> None:
    """List the samples, their raters and labels.

    Example: icl sample list --format csv
    """
    from icl_local.judging import list_samples

    found = list_samples(db)
    console.print_rows(found.columns, found.rows, output_format=output_format)
