"""`icl score`: how probable given texts are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from icl_local.cli import console, options, values
from icl_local.wording import counted


@click.command("score")
@click.option("--model", required=True, type=values.MODEL, help="Model whose base file scores.")
@click.option(
    "--texts",
    required=True,
    type=values.METHOD,
    help="Method whose stored answers are scored, or `reference`: the references of --queries.",
)
@click.option("--texts-model", type=values.MODEL, help="Model that wrote the answers, if not --model's own.")
@click.option(
    "--method",
    type=values.METHODS,
    default="same",
    help="Prompts before the texts: methods, or `same`: the answer's own.",
)
@click.option("--lang", type=values.LANGUAGES, default="en", help="Languages of the queries.")
@click.option("--dpo", is_flag=True, help="Score by the DPO-trained variant too.")
@click.option("--queries", multiple=True, help="With --texts reference: FILE or LANG=FILE, as in icl run.")
@options.dataset_name
@click.option("--limit", type=values.COUNT, help="Number of texts, languages in turn.")
@click.option("--plan", is_flag=True, help="Only show what is missing.")
@options.shard
@options.engine
@options.prompt_dir
@options.output_format
@options.db
def command(output_format: str, db: Path, **given: Any) -> None:
    """Score how probable stored answers are under the base model, token by token, or references under any model.

    An answer is scored by the file that wrote it after its own prompt, and by the base file after the prompts of
    --method. The same command continues one that was killed. icl shift shows what it found; docs/shift.md explains it.

    Example: icl score --model llama-3.2-1b --texts instruct --method same,zero-shot,urial --lang en,es,fr
    """
    from icl_local.cli.progress import Display
    from icl_local.running import scoring

    with Display() as display:
        result = scoring.score_texts(
            db,
            **given,
            on_progress=display.on_scored,
            on_step=display.on_step,
            on_note=display.on_note,
            on_download=display.on_download,
        )
    if given["plan"]:
        console.print_rows(scoring.COLUMNS, result.rows, output_format=output_format)
        return
    too_long = f", {counted(result.n_too_long, 'text')} beyond the context" if result.n_too_long else ""
    see = 'icl sql "from reference_probabilities"' if given["texts"] == scoring.REFERENCE else "icl shift"
    console.say(f"{counted(result.n_new, 'text')} scored{too_long}; see: {see} --db {db}")
