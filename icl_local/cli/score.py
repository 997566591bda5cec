"""`icl score`: how probable given texts are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from icl_local.cli import completion, console
from icl_local.cli.options import (
    COUNT,
    CommaList,
    LanguageList,
    db_option,
    engine_options,
    format_option,
    prompt_dir_option,
    shard_option,
)
from icl_local.wording import counted


@click.command("score")
@click.option("--model", required=True, shell_complete=completion.models, help="Model whose base file scores.")
@click.option(
    "--texts",
    required=True,
    shell_complete=completion.methods,
    help="Method whose stored answers are scored, or `reference`: the references of --queries.",
)
@click.option("--texts-model", shell_complete=completion.models, help="Model that gave the answers, if it is another.")
@click.option(
    "--method",
    type=CommaList(),
    default="same",
    show_default=True,
    shell_complete=completion.methods,
    help="Prompts before the texts: methods, or `same`: the answer's own.",
)
@click.option(
    "--lang",
    type=LanguageList(),
    default="en",
    show_default=True,
    shell_complete=completion.languages,
    help="Languages of the queries.",
)
@click.option("--dpo", is_flag=True, help="Score by the DPO-trained variant too.")
@click.option("--queries", multiple=True, help="With --texts reference: FILE or LANG=FILE, as in icl run.")
@click.option("--dataset", shell_complete=completion.stored("dataset"), help="Name of the query set.")
@click.option("--limit", type=COUNT, help="Number of texts, languages in turn.")
@click.option("--plan", is_flag=True, help="Only show what is missing.")
@shard_option
@engine_options
@prompt_dir_option
@format_option
@db_option
def command(output_format: str, db: Path, **options: Any) -> None:
    """Score how probable stored answers are under the base model, token by token, or references under any model.

    An answer is scored by the file that wrote it after its own prompt, and by the base file after the prompts of
    --method. The same command continues one that was killed. icl shift shows what it found; docs/shift.md explains it.

    Example: icl score --model llama-3.2-1b --texts instruct --method same,zero-shot,urial --lang en,es,fr
    """
    from icl_local.cli.progress import ScoreBar
    from icl_local.running import scoring

    with ScoreBar() as bar:
        result = scoring.score_texts(db, **options, **bar.callbacks())
    if options["plan"]:
        console.print_rows(scoring.COLUMNS, result.rows, output_format=output_format)
        return
    too_long = f", {counted(result.n_too_long, 'text')} beyond the context" if result.n_too_long else ""
    see = f'icl sql "from raw.scorings" --db {db}' if options["texts"] == scoring.REFERENCE else f"icl shift --db {db}"
    console.say(f"{counted(result.n_new, 'text')} scored{too_long}; see: {see}")
