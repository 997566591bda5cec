"""Write a Hugging Face Llama checkpoint as a GGUF file, and GGUF files in other types.

Tensors are streamed in blocks from the mapped checkpoint, so memory does not grow with the model. A file gets its name
only when it is whole and has passed the parity gate (parity.py); a file that failed is kept beside it as ``.rejected``.
Types of 16 and 32 bits are written here, all others by llama.cpp from such a file.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from icl_local import engine
from icl_local.convert.checkpoint import Checkpoint
from icl_local.convert.model_source import locate
from icl_local.convert.parity import (
    Check,
    GateResult,
    Reference,
    check_logits,
    compare_next_tokens,
    gate,
    header_fields,
    next_tokens,
    sample_texts,
)
from icl_local.convert.tokenizer import Vocabulary, load_vocabulary
from icl_local.exceptions import ConfigError, ConversionError, DiskFull
from icl_local.files import NO_SPACE
from icl_local.identity import key_of, sha256_file
from icl_local.store import Store, now
from icl_local.weights import read_info

WRITTEN_HERE = ("f32", "f16", "bf16")
_ALIGNMENT = 32
_BYTES_PER_WEIGHT = {"f32": 4.0, "f16": 2.0, "bf16": 2.0, "q8_0": 1.07}

OnProgress = Callable[[str], None]


@dataclass(frozen=True)
class Conversion:
    """A written file, its source, and the gate's result (None: the gate was not run)."""

    path: Path
    conversion_id: str
    source: str
    source_sha256: str
    type_name: str
    gguf_sha256: str
    gate_result: GateResult | None
    training_run_id: str | None = None
    parent_gguf_sha256: str | None = None

    @property
    def gate(self) -> str:
        """Return passed, failed or skipped."""
        return "skipped" if self.gate_result is None else "passed" if self.gate_result.passed else "failed"

    def row(self) -> dict[str, object]:
        """Return the row of raw.conversions; a refused file has no sha256 there, so that nothing can refer to it."""
        return {
            "conversion_id": self.conversion_id,
            "source_sha256": self.source_sha256,
            "source": self.source,
            "training_run_id": self.training_run_id,
            "gguf_sha256": None if self.gate == "failed" else self.gguf_sha256,
            "quantization": self.type_name.upper(),
            "parent_gguf_sha256": self.parent_gguf_sha256,
            "gate": self.gate,
            "gate_report": None if self.gate_result is None else self.gate_result.report(),
            "created_at": now(),
        }


def convert_model(
    db: Path,
    source: str,
    out: Path,
    *,
    name: str | None = None,
    gate_memory: float | None = None,
    on_progress: OnProgress | None = None,
    **options: Any,
) -> Conversion:
    """Convert a folder or a repository of the hub and store the result, as `icl convert` does.

    ``name``: by default that of the training run or of the source; ``gate_memory`` in GB; ``options`` are those of
    ``convert``, whose errors it raises, and those of ``locate``.
    """
    found = locate(source, on_progress=on_progress)
    if name is None and not (found.folder / "training.json").is_file():
        name = found.name
    memory_bytes = None if gate_memory is None else int(gate_memory * 1e9)
    with Store(db) as rows:
        return convert(
            found.folder,
            out,
            name=name,
            source=found.source,
            memory_bytes=memory_bytes,
            store=rows,
            on_progress=on_progress,
            **options,
        )


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
    store: Store | None = None,
    on_progress: OnProgress | None = None,
) -> Conversion:
    """Write the checkpoint (or LoRA adapter with its base) in ``folder`` to ``out`` and prove that it is the same.

    ``name`` is written as general.name (default: the name in the checkpoint), ``source`` is the origin in the database
    (default: the folder's name), ``dpo`` marks a checkpoint trained elsewhere; ``memory_bytes`` is the limit of the
    gate's float32 logits (default: most of the free memory).

    Raises ConversionError for a checkpoint that cannot be converted, for an existing ``out`` and if the gate fails (the
    file is then kept as ``<out>.rejected`` and the gate's result stored), DiskFull, and MissingExtra if the gate lacks
    Transformers.
    """
    say = on_progress or (lambda _: None)
    type_name = type_name.lower()
    _check_type(type_name)
    _check_target(out)
    checkpoint = Checkpoint(folder)
    vocabulary = load_vocabulary(checkpoint.tokenizer_folder, n_rows=checkpoint.shape.vocab_size)
    reference = Reference(checkpoint, memory_bytes=memory_bytes) if run_gate else None
    wide = reference is not None and reference.why_no_logits is None and type_name != "f32"
    _check_space(out.parent, checkpoint, type_name, wide=wide)
    say("reading the checkpoint")
    record = checkpoint.training_record()
    conversion_id = conversion_key(source_sha256=checkpoint.sha256, type_name=type_name)
    facts = {
        "general.name": name or record.get("base_name") or _own_name(checkpoint),
        "icl.conversion_id": conversion_id,
        "icl.source_sha256": checkpoint.sha256,
        "icl.training_run_id": record.get("training_run_id", ""),
    }
    is_dpo = dpo or bool(record)

    def write(path: Path, kind: str) -> None:
        say(f"writing {kind}")
        with _disk_errors(path):
            _write(path, checkpoint, vocabulary, kind, facts=facts, dpo=is_dpo)

    with _drafts(out) as (draft, base):
        logits: Check | None = None
        expected = None
        if wide and reference is not None:
            write(base, "f32")
            say("logits of the float32 file")
            logits = check_logits(base, reference)
        if type_name in WRITTEN_HERE:
            write(draft, type_name)
        else:
            if not base.is_file():
                write(base, _base_type(out.parent, checkpoint))
            say(f"quantising to {type_name}")
            engine.quantize(base, draft, type_name)
            if reference is not None and reference.why_no_logits:
                expected = next_tokens(base, reference.sample_ids)
        base.unlink(missing_ok=True)
        result = None
        if reference is not None:
            result = gate(draft, reference, logits=logits, expected=expected, on_progress=say)
        return _settle(
            draft,
            Conversion(
                path=out,
                conversion_id=conversion_id,
                source=source or folder.resolve().name,
                source_sha256=checkpoint.sha256,
                type_name=type_name,
                gguf_sha256=sha256_file(draft),
                gate_result=result,
                training_run_id=record.get("training_run_id"),
            ),
            store,
        )


