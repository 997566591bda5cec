"""`icl machine probe`: which fast settings change nothing on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from icl_local.cli import completion, console
from icl_local.cli.options import COUNT, SizeList, db_option, engine_options, format_option


@click.command("probe")
@click.option(
    "--model",
    required=True,
    shell_complete=completion.models,
    help="GGUF file, hf:owner/repo/file, or a name of `icl models list`.",
)
@click.option(
    "--method",
    default="zero-shot",
    show_default=True,
    shell_complete=completion.methods,
    help="Method whose variant of the model is probed.",
)
@click.option("--dpo", is_flag=True, help="Probe the DPO-trained variant of a registry model.")
@click.option("--prompts", "n_prompts", type=COUNT, default=64, show_default=True, help="Number of prompts.")
@click.option("--tokens", "n_tokens", type=COUNT, default=64, show_default=True, help="New tokens for each prompt.")
@click.option(
    "--prefix-words", type=click.IntRange(min=0), default=600, show_default=True, help="Words that all prompts share."
)
@click.option("--at-once", "sizes", type=SizeList(), default="2,8,16", show_default=True, help="Batch sizes compared.")
@click.option("--first", is_flag=True, help="Stop at the first exact setting; faster ones may follow it.")
@click.option("--quick", is_flag=True, help="The bounded probe that `icl run` makes.")
@click.option("--also-unified", is_flag=True, help="Try one unified KV buffer too, which is seldom exact.")
@engine_options
@format_option
@db_option
def command(output_format: str, db: Path, **options: Any) -> int:
    """Probe whether batching changes anything for this file on this machine.

    Prompts are decoded one at a time without sharing their prefix, then in batches of several sizes, in another
    order, and stopped and resumed; logits are compared bit by bit. The batch size that was fastest is compared too.
    `icl run` uses the result that is stored, for every database of this machine.

    Example: icl machine probe --model model.gguf
    """
    from icl_local.cli.progress import ProbeBar
    from icl_local.running import probe

    with ProbeBar() as bar:
        results = probe.probe_model(db, on_event=console.say, on_step=bar.on_step, **options)
    console.print_rows(probe.COLUMNS, [probe.row(result) for result in results], output_format=output_format)
    return 0 if any(result.exact for result in results) else 1
