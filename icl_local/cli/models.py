"""Commands about model files: models, convert, quantize."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from icl_local import convert, store
from icl_local.cli import console, options, progress, values
from icl_local.weights import describe, hub, registry
from icl_local.wording import shell


@click.group("models")
def models() -> None:
    """List, describe, register and fetch models.

    Example: icl models list
    """


@models.command("list")
@click.option("--registry-only", is_flag=True, help="Do not look for models of other programs.")
@options.output_format
def list_models(registry_only: bool) -> None:
    """List the registry's models, and GGUF files that other programs hold.

    The programs are Ollama, LM Studio, llama.cpp and the Hugging Face hub's cache on this machine. Their files are only
    read. --model takes each name.

    Example: icl models list --format csv
    """
    columns = ("name", "label", "variant", "state", "source")
    registered, held = describe.registry_rows(), [] if registry_only else describe.found_rows()
    if not console.as_text():
        console.print_rows(columns, registered + held)
        return
    console.print_rows(("name", "label", "files"), describe.families(registered), "Registry")
    if held:
        short = [(name, f"{variant or state}: {source}") for name, _, variant, state, source in held]
        console.print_rows(("name", "file"), short, "Held by other programs")
    console.say("next: icl models show NAME, icl run --model NAME")


@models.command("show")
@click.argument("name", type=values.MODEL)
@click.option("--metadata", is_flag=True, help="Show every key of the file's header too.")
@options.db
@options.output_format
def show(name: str, metadata: bool, db: Path) -> None:
    """Describe a GGUF file and its origin, or a registry entry.

    NAME is a file, or any name that `icl models list` prints. An entry is shown with the commands that get its files.

    Example: icl models show model.Q4_K_M.gguf
    """
    family = registry.load_registry().get(name)
    if family is not None:
        rows = describe.family_rows(family, metadata=metadata)
        console.print_rows(("variant", "property", "value"), rows, family.label)
        return
    with progress.Display() as display:
        model = registry.resolve(name, method_kind=registry.COMPLETION, on_progress=display.on_download)
    lineage = store.named(db, "lineage_of", [model.sha256]).dicts() if db.is_file() else []
    made = [(key.replace("_", " "), str(value)) for row in lineage for key, value in row.items() if value is not None]
    file = describe.file_rows(model.info, metadata=metadata)
    notes = [("note", note) for note in model.notes]
    properties = [*file, ("sha256", model.sha256), ("source", model.source), *notes, *made]
    console.print_rows(("property", "value"), properties, model.label)


@models.command("add")
@click.argument("name")
@click.option("--base", help="Base model: FILE.gguf, hf:owner/repo/file.gguf or ollama:NAME.")
@click.option("--instruct", help="Instruct model; its file must hold a chat template.")
@click.option("--dpo", "--base-dpo", "base_dpo", help="Base model after DPO.")
@click.option("--instruct-dpo", help="Instruct model after DPO.")
@click.option("--label", help="Printed name, one for all variants (the paper's, such as 'Llama3.2 1B').")
def add(name: str, label: str | None, **files: str | None) -> None:
    """Register files under a name, in your own registry (ICL_MODELS_FILE).

    Example: icl models add llama-3.2-1b --base Llama-3.2-1B.Q8_0.gguf
    """
    given = {variant.replace("_", "-"): file for variant, file in files.items() if file is not None}
    path = registry.add(name, files=given, label=label)
    console.say(f"{name} ({', '.join(given)}) is in {path}; next: icl run --model {shell(name)}")


@models.command("pull")
@click.argument("name", type=values.REGISTERED)
def pull(name: str) -> None:
    """Fetch a file, or all of a registry entry, into the hub's cache.

    Example: icl models pull hf:QuantFactory/Llama-3.2-1B-GGUF/Llama-3.2-1B.Q8_0.gguf
    """
    for source in registry.hub_sources(name):
        with progress.Display() as display:
            file = hub.fetch(source, on_progress=display.on_download)
        click.echo(console.escape(file.path))
        console.say(f"{file.address} sha256 {file.sha256}")


@click.command("convert")
@click.argument("source")
@options.out("GGUF file to write.")
@click.option("--type", "type_name", default="f16", help="GGUF type: f32, f16, q8_0 ...")
@click.option("--name", help="Name of the model in the file; the checkpoint's by default.")
@click.option("--dpo", is_flag=True, help="Mark a model that was DPO-trained elsewhere.")
@click.option("--gate/--no-gate", "run_gate", default=True, help="Prove that it is the same model.")
@click.option(
    "--gate-memory", type=values.NOT_NEGATIVE, help="GB for the gate's float32 logits; 0: only weights are compared."
)
@options.db
def convert_(source: str, out: Path, dpo: bool, gate_memory: float | None, db: Path, **given: Any) -> None:
    """Write a checkpoint or LoRA adapter as GGUF with llama.cpp's converter and prove that it is the same model.

    SOURCE is a folder (a checkpoint, an adapter, the result of `icl dpo`) or owner/name of the hub.

    Example: icl convert llama-dpo --out llama-dpo.Q8_0.gguf --type q8_0
    """
    found = convert.locate(source, on_progress=console.say)
    memory = None if gate_memory is None else int(gate_memory * 1e9)
    given |= {"source": found.source, "dpo": dpo, "memory_bytes": memory, "on_progress": console.say}
    with store.Store(db) as rows:
        made = convert.convert(found.folder, out, store=rows, **given)
    if made.checks:
        checks = [(check.name, check.status, check.detail) for check in made.checks]
        console.print_rows(("check", "status", "detail"), checks, made.path.name)
    console.say(f"{made.path} sha256 {made.row['gguf_sha256']}; next: {next_command(made, db, dpo=dpo)}")


def next_command(made: convert.Conversion, db: Path, *, dpo: bool) -> str:
    """Return the command for the new file: it is run, or paired with its base if it is DPO-trained."""
    if not dpo and made.row["training_run_id"] is None:
        return f"icl run --model {shell(made.path)}"
    (lineage,) = store.named(db, "lineage_of", [made.row["gguf_sha256"]]).dicts()
    base = lineage["base_source"]
    known = registry.entry_of(base) if base else None
    name, variant = known or (made.path.stem, "base")
    also = "" if known else f" --{variant} BASE.gguf"
    note = "" if known else f" (BASE.gguf: the file of {base or 'its base'})"
    added = f"icl models add {shell(name)}{also} --{variant}-dpo {shell(made.path)}{note}"
    return f"{added}; icl run --model {shell(name)} --dpo"


@click.command("quantize")
@click.argument("source", type=values.MODEL)
@options.out("GGUF file to write.")
@click.option("--type", "type_name", required=True, help="GGUF type: q8_0, q4_k_m ...")
@click.option("--allow-requantize", is_flag=True, help="Accept a quantised file as source, at some loss.")
@options.db
def quantize(source: str, out: Path, db: Path, **given: Any) -> None:
    """Write a GGUF file in another type and compare its greedy next tokens with the source's.

    The source is a GGUF file, hf:owner/repo/file, or a name of `icl models list`.

    Example: icl quantize model.F16.gguf --out model.Q4_K_M.gguf --type q4_k_m
    """
    with progress.Display() as display:
        model = registry.resolve(source, method_kind=registry.COMPLETION, on_progress=display.on_download)
    with store.Store(db) as rows:
        made = convert.quantize(model.path, out, store=rows, on_progress=console.say, **given)
    for check in made.checks:
        console.say(f"{check.name}: {check.detail}")
    click.echo(made.path)
