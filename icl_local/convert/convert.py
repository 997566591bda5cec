"""Write a Hugging Face checkpoint as a GGUF file, and GGUF files in other types.

llama.cpp's converter writes a file of 16 or 32 bits (converter.py), llama.cpp makes all other types of it. A file gets
its name only when it is whole and has passed the parity gate (parity.py); a file that failed is kept beside it as
``.rejected``.
"""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icl_local import engine
from icl_local.convert import converter
from icl_local.convert.checkpoint import Checkpoint, merge_adapter, read_json
from icl_local.convert.parity import Check, Reference, compare_files, failures, gate
from icl_local.exceptions import ConfigError, ConversionError, DiskFull
from icl_local.identity import key_of, sha256_file
from icl_local.store import Store
from icl_local.weights import read_info

_BYTES_PER_WEIGHT = {"f32": 4.0, "f16": 2.0, "bf16": 2.0, "q8_0": 1.07}


@dataclass(frozen=True)
class Conversion:
    """A written file, the gate's checks (none: it was not run), and its row of raw.conversions."""

    path: Path
    checks: Sequence[Check]
    row: Mapping[str, Any]


def convert(
    folder: Path,
    out: Path,
    *,
    type_name: str = "f16",
    name: str | None = None,
    source: str | None = None,
    dpo: bool = False,
    run_gate: bool = True,
    memory_bytes: int | None = None,
    store: Store,
    on_progress: Callable[[str], None] = lambda text: None,
) -> Conversion:
    """Write the checkpoint (or LoRA adapter with its base) in ``folder`` to ``out`` and prove that it is the same.

    ``source`` is the origin in the database (default: the folder's name), ``name`` is written as general.name (default:
    that of the training run or of the source), ``dpo`` marks a checkpoint trained elsewhere; ``memory_bytes`` is the
    limit of the gate's float32 logits (default: most of the free memory).

    Raises ConversionError for a checkpoint that cannot be converted, for an existing ``out`` and if the gate fails (the
    file is then kept as ``<out>.rejected`` and the gate's result stored), DiskFull, and MissingExtra if the gate lacks
    Transformers.
    """
    type_name, source = type_name.lower(), source or folder.resolve().name
    with _drafts(out, type_name) as (draft, base, merged):
        on_progress("reading the checkpoint")
        original = Checkpoint(folder)
        checkpoint = merge_adapter(original, merged) if original.is_adapter else original
        reference = Reference(checkpoint, memory_bytes=memory_bytes) if run_gate else None
        wide_type = _wide_type(
            out.parent, checkpoint, type_name, logits=bool(reference and not reference.why_no_logits)
        )
        wide = draft if type_name == wide_type else base
        trained = folder / "training.json"  # of `icl dpo`
        record = read_json(trained) if trained.is_file() else {}
        conversion_id = key_of(kind="conversion", source=original.sha256, type=type_name, parent=None)
        converter.write_gguf(
            checkpoint.files,
            wide,
            kind=wide_type,
            name=str(name or record.get("base_name") or source.partition("@")[0].rpartition("/")[2]),
            fields={
                "icl.conversion_id": conversion_id,
                "icl.source_sha256": original.sha256,
                "icl.training_run_id": str(record.get("training_run_id", "")),
                "icl.dpo": dpo or bool(record),
            },
            say=on_progress,
        )
        if wide != draft:
            on_progress(f"writing {type_name.upper()}")
            engine.quantize(wide, draft, type_name)
        checks = gate(draft, reference, wide=wide, on_progress=on_progress) if reference else []
        return _settle(
            draft,
            out,
            checks,
            store,
            conversion_id=conversion_id,
            source=source,
            source_sha256=original.sha256,
            quantization=type_name.upper(),
            training_run_id=record.get("training_run_id"),
        )


def quantize(
    source: Path,
    out: Path,
    *,
    type_name: str,
    allow_requantize: bool = False,
    store: Store,
    on_progress: Callable[[str], None] = lambda text: None,
) -> Conversion:
    """Write the GGUF file ``source`` in another type; and compare the greedy next tokens of both files.

    Raises ModelError for a damaged source, ConfigError for an unknown type, EngineError where llama.cpp refuses,
    ConversionError for an existing ``out`` or a result that is not the same model.
    """
    type_name = type_name.lower()
    with _drafts(out, type_name) as (draft, *_):
        info = read_info(source)
        parent = sha256_file(source)
        on_progress(f"quantising to {type_name}")
        engine.quantize(source, draft, type_name, allow_requantize=allow_requantize)
        on_progress("comparing next tokens")
        checks = [compare_files(draft, source)]
        return _settle(
            draft,
            out,
            checks,
            store,
            conversion_id=key_of(kind="conversion", source=parent, type=type_name, parent=parent),
            source=source.name,
            source_sha256=str(info.metadata.get("icl.source_sha256") or parent),
            quantization=type_name.upper(),
            training_run_id=str(info.metadata.get("icl.training_run_id") or "") or None,
            parent_gguf_sha256=parent,
        )


def _settle(draft: Path, out: Path, checks: Sequence[Check], store: Store, **columns: object) -> Conversion:
    """Store the result, then rename the draft, so that a file under its final name has a row; raise if it failed."""
    failed = failures(checks)
    report = {one.name: {"status": one.status, "detail": one.detail, **one.figures} for one in checks}
    row = {
        **columns,
        "gguf_sha256": None if failed else sha256_file(draft),  # nothing can refer to a refused file
        "gate": "failed" if failed else "passed" if checks else "skipped",
        "gate_report": report or None,
    }
    store.put([("conversions", row)])
    if failed:
        rejected = out.with_name(out.name + ".rejected")
        os.replace(draft, rejected)
        raise ConversionError(f"{out.name} failed the parity gate, kept as {rejected}: {failed}")
    os.replace(draft, out)
    return Conversion(out, checks, row)


def _wide_type(folder: Path, checkpoint: Checkpoint, type_name: str, *, logits: bool) -> str:
    """Return the type that the converter writes: F32 if logits are compared or the disk has room, else as stored."""
    free, own = shutil.disk_usage(folder).free, checkpoint.dtype.lower()
    made = 0.0 if type_name == "f32" else _BYTES_PER_WEIGHT.get(type_name, 0.75)
    wide_type = "f32" if logits or type_name == "f32" or checkpoint.parameters * (made + 4) < free / 2 else own
    needed = int(checkpoint.parameters * (made * (type_name != wide_type) + _BYTES_PER_WEIGHT[wide_type]))
    if needed > free:
        raise DiskFull(f"{folder} has {free / 1e9:.1f} GB free, {needed / 1e9:.1f} GB are needed; free some space")
    return wide_type


@contextmanager
def _drafts(out: Path, type_name: str) -> Iterator[list[Path]]:
    """Yield hidden names beside ``out``: the file, the file it is made from, and a merged checkpoint. Remove them.

    Raises ConfigError for an unknown type, ConversionError where ``out`` exists or its folder does not.
    """
    if type_name not in (known := engine.file_types()):
        raise ConfigError(f"unknown type {type_name!r}; choose one of {', '.join(known)}")
    if out.exists():
        raise ConversionError(f"{out} exists already; remove it or choose another name")
    if not out.parent.is_dir():
        raise ConversionError(f"the folder {out.parent} does not exist; make it first")
    drafts = [out.with_name(f".{out.name}.{part}.partial") for part in ("draft", "base", "merged")]
    try:
        yield drafts
    finally:
        for draft in drafts[:2]:
            draft.unlink(missing_ok=True)
        shutil.rmtree(drafts[2], ignore_errors=True)
