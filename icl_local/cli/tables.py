"""`icl tables`: the paper's tables from your rows, or from its own printed cells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import icl_local
from icl_local.cli import completion, console
from icl_local.cli.options import db_option, defaults_of, format_option, judge_option, reading_option

NAMES = ("1", "2", "3", "4", "6", "8", "metrics", "methods", "variance", "sentences", "audit")
PUBLISHED = tuple(name for name in NAMES if name not in ("metrics", "methods", "variance"))


@defaults_of(icl_local.table)
@click.command("tables")
@click.argument("names", nargs=-1, type=click.Choice(NAMES), metavar=f"[{'|'.join(NAMES)}]...")
@click.option("--versus-paper", "versus", is_flag=True, help="Show your figures beside the printed ones.")
@click.option("--published", is_flag=True, help="Show the paper's own cells, its sentences and its slips.")
@click.option("--corrected", is_flag=True, help="Scores corrected by human labels, see icl trust (tables 1, 2, 3).")
@click.option(
    "--equated-to", shell_complete=completion.stored("judge"), help="Scores on this judge's scale: icl equate."
)
@click.option("--reference", help="With --corrected: human, or the judge that stands for the labels.")
@judge_option
@reading_option
@click.option("--loops", type=click.Choice(["strict", "literal"]), help="Reading of a loop; the paper's is literal.")
@click.option(
    "--dataset",
    shell_complete=completion.stored("dataset"),
    help="Show the cells of this query set where several qualify.",
)
@click.option(
    "--quantization", shell_complete=completion.stored("quantization"), help="Show the cells of this GGUF type."
)
@click.option("--settings", help="Show the cells of these settings (first characters of settings_id).")
@format_option
@db_option
def command(names: tuple[str, ...], output_format: str, db: Path, **options: Any) -> None:
    """Show the paper's tables, by default all: 1, 2, 3 are scores, 4, 6, 8 critical errors in percent.

    metrics shows what rules found (icl judge --judge rules); methods the effects of parameters, then variance, the part
    of it that is the choice of examples, their order, draws or verdicts; sentences recomputes the figures in the
    paper's text; audit lists the slips in its figures. csv and json have every column of the view behind a table,
    unrounded; text, markdown and latex have the paper's layout.

    Example: icl tables 1 3 --judge openai:gpt-4o --format latex
    """
    from icl_local.results import build_tables

    if options["versus"] and options["published"]:
        raise click.UsageError("--versus-paper shows your figures, --published the paper's: choose one")
    chosen = names or (
        PUBLISHED if options["published"] else NAMES[: 3 if options["corrected"] or options["equated_to"] else 6]
    )
    chosen = tuple(one for name in chosen for one in (("methods", "variance") if name == "methods" else (name,)))
    console.print_tables(build_tables(db, chosen, whole=output_format in ("csv", "json"), **options), output_format)
