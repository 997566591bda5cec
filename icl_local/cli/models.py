"""`icl models`: what can be run, what a file is, and where to get the others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from icl_local.cli import console
from icl_local.cli.options import db_option, format_option

if TYPE_CHECKING:
    from icl_local.weights import FamilySpec, GgufInfo


@click.group("models")
def command() -> None:
    """Models this machine can run.

    Example: icl models list
    """


@command.command("list")
@format_option
def list_models(output_format: str) -> None:
    """Registry entries, and which of their files are here.

    Example: icl models list --format csv
    """
    from icl_local.weights import registry

    rows = [
        (family.name, family.label, variant, registry.state(spec), spec.gguf or spec.checkpoint or spec.trained_from)
        for family in registry.load_registry().values()
        for variant, spec in family.variants.items()
    ]
    console.print_rows(("name", "label", "variant", "state", "source"), rows, output_format=output_format)


@command.command("show")
@click.argument("name")
@click.option("--metadata", is_flag=True, help="Every key of the file's header, too.")
@db_option
@format_option
def show(name: str, metadata: bool, db: Path, output_format: str) -> None:
    """What a GGUF file is and where it comes from, or what a registry entry holds and how to get the rest.

    Example: icl models show model.Q4_K_M.gguf
    """
    from icl_local.weights import registry

    family = registry.load_registry().get(name)
    rows: list[tuple[str, ...]]
    if family is not None:
        rows = _family_properties(family, metadata)
        console.print_rows(("variant", "property", "value"), rows, output_format=output_format, title=family.label)
        return
    with console.bytes_progress() as on_progress:
        model = registry.resolve(name, method_kind="completion", on_progress=on_progress)
    rows = [*_properties(model.info, metadata), ("sha256", model.sha256), ("source", model.source)]
    rows += _lineage(db, model.sha256)
    console.print_rows(("property", "value"), rows, output_format=output_format, title=model.label)


@command.command("add")
@click.argument("name")
@click.option("--base", help="Base model: FILE.gguf or hf:owner/repo/file.gguf.")
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
@click.argument("name")
def pull(name: str) -> None:
    """Fetch a hub file, or those of a registry entry, into the Hugging Face cache.

    Example: icl models pull hf:QuantFactory/Llama-3.2-1B-GGUF/Llama-3.2-1B.Q8_0.gguf
    """
    from icl_local.exceptions import ConfigError
    from icl_local.weights import hub, registry

    family = registry.load_registry().get(name)
    sources = [name] if family is None else [spec.gguf for spec in family.variants.values() if spec.gguf]
    remote = [source for source in sources if source.startswith("hf:")]
    if not remote:
        raise ConfigError(f"{name} names no file of the hub; see: icl models show {name}")
    for source in remote:
        with console.bytes_progress() as on_progress:
            file = hub.fetch(source, on_progress=on_progress)
        click.echo(console.escape(file.path))
        console.say(f"{file.source} sha256 {file.sha256}")


def _family_properties(family: FamilySpec, metadata: bool) -> list[tuple[str, ...]]:
    """(variant, property, value) of every variant; a file that serves two is described once."""
    from icl_local.weights import read_info, registry

    rows: list[tuple[str, ...]] = []
    described = set()
    for variant, spec in family.variants.items():
        path = registry.local_path(spec)
        found = [("state", registry.state(spec))]
        if path in described:
            found.append(("file", str(path)))
        elif path is not None:
            described.add(path)
            found += _properties(read_info(path), metadata)
        elif spec.gguf is None:
            found.append(("make it", family.recipe(variant)))
        elif spec.gguf.startswith("hf:"):
            found.append(("fetch it", f"icl models pull {family.name}"))
        if spec.stands_in:
            found.append(("stands in", "an instruct file, used as base too"))
        found += [("made by others, not checked here", reference) for reference in spec.also]
        rows += [(variant, *pair) for pair in found]
    return rows


def _lineage(db: Path, sha256: str) -> list[tuple[str, str]]:
    """From base to answers, as far as the database knows."""
    from icl_local import store

    if not db.is_file():
        return []
    found = store.named(db, "lineage_of", [sha256])
    return [
        (column.replace("_", " "), str(value))
        for row in found.dicts()
        for column, value in row.items()
        if value is not None
    ]


def _properties(info: GgufInfo, metadata: bool) -> list[tuple[str, str]]:
    template = f"yes, {len(info.chat_template)} characters" if info.chat_template else "none (a base model)"
    heads = f"{info.head_count}, {info.head_count_kv} for keys and values, of {info.head_dim}"
    rows = [
        ("file", str(info.path)),
        ("name", info.name or ""),
        ("architecture", info.architecture),
        ("quantization", info.quantization),
        ("size", f"{info.bytes / 1e9:.2f} GB"),
        ("parameters", f"{info.parameters:,}"),
        ("context length", f"{info.context_length:,} tokens"),
        ("vocabulary", f"{info.vocab_size:,} tokens ({info.tokenizer_model})"),
        ("layers", f"{info.block_count} of width {info.embedding_length}"),
        ("attention heads", heads),
        ("chat template", template),
        ("BOS", f"{info.bos_token}, put first" if info.add_bos else "not put first"),
        ("EOS", info.eos_token or ""),
    ]
    if training := info.metadata.get("icl.training_run_id"):
        rows.append(("DPO-trained", str(training)))
    if metadata:
        rows += [(key, str(value)) for key, value in info.metadata.items()]
    return rows
