"""Locate the weights to train or convert: a folder, a repository of the hub, or a GGUF file, which is unpacked."""

from __future__ import annotations

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

from icl_local.convert.checkpoint import is_checkpoint
from icl_local.convert.tokenizer import to_tokenizer_json
from icl_local.exceptions import ConversionError, HubError, MissingExtra
from icl_local.weights import read_info

_REPOSITORY = re.compile(r"(?:hf:)?(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")
_FILES = ("*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json",
                 "adapter_config.json", "tokenizer*", "special_tokens_map.json", "added_tokens.json",
                 "chat_template.jinja")  # fmt: skip


@dataclass(frozen=True)
class ModelSource:
    """A checkpoint folder on this machine, its origin for the record, and its name."""

    folder: Path
    source: str
    name: str


def locate(
    reference: str, *, work: Path | None = None, on_progress: Callable[[str], None] | None = None
) -> ModelSource:
    """Return the checkpoint that ``reference`` names: a folder, ``owner/name[@revision]`` of the hub, or a .gguf file.

    A GGUF file is unpacked into ``work`` (weights as float32), once. Raises ConversionError for anything else,
    HubError, MissingExtra.
    """
    say = on_progress or (lambda _: None)
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
        if not is_checkpoint(work):
            say(f"unpacking {path.name}")
            unpack_gguf(path, work)
        return ModelSource(work, path.name, name)
    match = _REPOSITORY.fullmatch(reference)
    if match is None or path.exists():
        raise ConversionError(f"{reference!r} is not a checkpoint folder, a .gguf file or owner/name of the hub")
    say(f"fetching {match['repo']}")
    folder = _snapshot(match["repo"], match["revision"])
    return ModelSource(folder, f"hf:{match['repo']}@{folder.name}", match["repo"].split("/")[1])


def unpack_gguf(path: Path, folder: Path) -> None:
    """Write the model in the GGUF file as a float32 Hugging Face checkpoint into ``folder``, whole or not at all.

    Weights are read by Transformers' GGUF reader; the tokenizer is written here, because Transformers 5 loses the
    pre-tokenizer of some families. Raises ConversionError for an unknown architecture or tokenizer.
    """
    info = read_info(path)
    if info.architecture != "llama":
        raise ConversionError(f"{path.name}: architecture {info.architecture!r} cannot be unpacked; only llama can")
    try:
        import torch
        from transformers import AutoModelForCausalLM, GgufConfig
        from transformers.utils import logging
    except ImportError:
        raise MissingExtra("dpo", "transformers") from None
    import gguf

    reader: Any = gguf.GGUFReader(path)
    tokenizer, config = to_tokenizer_json({key: field.contents() for key, field in reader.fields.items()})
    logging.disable_progress_bar()
    with contextlib.redirect_stderr(io.StringIO()):  # one of its progress bars cannot be switched off
        model: Any = AutoModelForCausalLM.from_pretrained(
            path.parent,
            gguf_file=path.name,
            quantization_config=GgufConfig(dequantize=True),
            dtype=torch.float32,
            local_files_only=True,
        )
    draft = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    model.save_pretrained(draft, safe_serialization=True)
    (draft / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")
    (draft / "tokenizer_config.json").write_text(json.dumps(config, ensure_ascii=False), encoding="utf-8")
    os.replace(draft, folder)


def _snapshot(repo: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repo, revision=revision, allow_patterns=list(_FILES)))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise HubError(f"{repo} cannot be fetched: {error}; check the name, HF_TOKEN and the connection") from error