def quantize(
    source: Path,
    out: Path,
    *,
    type_name: str,
    allow_requantize: bool = False,
    store: Store | None = None,
    on_progress: OnProgress | None = None,
) -> Conversion:
    """Write the GGUF file ``source`` in another type; and compare the greedy next tokens of both files.

    Raises ModelError for a damaged source, ConfigError for an unknown type, EngineError where llama.cpp refuses,
    ConversionError for an existing ``out`` or a result that is not the same model.
    """
    say = on_progress or (lambda _: None)
    type_name = type_name.lower()
    _check_type(type_name)
    _check_target(out)
    info = read_info(source)
    parent = sha256_file(source)
    with _drafts(out) as (draft, _):
        say(f"quantising to {type_name}")
        engine.quantize(source, draft, type_name, allow_requantize=allow_requantize)
        say("comparing next tokens")
        read_info(draft)
        token_ids = [token for ids in engine.tokenize(source, sample_texts(), add_special=False) for token in ids]
        token_ids = token_ids[: min(256, info.context_length)]
        check = compare_next_tokens(draft, token_ids, next_tokens(source, token_ids))
        return _settle(
            draft,
            Conversion(
                path=out,
                conversion_id=conversion_key(source_sha256=parent, type_name=type_name, parent_gguf_sha256=parent),
                source=source.name,
                source_sha256=str(info.metadata.get("icl.source_sha256") or parent),
                type_name=type_name,
                gguf_sha256=sha256_file(draft),
                gate_result=GateResult((check,)),
                training_run_id=str(info.metadata.get("icl.training_run_id") or "") or None,
                parent_gguf_sha256=parent,
            ),
            store,
        )


def conversion_key(*, source_sha256: str, type_name: str, parent_gguf_sha256: str | None = None) -> str:
    """Return the conversion_id: a key of the source (or the file that was quantised) and the type."""
    return key_of(kind="conversion", source=source_sha256, type=type_name, parent=parent_gguf_sha256)


def _settle(draft: Path, made: Conversion, store: Store | None) -> Conversion:
    """Store the result, rename the draft (to ``.rejected`` if the gate failed), and raise if it failed.

    In this order a file under its final name has its row, even if the process is killed.
    """
    rejected = made.path.with_name(made.path.name + ".rejected")
    if store is not None:
        store.put([("conversions", made.row())])
    os.replace(draft, rejected if made.gate == "failed" else made.path)
    if made.gate_result is not None and made.gate == "failed":
        raise ConversionError(
            f"{made.path.name} failed the parity gate, kept as {rejected}: {made.gate_result.reasons}"
        )
    return made


