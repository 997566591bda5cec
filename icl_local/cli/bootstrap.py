"""`icl bootstrap`: seeded intervals that assume no distribution."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from icl_local.cli import console, options, values
from icl_local.wording import counted

SHORT = {"language": "lang", "ci_low": "low", "ci_high": "high"}  # column names on a terminal


@click.command("bootstrap")
@click.option("--samples", type=click.IntRange(min=100), default=10_000, help="Resamples of a mean.")
@click.option("--seed", type=values.NATURAL, default=0, help="Same seed, same rows.")
@click.option("--pairs", is_flag=True, help="Resample differences between cells that differ in one thing.")
@options.judge
@options.reading
@options.output_format
@options.db
def command(samples: int, seed: int, pairs: bool, output_format: str, db: Path, **given: Any) -> None:
    """Compute percentile bootstrap intervals of every score mean and store them: view bootstrap_intervals.

    Queries of one text are drawn together. --pairs resamples paired differences: view bootstrap_differences.

    Example: icl bootstrap --samples 10000 --seed 1
    """
    from icl_local.results import bootstrap

    count = bootstrap.run(db, samples=samples, seed=seed, pairs=pairs, **given)
    what, view = ("difference", "bootstrap_differences") if pairs else ("mean", "bootstrap_intervals")
    console.say(f"{counted(count, what)} resampled {counted(samples, 'time')}; icl sql 'from {view}'")
    found = bootstrap.intervals(db, samples=samples, seed=seed, pairs=pairs)
    columns = [SHORT.get(name, name) for name in found.columns] if output_format == "text" else found.columns
    console.print_rows(columns, found.rows, output_format=output_format)
