"""`icl show`: one query, its prompts and answers side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from icl_local.cli import console, options
from icl_local.wording import counted

if TYPE_CHECKING:
    from icl_local.store import Selection

SHOWN_CHARACTERS = 600  # of a prompt, from its end


@click.command("show")
@click.argument("query_id")
@options.selection
@click.option("--full", is_flag=True, help="Show whole prompts, not their last lines.")
@options.output_format
@options.db
def command(query_id: str, chosen: Selection, full: bool, output_format: str, db: Path) -> None:
    """Show one query with its prompts and the models' answers side by side.

    Example: icl show sample-07 --lang es
    """
    from icl_local.results import answers

    found = answers.find(db, query_id, chosen)
    if output_format != "text":
        console.print_rows(answers.COLUMNS, [row for one in found for row in one.rows()], output_format=output_format)
        return
    for query in found:
        console.print_panels([(query.title, query.instruction, "")])
        prompts = {(one.method, one.prompt): one for one in query.answers if one.prompt is not None}
        panels = [(f"prompt · {method}", _end_of(prompt or "", full), "") for method, prompt in prompts]
        console.print_panels([*panels, *((one.title, one.text, one.subtitle) for one in query.answers)])
        if not query.answers:
            console.say("no answers yet; `icl run` makes them")


def _end_of(prompt: str, full: bool) -> str:
    hidden = len(prompt) - SHOWN_CHARACTERS
    return (
        prompt
        if full or hidden <= 0
        else f"[{counted(hidden, 'character')} before; --full shows them]\n{prompt[hidden:]}"
    )
