"""`icl tables`: the paper's tables from your rows, or from its own printed cells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import icl_local
from icl_local.cli import console, options, values

NAMES = ("1", "2", "3", "4", "6", "8", "metrics", "methods", "variance", "sentences", "audit")
PUBLISHED = tuple(name for name in NAMES if name not in ("metrics", "methods", "variance"))


@options.defaults_of(icl_local.table)
@click.command("tables")
@click.argument("names", nargs=-1, type=click.Choice(NAMES), metavar=f"[{'|'.join(NAMES)}]...")
@click.option("--versus-paper", "versus", is_flag=True, help="Show your figures beside the printed ones.")
@click.option("--published", is_flag=True, help="Show the paper's own cells, its sentences and its slips.")
@click.option("--corrected", is_flag=True, help="Scores corrected by human labels, see icl trust (tables 1, 2, 3).")
@click.option("--equated-to", type=values.STORED_JUDGE, help="Scores on this judge's scale: icl equate.")
@click.option("--reference", help="With --corrected: human, or the judge that stands for the labels.")
@options.judge
@options.reading
@click.option("--loops", type=click.Choice(["strict", "literal"]), help="Reading of a loop; the paper's is literal.")
@click.option("--dataset", type=values.DATASET, help="Show the cells of this query set where several qualify.")
@click.option("--quantization", type=values.QUANTIZATION, help="Show the cells of this GGUF type.")
@click.option("--settings", help="Show the cells of these settings (first characters of settings_id).")
@options.output_format
@options.db
def command(names: tuple[str, ...], output_format: str, db: Path, **given: Any) -> None:
    """Show the paper's tables, by default all: 1, 2, 3 are scores, 4, 6, 8 critical errors in percent.

    metrics: scores by rules (icl judge --judge rules). methods: effects of parameters. variance: how much of the
    variance comes from examples, their order, draws and verdicts. sentences: the figures in the paper's text, computed
    from your rows. audit: the slips in the paper's figures.

    csv and json have every column of the view behind a table, unrounded; text, markdown and latex have the paper's
    layout.

    Example: icl tables 1 3 --judge openai:gpt-4o --format latex
    """
    from icl_local.results import build_tables

    if given["versus"] and given["published"]:
        raise click.UsageError("--versus-paper shows your figures, --published the paper's: choose one")
    chosen = names or (
        PUBLISHED if given["published"] else NAMES[: 3 if given["corrected"] or given["equated_to"] else 6]
    )
    chosen = tuple(one for name in chosen for one in (("methods", "variance") if name == "methods" else (name,)))
    console.print_tables(build_tables(db, chosen, whole=output_format in ("csv", "json"), **given), output_format)
