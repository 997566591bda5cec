"""`icl convert`: a Hugging Face checkpoint to GGUF, with proof."""

from __future__ import annotations

from pathlib import Path

import click

from icl_local.cli import console
from icl_local.cli.options import db_option


@click.command("convert")
@click.argument("source")
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="GGUF file to write.")
@click.option("--type", "type_name", default="f16", show_default=True, help="f32, f16, bf16, q8_0, q4_k_m ...")
@click.option("--name", help="Name of the model in the file; what the checkpoint says of itself by default.")
@click.option("--dpo", is_flag=True, help="Mark a model that was DPO-trained elsewhere.")
@click.option("--gate/--no-gate", "run_gate", default=True, show_default=True, help="Prove that it is the same model.")
@click.option("--gate-memory", type=float, help="GB the gate may take for float32 logits; 0: weights are its proof.")
@db_option
def command(
    source: str,
    out: Path,
    type_name: str,
    name: str | None,
    dpo: bool,
    run_gate: bool,
    gate_memory: float | None,
    db: Path,
) -> None:
    """Write a Llama checkpoint or LoRA adapter as GGUF and prove that it is the same model.

    SOURCE is a folder (a checkpoint, an adapter, what `icl dpo` left) or owner/name of the hub.

    Example: icl convert llama-dpo --out llama-dpo.Q8_0.gguf --type q8_0
    """
    from icl_local import convert, store
    from icl_local.convert import model_source

    found = model_source.locate(source, on_progress=console.say)
    with store.Store(db) as rows:
        made = convert.convert(
            found.folder,
            out,
            type_name=type_name,
            name=name or (None if (found.folder / "training.json").is_file() else found.name),
            source=found.source,
            dpo=dpo,
            run_gate=run_gate,
            memory_bytes=None if gate_memory is None else int(gate_memory * 1e9),
            store=rows,
            on_progress=console.say,
        )
    if made.gate_result is not None:
        checks = [(check.name, check.status, check.detail) for check in made.gate_result.checks]
        console.print_rows(("check", "status", "detail"), checks, title=made.path.name)
    console.say(f"{made.path} sha256 {made.gguf_sha256}; next: icl run --model {made.path}")
