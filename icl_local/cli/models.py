"""`icl models`: which models can be run, what a file is, and where to get the others."""

from __future__ import annotations

from pathlib import Path

import click

from icl_local.cli import console, options, values


@click.group("models")
def command() -> None:
    """List, describe, register and fetch models.

    Example: icl models list
    """


@command.command("list")
@click.option("--registry-only", is_flag=True, help="Do not look for models of other programs.")
@options.output_format
def list_models(registry_only: bool, output_format: str) -> None:
    """List the registry's models, and GGUF files that other programs hold.

    The programs are Ollama, LM Studio, llama.cpp and the Hugging Face hub's cache on this machine. Their files are only
    read. --model takes each name.

    Example: icl models list --format csv
    """
    from icl_local.weights import describe

    columns = ("name", "label", "variant", "state", "source")
    registered, held = describe.registry_rows(), [] if registry_only else describe.found_rows()
    if output_format != "text":
        console.print_rows(columns, registered + held, output_format=output_format)
        return
    console.print_rows(("name", "label", "files"), describe.families(registered), title="Registry")
    if held:
        short = [(name, f"{variant or state}: {source}") for name, _, variant, state, source in held]
        console.print_rows(("name", "file"), short, title="Held by other programs")
    console.say("next: icl models show NAME, icl run --model NAME")


@command.command("show")
@click.argument("name", type=values.MODEL)
@click.option("--metadata", is_flag=True, help="Show every key of the file's header too.")
@options.db
@options.output_format
def show(name: str, metadata: bool, db: Path, output_format: str) -> None:
    """Describe a GGUF file and its origin, or a registry entry.

    NAME is a file, or any name that `icl models list` prints. An entry is shown with the commands that get its files.

    Example: icl models show model.Q4_K_M.gguf
    """
    from icl_local import store
    from icl_local.cli.progress import Display
    from icl_local.weights import describe, registry

    family = registry.load_registry().get(name)
    if family is not None:
        rows = describe.family_rows(family, metadata=metadata)
        console.print_rows(("variant", "property", "value"), rows, output_format=output_format, title=family.label)
        return
    with Display() as display:
        model = registry.resolve(name, method_kind="completion", on_progress=display.on_download)
    lineage = store.named(db, "lineage_of", [model.sha256]).dicts() if db.is_file() else []
    made = [(key.replace("_", " "), str(value)) for row in lineage for key, value in row.items() if value is not None]
    file = describe.file_rows(model.info, metadata=metadata)
    notes = [("note", note) for note in model.notes]
    properties = [*file, ("sha256", model.sha256), ("source", model.source), *notes, *made]
    console.print_rows(("property", "value"), properties, output_format=output_format, title=model.label)


@command.command("add")
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
    from icl_local.weights import registry

    given = {variant.replace("_", "-"): file for variant, file in files.items() if file is not None}
    path = registry.add(name, files=given, label=label)
    console.say(f"{name} ({', '.join(given)}) is in {path}; next: icl run --model {name}")


@command.command("pull")
@click.argument("name", type=values.REGISTERED)
def pull(name: str) -> None:
    """Fetch a file, or all of a registry entry, into the hub's cache.

    Example: icl models pull hf:QuantFactory/Llama-3.2-1B-GGUF/Llama-3.2-1B.Q8_0.gguf
    """
    from icl_local.cli.progress import Display
    from icl_local.weights import hub, registry

    for source in registry.hub_sources(name):
        with Display() as display:
            file = hub.fetch(source, on_progress=display.on_download)
        click.echo(console.escape(file.path))
        console.say(f"{file.source} sha256 {file.sha256}")
