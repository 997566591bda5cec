"""`icl show`: one query, its prompts and answers side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from icl_local.cli import console
from icl_local.cli.options import db_option, format_option

if TYPE_CHECKING:
    from icl_local.results import answers

SHOWN_CHARACTERS = 600  # of a prompt, from its end


@click.command("show")
@click.argument("query_id")
@click.option("--dataset", help="Only this query set.")
@click.option("--lang", "language", help="Only this language.")
@click.option("--model", help="Only this model, by the name `icl status` gives it.")
@click.option("--method", help="Only this method.")
@click.option("--full", is_flag=True, help="Whole prompts, not their last lines.")
@format_option
@db_option
def command(
    query_id: str,
    dataset: str | None,
    language: str | None,
    model: str | None,
    method: str | None,
    full: bool,
    output_format: str,
    db: Path,
) -> None:
    """One query: what the models got, and what they answered, side by side.

    Example: icl show sample-07 --lang es
    """
    from icl_local.results import answers

    found = answers.find(db, query_id, dataset=dataset, language=language, model=model, method=method)
    if output_format != "text":
        columns = ("dataset", "query_id", "language", *answers.Answer.__dataclass_fields__)
        console.print_rows(
            columns,
            [
                (asked.dataset, asked.query_id, asked.language, *vars(answer).values())
                for asked in found
                for answer in asked.answers
            ],
            output_format=output_format,
        )
        return
    for asked in found:
        task = "unknown" if asked.task is None else ", ".join(asked.task) or "none"
        title = f"{asked.dataset} {asked.query_id} · {asked.language} · {asked.split} · task {task}"
        console.print_panels([(title, asked.instruction, "")])
        prompts = {(one.method, one.prompt): one for one in asked.answers if one.prompt is not None}
        panels = [(f"prompt · {how}", _end_of(prompt or "", full), "") for how, prompt in prompts]
        panels += [(_title(one), one.text, _subtitle(one)) for one in asked.answers]
        console.print_panels(panels)
        if not asked.answers:
            console.say("no answers yet; `icl run` makes them")


def _title(answer: answers.Answer) -> str:
    return " · ".join([answer.model + (" DPO" if answer.dpo else ""), answer.quantization, answer.method])


def _subtitle(answer: answers.Answer) -> str:
    tokens = "" if answer.new_tokens is None else f"{answer.new_tokens} tokens"
    return " · ".join(part for part in (answer.finish_reason, tokens, *answer.errors) if part)


def _end_of(prompt: str, full: bool) -> str:
    hidden = len(prompt) - SHOWN_CHARACTERS
    return prompt if full or hidden <= 0 else f"[{hidden:,} characters before; --full shows them]\n{prompt[hidden:]}"
