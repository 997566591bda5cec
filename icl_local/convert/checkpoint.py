"""A Hugging Face checkpoint on disk: the files that define it, its configuration and its tensors.

Weights are read from safetensors (one file or shards, never loaded whole). A LoRA adapter is merged into its base by
peft; the result is a checkpoint like others.
"""

import hashlib
import json
import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from icl_local.exceptions import ConversionError, needs_extra
from icl_local.identity import sha256_file

_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "tokenizer.model",
)
_OLDER_TOKENIZER_FILES = ("vocab.json", "merges.txt")  # read if tokenizer.json is missing
_INDEX = "model.safetensors.index.json"
_TYPES = {"F32", "F16", "BF16"}
# buffers of older checkpoints, which no program reads any more
_BUFFERS = (".attention.masked_bias", ".attention.bias", ".rotary_emb.inv_freq")
BLOCK_ELEMENTS = 16 << 20


def is_checkpoint(folder: Path) -> bool:
    """Return whether ``folder`` has the configuration of a model or an adapter."""
    return (folder / "config.json").is_file() or (folder / "adapter_config.json").is_file()


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; raises ConversionError with the file if it is missing or damaged."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConversionError(f"{path} is missing; {path.parent} is not a Hugging Face checkpoint") from None
    except (OSError, ValueError) as error:
        raise ConversionError(f"{path} cannot be read: {error}") from error
    if not isinstance(data, dict):
        raise ConversionError(f"{path} does not hold a JSON object")
    return data


@contextmanager
def loading(what: str) -> Iterator[None]:
    """Raise ConversionError, "``what``: reason", for what Transformers or peft raise: also of a package they lack."""
    try:
        yield
    except ImportError as error:
        first_line = str(error).strip().partition("\n")[0]
        raise ConversionError(f"{what}: {f'{error.name} is not installed' if error.name else first_line}") from error
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError) as error:
        raise ConversionError(f"{what}: {error}") from error


