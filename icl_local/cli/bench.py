"""`icl machine bench`: speed against what a user would pick instead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from icl_local.cli import completion, console
from icl_local.cli.options import COUNT, EXISTING_FILE, CommaList, SizeList, db_option, engine_options, format_option


@click.command("bench")
@click.option(
    "--model",
    default="smollm2-135m",
    show_default=True,
    shell_complete=completion.models,
    help="GGUF file, hf:owner/repo/file, or a name of `icl models list`.",
)
@click.option("--shape", type=click.Choice(["1b"]), help="Random weights of Llama 3.2 1B's shape, built on the spot.")
@click.option(
    "--type", "type_name", default="q4_0", show_default=True, help="GGUF type of --shape: q4_0, q8_0, q4_k_m."
)
@click.option("--queries", "source", default="samples", show_default=True, help="FILE or `samples`.")
@click.option("--limit", type=COUNT, default=64, show_default=True, help="Number of queries.")
@click.option("--max-tokens", type=COUNT, default=64, show_default=True, help="New tokens a query.")
@click.option(
    "--at-once", "parallels", type=SizeList(), default="1,8,16,32", show_default=True, help="Batch sizes to time."
)
@click.option(
    "--contenders",
    type=CommaList(),
    default="create_completion,server,transformers fp32,transformers bf16",
    show_default=True,
    help="Programs to compare with, or `none`.",
)
@click.option("--server", "servers", multiple=True, help="Base URL of a running OpenAI-compatible server.")
@click.option(
    "--batched-bench", type=EXISTING_FILE, help="A llama-batched-bench program: the limit of batched decoding."
)
@click.option("--runs", type=COUNT, default=1, show_default=True, help="Repeat all, and show ranges.")
@engine_options
@format_option
@db_option
def command(output_format: str, db: Path, **options: Any) -> None:
    """Time the same work (URIAL prompts, greedy) by this engine and by others, in one run.

    Rates are generated tokens over all seconds, the shared prefix included; only ratios are meaningful. A --server
    gets as many requests at once as --at-once says, cold and then with the same prompts again (warm).

    Example: icl machine bench --limit 16 --max-tokens 32
    """
    from icl_local import bench

    made = bench.run(db, **options, on_event=console.say)
    console.print_rows(made.columns, made.rows(), output_format=output_format, title=made.model)
