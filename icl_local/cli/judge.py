"""`icl judge`: score stored responses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import icl_local
from icl_local.cli import console, options, values


@options.defaults_of(icl_local.judge)
@click.command("judge")
@click.option(
    "--judge",
    required=True,
    type=values.JUDGE,
    help="openai:MODEL[@URL], rules, or local: with a GGUF file or a name of `icl models list`.",
)
@click.option("--plan", is_flag=True, help="Only show what is missing, its tokens and its price.")
@click.option("--batch", is_flag=True, help="Use the Batch API: half the price, within a day.")
@click.option("--collect", is_flag=True, help="With --batch: send nothing, read the finished batches.")
@click.option("--wait", is_flag=True, help="With --batch: wait until all batches are finished.")
@click.option("--poll", type=click.FloatRange(min=1), help="Seconds between checks with --wait.")
@options.max_cost
@options.prices
@click.option("--repeat", type=values.COUNT, help="Verdicts for each response.")
@click.option(
    "--retry",
    type=values.Names(),
    help="Request judgments again that ended as refused, truncated, parse_error, rejected, incomplete or out_of_range.",
)
@click.option("--variant", help="published or rubric-first (for local judges).")
@click.option("--template", multiple=True, help="just-eval=PATH: prompts from a clone of just-eval or a judgment file.")
@options.only
@click.option("--sample", help="Only the answers of this sample: icl sample draw.")
@click.option("--draws", type=values.COUNT, help="Only the first N draws of each query, where responses are sampled.")
@click.option("--limit", type=values.COUNT, help="Only the first N missing judgments.")
@options.concurrency
@click.option("--timeout", type=click.FloatRange(min=1), help="Seconds to wait for a reply.")
@click.option("--max-tokens", type=values.COUNT, help="Tokens of an API judge's verdict.")
@click.option("--reasoning-effort", help="For an API judge that reasons, such as none or low.")
@options.shard
@options.engine
@options.cluster
@options.prompt_dir
@options.rows
def judge(output_format: str, db: Path, **given: Any) -> None:
    """Score stored responses with an LLM judge.

    Existing judgments are kept. The same command retries those that failed. --retry asks again
    where the judge gave no scores, as a further attempt. An API judge reads OPENAI_API_KEY and
    OPENAI_BASE_URL; a local judge needs neither network nor money.

    Example: icl judge --judge local:smollm2-135m --limit 20

    Example: icl judge --judge rules

    Example: icl judge --judge openai:gpt-6-luna --lang en --plan
    """
    if (given["collect"] or given["wait"]) and not given["batch"]:
        raise click.UsageError("--collect and --wait belong to --batch")
    if given["collect"] and given["retry"]:
        raise click.UsageError("--collect sends nothing; give --retry without it")
    if given["batch"] and not given["plan"] and given["judge"].startswith("local:"):
        raise click.UsageError("--batch is for openai: judges")
    result = icl_local.judge(db, **given)
    if (preview := result.preview) is not None:
        console.print_rows(preview.columns, preview.rows, output_format=output_format, title=result.judge)
        for line in preview.notes:
            console.say(line)
    elif given["batch"] and result.collected is None:
        console.say("the same command with --collect reads the verdicts later")
    elif result.progress is not None and result.progress.missing:
        console.say("the same command retries the judgments that failed")
    if names := result.without_scores:
        listed = ", ".join(f"'{name}'" for name in names)
        columns = "response_id, status, error, raw_reply"
        console.say(f'see: icl sql "select {columns} from judgments where status in ({listed})" --db {db}')
        now = " without --collect" if given["collect"] else ""
        console.say(f"again: the same command{now} with --retry {','.join(names)}")
