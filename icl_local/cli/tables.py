"""`icl tables`: the paper's tables from your rows, or from its own printed cells."""

from __future__ import annotations

from pathlib import Path

import click

from icl_local.cli import console
from icl_local.cli.options import db_option, format_option

NAMES = ("1", "2", "3", "4", "6", "8", "sentences", "audit")


@click.command("tables")
@click.argument("names", nargs=-1, type=click.Choice(NAMES), metavar="[1|2|3|4|6|8|sentences|audit]...")
@click.option("--versus-paper", is_flag=True, help="Your figures beside the printed ones.")
@click.option("--published", is_flag=True, help="The same views over the paper's own cells.")
@click.option("--judge", help="The judge whose scores are shown; by default the one with most.")
@click.option(
    "--reading", type=click.Choice(["strict", "just_eval"]), default="strict", show_default=True,
    help="N/A left out, or counted as 5 as just-eval does.",
)  # fmt: skip
@format_option
@db_option
def command(
    names: tuple[str, ...],
    versus_paper: bool,
    published: bool,
    judge: str | None,
    reading: str,
    output_format: str,
    db: Path,
) -> None:
    """The paper's tables, all of them without a number: 1, 2, 3 scores, 4, 6, 8 critical errors in percent.

    sentences recomputes what the text says in figures; audit lists the slips in what was published. csv and json
    hold every column of the view behind a table, unrounded; text, markdown and latex look as in the paper.

    Example: icl tables 1 3 --judge openai:gpt-4o --format latex
    """
    from icl_local.results import paper_tables, render

    if versus_paper and published:
        raise click.UsageError("--versus-paper shows your figures, --published the paper's: choose one")
    chosen = names or (NAMES if published else NAMES[:6])
    origin = "published" if published else "ours"
    whole = output_format in ("csv", "json")
    with paper_tables.opened(db, origin=origin, judge=judge, reading=reading) as views:
        for place, name in enumerate(chosen):
            found = paper_tables.build(views, name, origin=origin, versus=versus_paper, whole=whole)
            if output_format == "text":
                console.print_table(found)
            else:
                click.echo("\n" * (place > 0) + render(found, output_format), nl=False)
