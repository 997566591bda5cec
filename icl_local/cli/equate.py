"""`icl equate`: one judge's scores on the scale of another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from icl_local.cli import console, options, values


@click.command("equate")
@click.option("--from", "from_judge", required=True, type=values.STORED_JUDGE, help="Judge to map.")
@click.option("--to", "to_judge", required=True, type=values.STORED_JUDGE, help="Judge whose scale the scores get.")
@click.option("--sample", help="Anchors: answers of this sample; by default all that both judges scored.")
@click.option("--method", type=click.Choice(["linear", "mean"]), default="linear", help="mean: only a shift.")
@click.option("--seed", type=values.NATURAL, default=0, help="Same seed, same rows.")
@click.option("--samples", type=values.COUNT, default=2000, help="Resamples of the queries.")
@options.output_format
@options.db
def command(output_format: str, db: Path, **given: Any) -> None:
    """Map one judge's scores to the scale of another, by answers that both scored, and store the maps.

    A map that does not hold is stored as refused, with the reason. `icl tables 1 --equated-to JUDGE` prints means on
    the other scale.

    Example: icl equate --from openai:gpt-6-luna --to just-eval:gpt-4-0314 --sample ANCHORS --seed 1
    """
    from icl_local.judging import equate

    found = equate(db, **given)
    console.print_rows(found.columns, found.rows, output_format=output_format, title=found.title)
    kept = sum(row["refused"] is None for row in found.dicts())
    console.say(f"{kept} of {len(found)} maps hold; next: icl tables 1 --equated-to {given['to_judge']} --db {db}")
