"""Descriptions of model files and registry entries, as rows of texts for a table."""

from collections.abc import Iterable
from itertools import groupby

from icl_local.exceptions import ModelError
from icl_local.weights import found, registry
from icl_local.weights.gguf_file import GgufInfo, read_info
from icl_local.weights.registry import FamilySpec
from icl_local.wording import shell


def registry_rows() -> list[tuple[str | None, ...]]:
    """Return (name, label, variant, state, source) of the registry's variants."""
    return [
        (family.name, family.label, variant, registry.state(spec), spec.gguf or spec.checkpoint or spec.trained_from)
        for family in registry.load_registry().values()
        for variant, spec in family.variants.items()
    ]


def families(rows: Iterable[tuple[str | None, ...]]) -> list[tuple[str | None, ...]]:
    """Return (name, label, files) of the registry's rows, one row a family: "here: base; to make: instruct"."""
    short: list[tuple[str | None, ...]] = []
    for (name, label), group in groupby(rows, key=lambda row: row[:2]):
        by_state: dict[str, list[str]] = {}
        for _, _, variant, state, _ in group:
            by_state.setdefault(str(state), []).append(str(variant))
        short.append((name, label, "; ".join(f"{state}: {', '.join(all_of)}" for state, all_of in by_state.items())))
    return short


def found_rows() -> list[tuple[str | None, ...]]:
    """Return (name, label, variant, state, source) of the models that other programs hold; only headers are read.

    The source is type and size, or why the model cannot be run.
    """
    rows: list[tuple[str | None, ...]] = []
    for one in found.found_models():
        try:
            info = read_info(one.file())
        except ModelError as error:
            reason = str(error).removeprefix(f"{one.name}: ").removeprefix(f"{one.path}: ")
            rows.append((one.name, found.label(one.name), None, "not usable", reason))
        else:
            variant = "base" if info.chat_template is None else "instruct"
            size = f"{info.quantization}, {info.bytes / 1e9:.2f} GB"
            rows.append((one.name, found.label(one.name), variant, "here", size))
    return rows


def family_rows(family: FamilySpec, *, metadata: bool = False) -> list[tuple[str, str, str]]:
    """Return (variant, property, value) of every variant; a file that serves two is described once.

    Properties of the whole entry have no variant.
    """
    rows = [("", "licence", family.licence)] if family.licence else []
    if family.untested:
        rows.append(("", "untested", "this project has not run its weights; names are from public pages and code"))
    described = set()
    for variant, spec in family.variants.items():
        path = registry.local_path(spec)
        facts = [("state", registry.state(spec))]
        if path in described:
            facts.append(("file", str(path)))
        elif path is not None:
            described.add(path)
            facts += file_rows(read_info(path), metadata=metadata)
        elif spec.gguf is None:
            facts.append(("make it", family.commands(variant)))
        elif spec.gguf.startswith("hf:"):
            facts.append(("fetch it", f"icl models pull {shell(family.name)}"))
        if spec.stands_in:
            facts.append(("stands in", "an instruct file, used as base too"))
        facts += [("made by others, not checked here", reference) for reference in spec.also]
        rows += [(variant, *pair) for pair in facts]
    return rows


def file_rows(info: GgufInfo, *, metadata: bool = False) -> list[tuple[str, str]]:
    """Return (property, value) of a GGUF file; with ``metadata`` also every key of its header."""
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
