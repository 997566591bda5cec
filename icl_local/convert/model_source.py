"""Locate the weights to train or convert: a folder, a repository of the hub, or a GGUF file, which is unpacked."""

import contextlib
import io
import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icl_local.convert.checkpoint import Checkpoint, is_checkpoint, loading, read_json
from icl_local.convert.parity import Reference, failures, gate
from icl_local.convert.pre_tokenizers import PRE_TOKENIZERS
from icl_local.exceptions import ConversionError, needs_extra
from icl_local.files import result_at
from icl_local.operating_system import locked
from icl_local.weights import hub, read_info, sha256_of

_REPOSITORY = re.compile(r"(?:hf:)?(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")
_FILES = ("*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json",
                 "adapter_config.json", "tokenizer*", "special_tokens_map.json", "added_tokens.json",
                 "chat_template.jinja", "vocab.json", "merges.txt")  # fmt: skip


@dataclass(frozen=True)
class ModelSource:
    """A checkpoint folder on this machine, its origin for the record, and its name."""

    folder: Path
    source: str
    name: str


def locate(
    reference: str, *, work: Path | None = None, on_progress: Callable[[str], None] = lambda text: None
) -> ModelSource:
    """Return the checkpoint that ``reference`` names: a folder, ``owner/name[@revision]`` of the hub, or a .gguf file.

    A GGUF file is unpacked once, into a folder of ``work`` (weights as float32). Raises ConversionError for anything
    else, HubError, MissingExtra, and ConfigError or DiskFull where ``work`` cannot be written.
    """
    path = Path(reference)
    if path.is_dir():
        if not is_checkpoint(path):
            raise ConversionError(f"{path} has no config.json and no adapter_config.json; it is not a checkpoint")
        name = path.resolve().name
        return ModelSource(path, name, name)
    if path.suffix == ".gguf":
        if work is None:
            raise ConversionError(f"{path} is a GGUF file already; use `icl quantize` for another type")
        name = read_info(path).name or path.stem
        folder = work / sha256_of(path)[:16]
        with contextlib.ExitStack() as held:
            with result_at(work):
                work.mkdir(parents=True, exist_ok=True)
                try:
                    held.enter_context(locked(work / ".lock", wait=False))
                except TimeoutError:
                    on_progress(f"another process unpacks a file into {work}; waiting for it")
                    held.enter_context(locked(work / ".lock"))
            if not is_checkpoint(folder):
                on_progress(f"unpacking {path.name}")
                unpack_gguf(path, folder)
        return ModelSource(folder, path.name, name)
    match = _REPOSITORY.fullmatch(reference)
    if match is None or path.exists():
        raise ConversionError(f"{reference!r} is not a checkpoint folder, a .gguf file or owner/name of the hub")
    on_progress(f"fetching {match['repo']}")
    found = hub.fetch_folder(match["repo"], _FILES, revision=match["revision"])
    return ModelSource(found.path, str(found.address), match["repo"].split("/")[1])


def unpack_gguf(path: Path, folder: Path) -> None:
    """Write the model in the GGUF file as a float32 Hugging Face checkpoint into ``folder``, whole or not at all.

    Transformers reads the file; the pre-tokenizer of byte-level BPE is corrected, as Transformers gives each model
    class one. Then the gate compares file and checkpoint. Raises ConversionError for what cannot be unpacked or does
    not pass, ModelError for a damaged file, MissingExtra, ConfigError or DiskFull where ``folder`` cannot be written.
    """
    pre = read_info(path).metadata.get("tokenizer.ggml.pre")
    source = {"pretrained_model_name_or_path": path.parent, "gguf_file": path.name, "local_files_only": True}
    with needs_extra("convert"):
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
        from transformers.utils import logging
    logging.disable_progress_bar()
    with (
        loading(f"{path.name}: Transformers cannot unpack this GGUF file"),
        contextlib.redirect_stderr(io.StringIO()),  # one of its progress bars cannot be switched off
    ):
        tokenizer: Any = AutoTokenizer.from_pretrained(**source)
        model: Any = AutoModelForCausalLM.from_pretrained(
            **source, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
        )
    draft = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(draft, ignore_errors=True)
    with result_at(folder):
        draft.mkdir(parents=True)
        model.save_pretrained(draft)
        tokenizer.save_pretrained(draft)
        if pre in PRE_TOKENIZERS:
            data = read_json(draft / "tokenizer.json")
            steps, data["model"]["ignore_merges"] = PRE_TOKENIZERS[str(pre)]
            steps = [{"trim_offsets": True, **step} for step in steps]
            data["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": steps}
            (draft / "tokenizer.json").write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")
    checks = gate(path, Reference(Checkpoint(draft), memory_bytes=0))
    if failures(checks) or any(check.figures.get("worst") for check in checks):
        shutil.rmtree(draft)
        reasons = failures(checks) or "the weights are not those of the file"
        raise ConversionError(f"{path.name} is not the same model once unpacked: {reasons}; train from a checkpoint")
    os.replace(draft, folder)
