"""`icl errors`: infinite loops and unintended code."""

from __future__ import annotations

from pathlib import Path

import click

from icl_local.cli import console
from icl_local.cli.options import db_option, format_option

EXCERPT_CHARACTERS = 160
ERRORS = ("infinite_loop", "infinite_loop_literal", "unintended_code")


@click.command("errors")
@click.option("--list", "listed", is_flag=True, help="The offending responses instead of the table.")
@click.option("--error", type=click.Choice(ERRORS), help="With --list: only this one.")
@click.option("--model", help="Only this model, by the name `icl status` gives it.")
@click.option("--method", help="Only this method.")
@click.option("--lang", "language", help="Only this language.")
@click.option("--redetect", is_flag=True, help="First bring every response to the present detector version.")
@format_option
@db_option
def command(
    listed: bool,
    error: str | None,
    model: str | None,
    method: str | None,
    language: str | None,
    redetect: bool,
    output_format: str,
    db: Path,
) -> None:
    """Critical errors in percent: loops under both readings, and code that nobody asked for.

    loop is the default reading; literal is any sequence repeated more than 5 times, rules and table lines included.
    code is in percent of the n_code responses whose query has a known task, and counts where that is not coding.

    Example: icl errors --list --error infinite_loop --lang en
    """
    from icl_local.store import named, upkeep

    if redetect:
        console.say(f"{upkeep.redetect(db):,} responses brought to the present detector")
    if not listed:
        rates = named(db, "error_table", [model, method, language])
        console.print_rows(rates.columns, rates.rows, output_format=output_format, title="Critical errors, percent")
        return
    found = named(db, "error_list", [model, method, language, error])
    if output_format != "text":
        console.print_rows(found.columns, found.rows, output_format=output_format)
        return
    shown = ("query_id", "model", "method", "language", "dpo", "error", "kind", "copies", "span", "where it is")
    body = found.dicts()
    console.print_rows(shown, [(*(row[name] for name in shown[:-1]), _excerpt(row)) for row in body])
    console.say(f"{len(body):,} found; whole answers: icl show QUERY_ID")


def _excerpt(row: dict[str, object]) -> str:
    start = max(0, int(str(row["start_char"] or 0)) - 20)
    text = str(row["text"])[start : start + EXCERPT_CHARACTERS]
    return ("…" if start else "") + text.replace("\n", "⏎")
