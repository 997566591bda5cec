"""`icl judge`: score stored responses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import icl_local
from icl_local.cli import completion, console
from icl_local.cli.options import (
    COUNT,
    EXISTING_FILE,
    CommaList,
    cluster_options,
    concurrency_option,
    db_option,
    defaults_of,
    engine_options,
    format_option,
    only_options,
    prompt_dir_option,
    shard_option,
)


@defaults_of(icl_local.judge)
@click.command("judge")
@click.option(
    "--judge",
    required=True,
    shell_complete=completion.judges,
    help="openai:MODEL[@URL], rules, or local: with a GGUF file or a name of `icl models list`.",
)
@click.option("--plan", is_flag=True, help="Only show what is missing, its tokens and its price.")
@click.option("--batch", is_flag=True, help="Use the Batch API: half the price, within a day.")
@click.option("--collect", is_flag=True, help="With --batch: send nothing, read the finished batches.")
@click.option("--wait", is_flag=True, help="With --batch: wait until all batches are finished.")
@click.option("--poll", type=click.FloatRange(min=1), help="Seconds between checks with --wait.")
@click.option("--max-cost", type=click.FloatRange(min=0), help="Most this command may cost, in USD.")
@click.option("--prices", type=EXISTING_FILE, help="Price table, read before the built-in one.")
@click.option("--repeat", type=COUNT, help="Verdicts for each response.")
@click.option(
    "--retry",
    type=CommaList(),
    help="Ask again where the judge ended with refused, truncated, parse_error, rejected, incomplete or out_of_range.",
)
@click.option("--variant", help="published or rubric-first (for local judges).")
@click.option("--template", multiple=True, help="just-eval=PATH: prompts from its clone or judgments.")
@only_options
@click.option("--sample", help="Only the answers of this sample: icl sample draw.")
@click.option("--draws", type=COUNT, help="Only the first N draws of each query, where responses are sampled.")
@click.option("--limit", type=COUNT, help="Only the first N missing judgments.")
@concurrency_option
@click.option("--timeout", type=click.FloatRange(min=1), help="Seconds a request.")
@click.option("--max-tokens", type=COUNT, help="Tokens of an API judge's verdict.")
@click.option("--reasoning-effort", help="For an API judge that reasons, such as none or low.")
@shard_option
@engine_options
@cluster_options
@prompt_dir_option
@format_option
@db_option
def command(output_format: str, db: Path, **options: Any) -> None:
    """Score stored responses with an LLM judge.

    Existing judgments are kept. The same command retries those that failed. --retry asks again
    where the judge gave no scores, as a further attempt. An API judge reads OPENAI_API_KEY and
    OPENAI_BASE_URL; a local judge needs neither network nor money.

    Example: icl judge --judge local:smollm2-135m --limit 20

    Example: icl judge --judge rules

    Example: icl judge --judge openai:gpt-6-luna --lang en --plan
    """
    if (options["collect"] or options["wait"]) and not options["batch"]:
        raise click.UsageError("--collect and --wait belong to --batch")
    if options["collect"] and options["retry"]:
        raise click.UsageError("--collect sends nothing; give --retry without it")
    if options["batch"] and not options["plan"] and options["judge"].startswith("local:"):
        raise click.UsageError("--batch is for openai: judges")
    result = icl_local.judge(db, **options)
    if (preview := result.preview) is not None:
        console.print_rows(preview.columns, preview.rows, output_format=output_format, title=result.judge)
        for line in preview.notes:
            console.say(line)
    elif options["batch"] and result.collected is None:
        console.say("the same command with --collect reads the verdicts later")
    elif result.progress is not None and result.progress.missing:
        console.say("the same command retries the judgments that failed")
    if names := result.without_scores:
        listed = ", ".join(f"'{name}'" for name in names)
        columns = "response_id, status, error, raw_reply"
        console.say(f'see: icl sql "select {columns} from judgments where status in ({listed})" --db {db}')
        now = " without --collect" if options["collect"] else ""
        console.say(f"again: the same command{now} with --retry {','.join(names)}")
