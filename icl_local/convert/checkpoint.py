"""A Hugging Face Llama checkpoint on disk: its shape, and its tensors in GGUF's names and order, read in row blocks.

Reads config.json, safetensors (one file or shards, mapped, never loaded whole) and LoRA adapters, which are merged
block by block. Anything that is not known to be convertible is refused by name. Needs numpy only.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from icl_local.exceptions import ConversionError
from icl_local.identity import sha256_file

BLOCK_BYTES = 64 << 20
ROPE_FACTORS = "rope_freqs.weight"
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "tokenizer.model",
)
_ITEM_BYTES = {"F32": 4, "F16": 2, "BF16": 2}
_MAX_HEADER_BYTES = 100 << 20
_LORA_SUFFIX = {".lora_A.weight": 0, ".lora_B.weight": 1}


@dataclass(frozen=True)
class Shape:
    """Hyper-parameters of a Llama model, with the defaults of Transformers."""

    vocab_size: int
    context_length: int
    hidden_size: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    intermediate_size: int
    rms_norm_eps: float
    rope_theta: float
    rope_factors: tuple[float, ...] | None  # llama3 scaling: the divisor of each of head_dim/2 frequencies
    tied: bool


@dataclass(frozen=True)
class TensorPlan:
    """One tensor of the GGUF file: its source and the order of its rows."""

    name: str
    source: str | None  # name in the checkpoint, None: computed (rope factors)
    shape: tuple[int, ...]
    permuted_heads: int | None = None  # q and k: rows go from Transformers' half-split to llama.cpp's interleaved order


@dataclass(frozen=True)
class _Stored:
    """The place of a tensor in a safetensors file."""

    path: Path
    dtype: str
    shape: tuple[int, ...]
    offset: int


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


def llama_shape(config: Mapping[str, Any], *, name: str) -> Shape:
    """Return the model's shape from its config.json; raises ConversionError for anything but a plain Llama.

    Attention and MLP biases, activations other than SiLU, quantised weights, and rotary schemes other than the
    default and llama3 (Transformers' _compute_llama3_parameters) are refused by name.
    """
    architectures = config.get("architectures") or [config.get("model_type")]
    if architectures not in (["LlamaForCausalLM"], ["llama"]):
        raise ConversionError(f"{name}: architecture {architectures} cannot be converted; only LlamaForCausalLM can")
    unsupported = {
        "attention_bias": bool(config.get("attention_bias")),
        "mlp_bias": bool(config.get("mlp_bias")),
        "hidden_act": config.get("hidden_act", "silu") != "silu",
        "quantization_config": config.get("quantization_config") is not None,
    }
    for key, found in unsupported.items():
        if found:
            raise ConversionError(f"{name}: {key} = {config[key]!r} in config.json cannot be converted")
    try:
        hidden, n_heads = int(config["hidden_size"]), int(config["num_attention_heads"])
        head_dim = int(config.get("head_dim") or hidden // n_heads)
        rope = {**(config.get("rope_scaling") or {}), **(config.get("rope_parameters") or {})}
        theta = float(rope.get("rope_theta", config.get("rope_theta", 10000.0)))
        return Shape(
            vocab_size=int(config["vocab_size"]),
            context_length=int(config["max_position_embeddings"]),
            hidden_size=hidden,
            n_layers=int(config["num_hidden_layers"]),
            n_heads=n_heads,
            n_kv_heads=int(config.get("num_key_value_heads") or n_heads),
            head_dim=head_dim,
            intermediate_size=int(config["intermediate_size"]),
            rms_norm_eps=float(config.get("rms_norm_eps", 1e-6)),
            rope_theta=theta,
            rope_factors=_rope_factors(rope, theta=theta, head_dim=head_dim, name=name),
            tied=bool(config.get("tie_word_embeddings", False)),
        )
    except KeyError as error:
        raise ConversionError(f"{name}: config.json lacks {error}") from error


def _rope_factors(rope: Mapping[str, Any], *, theta: float, head_dim: int, name: str) -> tuple[float, ...] | None:
    kind = rope.get("rope_type", rope.get("type", "default"))
    if float(rope.get("partial_rotary_factor", 1.0)) != 1.0:
        raise ConversionError(f"{name}: partial_rotary_factor {rope['partial_rotary_factor']} cannot be converted")
    if kind == "default":
        return None
    if kind != "llama3":
        raise ConversionError(f"{name}: rope scaling {kind!r} cannot be converted; only default and llama3 can")
    factor, low, high = (float(rope[key]) for key in ("factor", "low_freq_factor", "high_freq_factor"))
    original = float(rope["original_max_position_embeddings"])
    factors = []
    for i in range(0, head_dim, 2):
        wavelength = 2 * math.pi * theta ** (i / head_dim)
        if wavelength < original / high:
            factors.append(1.0)
        elif wavelength > original / low:
            factors.append(factor)
        else:
            smooth = (original / wavelength - low) / (high - low)
            factors.append(1.0 / ((1.0 - smooth) / factor + smooth))
    return tuple(factors)


def tensor_plans(shape: Shape) -> list[TensorPlan]:
    """Return exactly the tensors that the GGUF file must have, in file order; shapes as in the checkpoint."""
    hidden, ff = shape.hidden_size, shape.intermediate_size
    q, kv = shape.n_heads * shape.head_dim, shape.n_kv_heads * shape.head_dim
    plans = [TensorPlan("token_embd.weight", "model.embed_tokens.weight", (shape.vocab_size, hidden))]
    if shape.rope_factors is not None:
        plans.append(TensorPlan(ROPE_FACTORS, None, (shape.head_dim // 2,)))
    for layer in range(shape.n_layers):
        source, target = f"model.layers.{layer}.", f"blk.{layer}."
        for name, origin, size, heads in (
            ("attn_norm", "input_layernorm", (hidden,), None),
            ("attn_q", "self_attn.q_proj", (q, hidden), shape.n_heads),
            ("attn_k", "self_attn.k_proj", (kv, hidden), shape.n_kv_heads),
            ("attn_v", "self_attn.v_proj", (kv, hidden), None),
            ("attn_output", "self_attn.o_proj", (hidden, q), None),
            ("ffn_norm", "post_attention_layernorm", (hidden,), None),
            ("ffn_gate", "mlp.gate_proj", (ff, hidden), None),
            ("ffn_up", "mlp.up_proj", (ff, hidden), None),
            ("ffn_down", "mlp.down_proj", (hidden, ff), None),
        ):
            plans.append(TensorPlan(f"{target}{name}.weight", f"{source}{origin}.weight", size, heads))
    plans.append(TensorPlan("output_norm.weight", "model.norm.weight", (hidden,)))
    if not shape.tied:
        plans.append(TensorPlan("output.weight", "lm_head.weight", (shape.vocab_size, hidden)))
    return plans


class Checkpoint:
    """A checkpoint that is complete, of known architecture, with every tensor of the expected shape and type.

    ``folder`` holds a model, or a LoRA adapter whose base is a folder on this machine. Raises ConversionError.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.adapter = _Adapter(folder) if (folder / "adapter_config.json").is_file() else None
        self.model_folder = self.adapter.base_folder if self.adapter else folder
        self.config = read_json(self.model_folder / "config.json")
        self.shape = llama_shape(self.config, name=folder.name)
        self.plans = tensor_plans(self.shape)
        self._stored = _stored_tensors(self.model_folder)
        self._check()

    @property
    def tokenizer_folder(self) -> Path:
        """Return the folder of tokenizer.json: the adapter's if it has one, else the model's."""
        return self.folder if (self.folder / "tokenizer.json").is_file() else self.model_folder

    @property
    def parameters(self) -> int:
        """Return the number of trained weights (rope factors are computed, not trained)."""
        return sum(math.prod(plan.shape) for plan in self.plans if plan.source)

    @property
    def dtype(self) -> str:
        """Return the type of the embedding as stored: F32, F16 or BF16."""
        return self._stored["model.embed_tokens.weight"].dtype

    @cached_property
    def files(self) -> list[Path]:
        """Return the files that define the model: config, weights, tokenizer, adapter."""
        folders = {self.folder, self.model_folder}
        found = {stored.path for stored in self._stored.values()}
        for folder in folders:
            found |= {folder / name for name in ("config.json", *TOKENIZER_FILES) if (folder / name).is_file()}
        return sorted(found | set(self.adapter.files if self.adapter else ()))

    @cached_property
    def sha256(self) -> str:
        """Return 64 hex digits over names and contents of ``files``, the same in every folder."""
        digest = hashlib.sha256()
        for path in self.files:
            digest.update(f"{path.name} {sha256_file(path)}\n".encode())
        return digest.hexdigest()

    def training_record(self) -> dict[str, Any]:
        """Return the training.json that `icl dpo` wrote beside the checkpoint, {} without one."""
        path = self.folder / "training.json"
        return read_json(path) if path.is_file() else {}

    def _check(self) -> None:
        expected = {plan.source: plan for plan in self.plans if plan.source}
        ignored = {"lm_head.weight"} if self.shape.tied else set()
        for name, stored in self._stored.items():
            if name in expected:
                if stored.shape != expected[name].shape:
                    raise ConversionError(
                        f"tensor {name} has shape {stored.shape}, config.json says {expected[name].shape}"
                    )
                if stored.dtype not in _ITEM_BYTES:
                    raise ConversionError(f"tensor {name} has type {stored.dtype}; F32, F16 and BF16 can be converted")
            elif name not in ignored and not name.endswith("rotary_emb.inv_freq"):
                raise ConversionError(f"tensor {name} is not part of a plain Llama model and cannot be converted")
        if missing := sorted(expected.keys() - self._stored.keys()):
            raise ConversionError(f"tensor {missing[0]} is missing ({len(missing)} in all): an incomplete checkpoint")
        if self.adapter and (strange := sorted(self.adapter.targets - expected.keys())):
            raise ConversionError(f"the adapter changes {strange[0]}, which the base model does not have")

    def blocks(self, plan: TensorPlan) -> Iterator[NDArray[np.float32]]:
        """Yield the tensor as in the GGUF file, F32, in blocks of whole rows of at most about 64 MiB.

        Rows of q and k are permuted within each head; a head is never split over two blocks.
        """
        if plan.source is None:
            yield np.asarray(self.shape.rope_factors, dtype=np.float32)
            return
        step = plan.shape[0]
        if len(plan.shape) == 2:
            unit = plan.shape[0] // plan.permuted_heads if plan.permuted_heads else 1
            step = max(unit, BLOCK_BYTES // (4 * plan.shape[1]) // unit * unit)
        for start in range(0, plan.shape[0], step):
            block = self._rows(plan.source, start, min(start + step, plan.shape[0]))
            if plan.permuted_heads:
                block = permute(block, len(block) * plan.permuted_heads // plan.shape[0])
            yield block

    def _rows(self, name: str, start: int, stop: int) -> NDArray[np.float32]:
        stored = self._stored[name]
        width = math.prod(stored.shape[1:])
        raw_type = np.dtype({"F32": "<f4", "F16": "<f2", "BF16": "<u2"}[stored.dtype])
        # Mapped block by block: pages of a permanent map would count as this process's memory.
        raw = np.memmap(
            stored.path,
            dtype=raw_type,
            mode="r",
            offset=stored.offset + start * width * raw_type.itemsize,
            shape=(stop - start, *stored.shape[1:]),
        )
        block = bf16_to_f32(raw) if stored.dtype == "BF16" else np.array(raw, dtype=np.float32)
        if self.adapter:
            self.adapter.add_to(block, name, start, stop)
        return block


class _Adapter:
    """A LoRA adapter as peft saves it: W + (alpha / r) * B A. Other kinds are refused by name."""

    def __init__(self, folder: Path) -> None:
        config = read_json(folder / "adapter_config.json")
        if (kind := config.get("peft_type")) != "LORA":
            raise ConversionError(f"{folder.name}: an adapter of type {kind!r} cannot be merged; only LORA can")
        for key in ("use_dora", "alpha_pattern", "rank_pattern", "modules_to_save", "fan_in_fan_out", "lora_bias"):
            if config.get(key):
                raise ConversionError(f"{folder.name}: {key} = {config[key]!r} in adapter_config.json cannot be merged")
        if config.get("bias", "none") != "none":
            raise ConversionError(f"{folder.name}: bias = {config['bias']!r} in adapter_config.json cannot be merged")
        self.base_folder = Path(str(config.get("base_model_name_or_path")))
        if not (self.base_folder / "config.json").is_file():
            raise ConversionError(
                f"{folder.name}: its base model {self.base_folder} is not a folder here;"
                " set base_model_name_or_path in adapter_config.json"
            )
        rank = int(config["r"])
        self._scale = np.float32(config["lora_alpha"] / (math.sqrt(rank) if config.get("use_rslora") else rank))
        weights = folder / "adapter_model.safetensors"
        self.files = [folder / "adapter_config.json", weights]
        self._pairs: dict[str, list[NDArray[np.float32] | None]] = {}
        for name, stored in read_safetensors(weights).items():
            suffix = next((s for s in _LORA_SUFFIX if name.endswith(s)), None)
            if suffix is None or stored.dtype not in _ITEM_BYTES:
                raise ConversionError(f"{weights.name}: tensor {name} ({stored.dtype}) is not a LoRA weight")
            target = name.removeprefix("base_model.model.").removesuffix(suffix) + ".weight"
            self._pairs.setdefault(target, [None, None])[_LORA_SUFFIX[suffix]] = _whole(stored)
        if incomplete := [name for name, pair in self._pairs.items() if pair[0] is None or pair[1] is None]:
            raise ConversionError(f"{weights.name}: {incomplete[0]} has only one of lora_A and lora_B")

    @property
    def targets(self) -> set[str]:
        """Return the names of the base model's tensors that the adapter changes."""
        return set(self._pairs)

    def add_to(self, block: NDArray[np.float32], name: str, start: int, stop: int) -> None:
        """Add the adapter's part to rows ``start`` to ``stop`` of tensor ``name``, in place."""
        down, up = self._pairs.get(name, (None, None))
        if down is not None and up is not None:
            block += self._scale * (up[start:stop] @ down)


def permute(rows: NDArray[np.float32], n_heads: int) -> NDArray[np.float32]:
    """Reorder rows [n_heads * head_dim, n] within each head: from (first half, second half) to interleaved pairs.

    Transformers rotates element i with i + head_dim/2, llama.cpp's Llama rotates neighbours 2i and 2i + 1.
    """
    halves = rows.reshape(n_heads, 2, rows.shape[0] // n_heads // 2, *rows.shape[1:])
    return halves.swapaxes(1, 2).reshape(rows.shape)


def bf16_to_f32(raw: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Convert bit patterns of bfloat16 to float32, exactly."""
    bits = np.array(raw, dtype=np.uint32)
    np.left_shift(bits, 16, out=bits)
    return bits.view(np.float32)


def read_safetensors(path: Path) -> dict[str, _Stored]:
    """Return name -> place of every tensor of one file; raises ConversionError if the header does not fit the file."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(size - 8, _MAX_HEADER_BYTES):
                raise ConversionError(f"{path} is damaged: its header claims {length} bytes")
            header = json.loads(file.read(length))
        found = {}
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            shape, (begin, end) = tuple(int(n) for n in entry["shape"]), entry["data_offsets"]
            stored = _Stored(path, str(entry["dtype"]), shape, 8 + length + int(begin))
            expected = math.prod(shape) * _ITEM_BYTES.get(stored.dtype, 0)
            if stored.dtype in _ITEM_BYTES and (end - begin != expected or 8 + length + end > size or begin < 0):
                raise ConversionError(f"{path} is damaged or truncated at tensor {name}")
            found[name] = stored
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConversionError(f"{path} cannot be read as safetensors: {error}") from error
    return found


def _stored_tensors(folder: Path) -> dict[str, _Stored]:
    """Return every tensor of a model folder, from model.safetensors or the shards that its index lists."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        listed: dict[str, str] = read_json(index).get("weight_map", {})
        shards = {name: read_safetensors(folder / Path(name).name) for name in sorted(set(listed.values()))}
        for tensor, shard in listed.items():
            if tensor not in shards[shard]:
                raise ConversionError(f"{index.name} says {tensor} is in {shard}, but it is not there")
        return {tensor: shards[shard][tensor] for tensor, shard in listed.items()}
    if not (folder / "model.safetensors").is_file():
        raise ConversionError(f"{folder} has no model.safetensors; pickled weights (.bin) are never read")
    return read_safetensors(folder / "model.safetensors")


def _whole(stored: _Stored) -> NDArray[np.float32]:
    kind = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}[stored.dtype]
    raw = np.memmap(stored.path, dtype=kind, mode="r", offset=stored.offset, shape=stored.shape)
    return bf16_to_f32(raw) if stored.dtype == "BF16" else np.array(raw, dtype=np.float32)
