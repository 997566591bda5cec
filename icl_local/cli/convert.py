"""`icl convert`: a Hugging Face checkpoint to GGUF, with proof."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from icl_local.cli import console, options, values

if TYPE_CHECKING:
    from icl_local.convert import Conversion


@click.command("convert")
@click.argument("source")
@click.option("--out", required=True, type=values.FILE, help="GGUF file to write.")
@click.option("--type", "type_name", default="f16", help="GGUF type: f32, f16, q8_0 ...")
@click.option("--name", help="Name of the model in the file; the checkpoint's by default.")
@click.option("--dpo", is_flag=True, help="Mark a model that was DPO-trained elsewhere.")
@click.option("--gate/--no-gate", "run_gate", default=True, help="Prove that it is the same model.")
@click.option(
    "--gate-memory", type=values.NOT_NEGATIVE, help="GB for the gate's float32 logits; 0: only weights are compared."
)
@options.db
def command(source: str, out: Path, dpo: bool, gate_memory: float | None, db: Path, **given: Any) -> None:
    """Write a checkpoint or LoRA adapter as GGUF with llama.cpp's converter and prove that it is the same model.

    SOURCE is a folder (a checkpoint, an adapter, the result of `icl dpo`) or owner/name of the hub.

    Example: icl convert llama-dpo --out llama-dpo.Q8_0.gguf --type q8_0
    """
    from icl_local import convert, store

    found = convert.locate(source, on_progress=console.say)
    memory = None if gate_memory is None else int(gate_memory * 1e9)
    given |= {"source": found.source, "dpo": dpo, "memory_bytes": memory, "on_progress": console.say}
    with store.Store(db) as rows:
        made = convert.convert(found.folder, out, store=rows, **given)
    if made.gate_result is not None:
        checks = [(check.name, check.status, check.detail) for check in made.gate_result.checks]
        console.print_rows(("check", "status", "detail"), checks, title=made.path.name)
    console.say(f"{made.path} sha256 {made.gguf_sha256}; next: {next_command(made, db, dpo=dpo)}")


def next_command(made: Conversion, db: Path, *, dpo: bool) -> str:
    """Return the command for the new file: it is run, or paired with its base if it is DPO-trained."""
    from icl_local import store
    from icl_local.weights import registry

    if not dpo and made.training_run_id is None:
        return f"icl run --model {made.path}"
    (lineage,) = store.named(db, "lineage_of", [made.gguf_sha256]).dicts()
    base = lineage["base_source"]
    known = registry.entry_of(base) if base else None
    name, variant = known or (made.path.stem, "base")
    also = "" if known else f" --{variant} BASE.gguf"
    note = "" if known else f" (BASE.gguf: the file of {base or 'its base'})"
    return f"icl models add {name}{also} --{variant}-dpo {made.path}{note}; icl run --model {name} --dpo"
