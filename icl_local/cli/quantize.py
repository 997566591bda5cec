"""`icl quantize`: a GGUF file in another type."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from icl_local.cli import console, options, values


@click.command("quantize")
@click.argument("source", type=values.MODEL)
@click.option("--out", required=True, type=values.FILE, help="GGUF file to write.")
@click.option("--type", "type_name", required=True, help="GGUF type: q8_0, q4_k_m ...")
@click.option("--allow-requantize", is_flag=True, help="Accept a quantised file as source, at some loss.")
@options.db
def command(source: str, out: Path, db: Path, **given: Any) -> None:
    """Write a GGUF file in another type and compare its greedy next tokens with the source's.

    The source is a GGUF file, hf:owner/repo/file, or a name of `icl models list`.

    Example: icl quantize model.F16.gguf --out model.Q4_K_M.gguf --type q4_k_m
    """
    from icl_local import convert, store
    from icl_local.cli.progress import Display
    from icl_local.weights import registry

    with Display() as display:
        model = registry.resolve(source, method_kind="completion", on_progress=display.on_download)
    with store.Store(db) as rows:
        made = convert.quantize(model.path, out, store=rows, on_progress=console.say, **given)
    for check in made.gate_result.checks if made.gate_result else ():
        console.say(f"{check.name}: {check.detail}")
    click.echo(made.path)