class Checkpoint:
    """A model, or a LoRA adapter with its base, in folders on this machine. Raises ConversionError, MissingExtra.

    ``shapes``: name -> shape of every tensor; ``parameters``: the number of weights; ``dtype``: the type of most
    tensors as stored, F32, F16 or BF16. The adapter's tokenizer comes before the model's.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.is_adapter = (folder / "adapter_config.json").is_file()
        self.model_folder = _base_of(folder) if self.is_adapter else folder
        self.config_json = read_json(self.model_folder / "config.json")
        if self.config_json.get("quantization_config") is not None:
            raise ConversionError(f"{folder.name}: its weights are quantised; convert the checkpoint in 16 or 32 bits")
        self._places = _tensors(self.model_folder)
        if wrong := [name for name, (_, kind, _) in self._places.items() if kind not in _TYPES]:
            kind = self._places[wrong[0]][1]
            raise ConversionError(f"tensor {wrong[0]} has type {kind}; F32, F16 and BF16 can be converted")
        kinds = [kind for _, kind, _ in self._places.values()]
        self.dtype = max(sorted(set(kinds)), key=kinds.count, default="F32")
        self.shapes = {name: shape for name, (_, _, shape) in self._places.items()}
        self.parameters = sum(map(math.prod, self.shapes.values()))
        own = any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model"))
        self.tokenizer_folder = folder if own else self.model_folder
        older = () if (self.tokenizer_folder / "tokenizer.json").is_file() else _OLDER_TOKENIZER_FILES
        self._tokenizer_names = _TOKENIZER_FILES + older

    @cached_property
    def config(self) -> Any:
        """Return Transformers' configuration. Raises ConversionError if Transformers does not know the model."""
        with needs_extra("convert"):
            from transformers import AutoConfig
        with loading(f"Transformers does not know {self.folder.name}"):
            config: Any = AutoConfig.from_pretrained(self.model_folder, local_files_only=True, trust_remote_code=False)
        return config.get_text_config()

    def model(self, **options: Any) -> Any:
        """Load the model in float32 by Transformers; no code from the folder runs. Raises ConversionError."""
        with needs_extra("convert"):
            import torch
            from transformers import AutoModelForCausalLM
            from transformers.utils import logging
        logging.disable_progress_bar()
        options |= {"dtype": torch.float32, "local_files_only": True, "use_safetensors": True}
        with loading(f"{self.folder.name}: Transformers does not load it"):
            return AutoModelForCausalLM.from_pretrained(self.model_folder, trust_remote_code=False, **options)

    @cached_property
    def files(self) -> list[Path]:
        """Return the files that define the model: config, weights, tokenizer, adapter."""
        names = ["config.json", _INDEX, "adapter_config.json", "adapter_model.safetensors", *self._tokenizer_names]
        folders = {self.folder, self.model_folder}
        found = {folder / name for folder in folders for name in names if (folder / name).is_file()}
        return sorted(found | {path for path, _, _ in self._places.values()})

    @property
    def tokenizer_files(self) -> list[Path]:
        """Return the files of its tokenizer."""
        return [path for name in self._tokenizer_names if (path := self.tokenizer_folder / name).is_file()]

    @cached_property
    def sha256(self) -> str:
        """Return 64 hex digits over names and contents of ``files`` but the index, the same in every folder."""
        digest = hashlib.sha256()
        for path in self.files:
            if path.name != _INDEX:
                digest.update(f"{path.name} {sha256_file(path)}\n".encode())
        return digest.hexdigest()

    def rows(self, name: str, *, whole: bool = False) -> Iterator[NDArray[np.float32]]:
        """Yield a tensor in float32, in blocks of rows of at most about 64 MiB, or in one block."""
        from safetensors import safe_open

        path, _, shape = self._places[name]
        step = max(1, BLOCK_ELEMENTS // max(1, math.prod(shape[1:])))
        with safe_open(path, framework="pt") as file:
            tensor = file.get_slice(name)
            for start in range(0, shape[0], shape[0] if whole else step):
                block: NDArray[np.float32] = tensor[start : shape[0] if whole else start + step].float().numpy()
                yield block


def tokenizer_of(folder: Path) -> Any:
    """Return Transformers' tokenizer: tokenizer.json as it is, as LlamaTokenizer treats a leading space differently.

    Raises ConversionError for a tokenizer that cannot be loaded, MissingExtra.
    """
    with needs_extra("convert"):
        from transformers import AutoTokenizer, PreTrainedTokenizerFast
    loader: Any = PreTrainedTokenizerFast if (folder / "tokenizer.json").is_file() else AutoTokenizer
    with loading(f"{folder}: Transformers cannot load the tokenizer"):
        return loader.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def merge_adapter(adapter: Checkpoint, out: Path) -> Checkpoint:
    """Write the base with the LoRA adapter merged into it, in float32 and by peft, to ``out``.

    Raises ConversionError for an adapter that peft cannot merge, MissingExtra.
    """
    with needs_extra("convert"):
        from peft import PeftModel
    with loading(f"{adapter.folder.name}: peft cannot merge this adapter"):
        merged = PeftModel.from_pretrained(adapter.model(), adapter.folder, local_files_only=True).merge_and_unload()
    shutil.rmtree(out, ignore_errors=True)
    merged.save_pretrained(out)
    for path in adapter.tokenizer_files:
        (out / path.name).symlink_to(path.resolve())
    return Checkpoint(out)


def _base_of(folder: Path) -> Path:
    base = Path(str(read_json(folder / "adapter_config.json").get("base_model_name_or_path")))
    if (base / "config.json").is_file():
        return base
    raise ConversionError(
        f"{folder.name}: its base model {base} is not a folder here; set base_model_name_or_path in adapter_config.json"
    )


def _tensors(folder: Path) -> dict[str, tuple[Path, str, tuple[int, ...]]]:
    """Return name -> (file, type, shape) of every tensor, from model.safetensors or the shards that its index lists."""
    with needs_extra("convert"):
        from safetensors import SafetensorError, safe_open
    names = {"model.safetensors"}
    if (folder / _INDEX).is_file():
        names = {Path(name).name for name in read_json(folder / _INDEX).get("weight_map", {}).values()}
    found = {}
    for path in (folder / name for name in sorted(names)):
        if not path.is_file():
            raise ConversionError(f"{folder} has no {path.name}; pickled weights (.bin) are never read")
        try:
            with safe_open(path, framework="np") as file:
                for name in (name for name in file.keys() if not name.endswith(_BUFFERS)):  # noqa: SIM118 - no mapping
                    tensor = file.get_slice(name)
                    found[name] = path, str(tensor.get_dtype()), tuple(tensor.get_shape())
        except (SafetensorError, OSError) as error:
            raise ConversionError(f"{path} is damaged or truncated: {error}") from error
    return found
