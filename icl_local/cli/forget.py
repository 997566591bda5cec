"""`icl db forget`: remove responses for good."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from icl_local.cli import console
from icl_local.cli.options import db_option, selection_options
from icl_local.wording import counted

if TYPE_CHECKING:
    from icl_local.store import Selection


@click.command("forget")
@click.option("--where", "condition", help="SQL condition over the columns of view responses.")
@selection_options
@click.option("--query", "query_id", help="Only this query.")
@click.option("--finish-reason", help="Only responses with this finish_reason.")
@click.option("--run", "run_id", help="Only responses of this run.")
@click.option("--allow-again", is_flag=True, help="Remove nothing; let runs make all forgotten responses again.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@db_option
def command(
    condition: str | None, chosen: Selection, allow_again: bool, yes: bool, db: Path, **columns: str | None
) -> None:
    """Remove responses with their errors, judgments and scores; every condition given must hold.

    A rebuild, a merge or a run does not bring them back; --allow-again lifts this for all.

    Example: icl db forget --model "Llama3.2 1B" --where "created_at < '2026-11-01'"
    """
    from icl_local.store import upkeep

    if allow_again:
        console.say(f"{counted(upkeep.allow_again(db), 'row')} may be made again")
        return
    equal = {column: value for column, value in columns.items() if value is not None}
    if condition is None and not equal and not chosen:
        raise click.UsageError("select responses with --model, --method, --lang, ... or --where")
    found = upkeep.matching(db, chosen, condition=condition, equal=equal)
    if not found:
        console.say("no response is like that; nothing was removed")
    elif yes or _confirmed(f"Remove {counted(len(found), 'response')} with their judgments, for good?"):
        console.say(f"{counted(upkeep.forget(db, found), 'response')} removed")
    else:
        console.say("nothing was removed")


def _confirmed(question: str) -> bool:
    try:
        return click.confirm(question, err=True)
    except click.Abort:  # no answer: standard input is closed
        console.say("give --yes to remove them without a question")
        return False
