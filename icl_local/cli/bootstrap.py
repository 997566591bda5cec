"""`icl bootstrap`: seeded intervals that assume no distribution."""

from __future__ import annotations

from pathlib import Path

import click

from icl_local.cli import console
from icl_local.cli.options import db_option, format_option


@click.command("bootstrap")
@click.option("--samples", type=click.IntRange(min=100), default=10_000, show_default=True, help="Resamples of a mean.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="The same seed, the same rows.")
@click.option("--judge", help="Only the scores of this judge.")
@click.option(
    "--reading",
    type=click.Choice(["strict", "just_eval"]),
    default="strict",
    show_default=True,
    help="N/A left out, or counted as 5 as just-eval does.",
)
@format_option
@db_option
def command(samples: int, seed: int, judge: str | None, reading: str, output_format: str, db: Path) -> None:
    """Percentile bootstrap of every score mean, kept in the database: view bootstrap_intervals.

    Example: icl bootstrap --samples 10000 --seed 1
    """
    from icl_local.results import bootstrap, paper_tables

    count = bootstrap.run(db, samples=samples, seed=seed, judge=judge, reading=reading)
    console.say(f"{count} means resampled {samples:,} times; icl sql 'from bootstrap_intervals'")
    with paper_tables.opened(db) as views:
        rows = [row for row in views.rows("bootstrap_intervals") if (row["samples"], row["seed"]) == (samples, seed)]
    shown = ("model", "method", "language", "dpo", "judge", "metric", "mean", "se", "ci_low", "ci_high", "n")
    console.print_rows(shown, [tuple(row[name] for name in shown) for row in rows], output_format=output_format)