def _write(
    path: Path, checkpoint: Checkpoint, vocabulary: Vocabulary, kind: str, *, facts: dict[str, str], dpo: bool
) -> None:
    """Write a GGUF file of F32, F16 or BF16 matrices and F32 vectors. Raises ConversionError for a value not finite."""
    import gguf
    from gguf.quants import quantize as cast

    types = gguf.GGMLQuantizationType
    matrix_type = types[kind.upper()]
    writer: Any = gguf.GGUFWriter(path, "llama")
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_file_type(gguf.LlamaFileType["ALL_F32" if kind == "f32" else f"MOSTLY_{kind.upper()}"])
    for key, text in facts.items():
        writer.add_string(key, text)
    writer.add_bool("icl.dpo", dpo)
    for key, value in header_fields(checkpoint.shape).items():
        (writer.add_uint32 if isinstance(value, int) else writer.add_float32)(key, value)
    for key, field in vocabulary.fields().items():
        _add_field(writer, key, field)
    stored: list[tuple[Any, Any]] = []
    for plan in checkpoint.plans:
        tensor_type = matrix_type if len(plan.shape) > 1 else types.F32
        item_bytes = 4 if tensor_type == types.F32 else 2
        n_bytes = int(np.prod(plan.shape)) * item_bytes
        writer.add_tensor_info(plan.name, plan.shape, np.dtype(np.float32), n_bytes, raw_dtype=tensor_type)
        stored.append((plan, tensor_type))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    with path.open("ab") as file:
        for plan, tensor_type in stored:
            file.write(b"\0" * (-file.tell() % _ALIGNMENT))
            for block in checkpoint.blocks(plan):
                with np.errstate(over="ignore"):
                    data = cast(block, tensor_type)
                if not np.isfinite(block).all() or (tensor_type == types.F16 and not np.isfinite(data).all()):
                    raise ConversionError(f"tensor {plan.source} holds values not finite as {tensor_type.name}")
                file.write(np.ascontiguousarray(data).data)
        file.write(b"\0" * (-file.tell() % _ALIGNMENT))
        file.flush()
        os.fsync(file.fileno())


def _add_field(writer: Any, key: str, value: Any) -> None:
    import gguf

    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    elif isinstance(value, list):
        kind = {str: gguf.GGUFValueType.STRING, int: gguf.GGUFValueType.INT32, float: gguf.GGUFValueType.FLOAT32}
        writer.add_key_value(key, value, gguf.GGUFValueType.ARRAY, sub_type=kind[type(value[0])])


def _own_name(checkpoint: Checkpoint) -> str:
    name = str(checkpoint.config.get("_name_or_path") or "").rstrip("/").rsplit("/", 1)[-1]
    return name or checkpoint.folder.resolve().name


def _check_type(type_name: str) -> None:
    if type_name in WRITTEN_HERE:
        return
    if type_name not in (known := engine.file_types()):
        raise ConfigError(f"unknown type {type_name!r}; choose one of {', '.join([*WRITTEN_HERE, *sorted(known)])}")


def _check_target(out: Path) -> None:
    if out.exists():
        raise ConversionError(f"{out} exists already; remove it or choose another name")
    if not out.parent.is_dir():
        raise ConversionError(f"the folder {out.parent} does not exist; make it first")


def _base_type(folder: Path, checkpoint: Checkpoint) -> str:
    """Return the type to quantise from: F32 if the disk has room, as llama.cpp unpacks 16-bit tensors in memory."""
    room = shutil.disk_usage(folder).free > checkpoint.parameters * 2 * _BYTES_PER_WEIGHT["f32"]
    return "f32" if room else checkpoint.dtype.lower()


def _check_space(folder: Path, checkpoint: Checkpoint, type_name: str, *, wide: bool) -> None:
    """Raise DiskFull if the file and the file it is made from or compared with do not fit."""
    per_weight = _BYTES_PER_WEIGHT.get(type_name, 0.75)
    if wide:
        per_weight += 4.0
    elif type_name not in WRITTEN_HERE:
        per_weight += _BYTES_PER_WEIGHT[checkpoint.dtype.lower()]
    needed, free = int(checkpoint.parameters * per_weight), shutil.disk_usage(folder).free
    if needed > free:
        raise DiskFull(f"{folder} has {free / 1e9:.1f} GB free, the conversion needs {needed / 1e9:.1f} GB; free some")


@contextmanager
def _drafts(out: Path) -> Iterator[tuple[Path, Path]]:
    """Yield two hidden names beside ``out``, for the file and the one it is made from; remove both afterwards."""
    draft, base = (out.with_name(f".{out.name}.{part}.partial") for part in ("draft", "base"))
    try:
        yield draft, base
    finally:
        draft.unlink(missing_ok=True)
        base.unlink(missing_ok=True)


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in NO_SPACE:
            raise DiskFull(f"no space left in {path.parent}; nothing was left behind, free some and repeat") from error
        raise ConversionError(f"{path.parent} cannot be written: {error.strerror or error}") from error
