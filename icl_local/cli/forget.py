"""`icl db forget`: remove responses for good."""

from __future__ import annotations

from pathlib import Path

import click

from icl_local.cli import console
from icl_local.cli.options import db_option

# option -> column of view responses
COLUMNS = ("model", "method", "language", "quantization", "dataset", "query_id", "finish_reason", "run_id")


@click.command("forget")
@click.option("--where", "condition", help="SQL over the columns of view responses.")
@click.option("--model", help="This model, by the name `icl status` gives it.")
@click.option("--method", help="This method.")
@click.option("--lang", "language", help="This language.")
@click.option("--quantization", help="This GGUF type.")
@click.option("--dataset", help="This query set.")
@click.option("--query", "query_id", help="This query.")
@click.option("--finish-reason", help="Responses that ended so.")
@click.option("--run", "run_id", help="Responses of this run.")
@click.option("--allow-again", is_flag=True, help="Instead: let all that was forgotten be made again by a run.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@db_option
def command(condition: str | None, allow_again: bool, yes: bool, db: Path, **chosen: str | None) -> None:
    """Remove responses with their errors, judgments and scores; every condition given must hold.

    For good: a rebuild, a merge or a run does not bring them back, unless --allow-again is called.

    Example: icl db forget --model "Llama3.2 1B" --where "created_at < '2026-11-01'"
    """
    from icl_local.store import upkeep

    if allow_again:
        console.say(f"{upkeep.allow_again(db):,} rows may be made again")
        return
    equal = {column: chosen[column] for column in COLUMNS if chosen[column] is not None}
    if condition is None and not equal:
        raise click.UsageError("say which: --model, --method, --lang, ... or --where")
    found = upkeep.matching(db, condition=condition, equal=equal)
    if not found:
        console.say("no response is like that; nothing was removed")
    elif yes or click.confirm(f"Remove {len(found):,} responses and what was judged of them, for good?", err=True):
        console.say(f"{upkeep.forget(db, found):,} responses removed")
    else:
        console.say("nothing was removed")
