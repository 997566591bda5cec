"""The weights of a GGUF file beside the checkpoint's, one by one.

gguf's table of names says which tensor is which; CHANGED says how llama.cpp's converter writes those that it changes.
An architecture that is not in CHANGED cannot be compared here, and the logits decide. The converter's process imports
this package and then its own gguf, so gguf is imported in functions only.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from icl_local.convert.checkpoint import Checkpoint
from icl_local.weights.gguf_header import Header, TensorEntry

Rows = NDArray[np.float32]
Change = Callable[[Rows, Any], Rows]

HALF_TYPES = (1, 30)  # ggml's numbers of F16 and BF16
EXACT_TYPES = (0, *HALF_TYPES)  # and of F32


def interleaved(rows: Rows, n_heads: int) -> Rows:
    """Reorder rows [n_heads * head_dim, ...] within each head: from (first half, second half) to pairs of neighbours.

    Transformers rotates element i with i + head_dim/2, llama.cpp's Llama rotates neighbours 2i and 2i + 1.
    """
    halves = rows.reshape(n_heads, 2, rows.shape[0] // n_heads // 2, *rows.shape[1:])
    return halves.swapaxes(1, 2).reshape(rows.shape)


def _by_part(rows: Rows, config: Any) -> Rows:
    """Reorder rows [n_heads * 3 * head_dim, ...], q, k and v of each head together, to all q, all k, all v."""
    heads = rows.reshape(config.num_attention_heads, 3, -1, *rows.shape[1:])
    return heads.swapaxes(0, 1).reshape(rows.shape)


_ROTARY: dict[str, Change] = {
    ".attn_q.": lambda rows, config: interleaved(rows, config.num_attention_heads),
    ".attn_k.": lambda rows, config: interleaved(rows, config.num_key_value_heads),
}
_NORMS: dict[str, Change] = {"norm.weight": lambda rows, _: rows + np.float32(1)}

# GGUF architecture -> part of a tensor's name -> what its rows become
CHANGED: dict[str, dict[str, Change]] = {
    "llama": _ROTARY,  # Llama, Mistral, SmolLM2, EuroLLM
    "smollm3": _ROTARY,
    "gemma": _NORMS,
    "gemma2": _NORMS,
    "gemma3": _NORMS,
    "gptneox": {".attn_qkv.": _by_part},
    "olmo2": {},
    "phi3": {},
    "qwen2": {},
    "qwen3": {},
}


def written_names(architecture: str, checkpoint: Checkpoint) -> dict[str, str]:
    """Return name in the file -> name in the checkpoint, of all tensors; a name that gguf does not know stays as it is.

    The checkpoint may hold the head of a model whose head is its embedding; it keeps its name.
    """
    import gguf

    ids = {name: key for key, name in gguf.MODEL_ARCH_NAMES.items()}
    table = gguf.get_tensor_name_map(ids[architecture], checkpoint.config.num_hidden_layers)
    return {table.get_name(name, try_suffixes=(".weight", ".bias")) or name: name for name in checkpoint.shapes}


def rope_type(config: Any) -> str:
    """Return the kind of rotary scaling: default, llama3, longrope ..."""
    return str((getattr(config, "rope_parameters", None) or {}).get("rope_type", "default"))


def rope_factors(config: Any) -> dict[str, Rows]:
    """Return the rotary tensors that the file must have: divisors [head_dim / 2] of the frequencies, by name."""
    kind = rope_type(config)
    if kind == "longrope":
        lists = {length: config.rope_parameters[f"{length}_factor"] for length in ("long", "short")}
        return {f"rope_factors_{length}.weight": np.asarray(one, np.float32) for length, one in lists.items()}
    if kind != "llama3":
        return {}
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    scaled = ROPE_INIT_FUNCTIONS[kind](config, "cpu")[0].numpy()
    plain = config.rope_parameters["rope_theta"] ** -(np.arange(len(scaled), dtype=np.float64) / len(scaled))
    return {"rope_freqs.weight": (plain / scaled).astype(np.float32)}


def pairs(
    header: Header, tensor: TensorEntry, architecture: str, name: str, checkpoint: Checkpoint
) -> Iterator[tuple[Rows, Rows]]:
    """Yield (found, expected) of a tensor of the file, block by block; 16-bit types are rounded as in the file."""
    from gguf.quants import dequantize, quantize

    change = next((change for part, change in CHANGED[architecture].items() if part in tensor.name), None)
    stored, start = stored_rows(header, tensor), 0
    for expected in checkpoint.rows(name, whole=change is not None):
        if change is not None:
            expected = change(expected, checkpoint.config)
        found = dequantize(stored[start : start + len(expected)], tensor.type)
        start += len(expected)
        if tensor.type in HALF_TYPES:
            with np.errstate(over="ignore"):
                expected = dequantize(quantize(expected, tensor.type), tensor.type)
        yield found.reshape(expected.shape), expected


def holds(header: Header, tensor: TensorEntry, expected: Rows) -> bool:
    """Return whether a tensor of the file has these values in float32."""
    stored = stored_rows(header, tensor)
    return stored.size == expected.nbytes and np.allclose(stored.view(np.float32).ravel(), expected, rtol=1e-5)


def stored_rows(header: Header, tensor: TensorEntry) -> NDArray[np.uint8]:
    """Return the bytes of a tensor as they are in the file, [n_rows, n_bytes]; an element of a vector is a row."""
    import gguf

    size = math.prod(gguf.quant_shape_to_byte_shape(tensor.shape[::-1], tensor.type))
    stored = np.frombuffer(header.data, np.uint8, size, header.data_start + tensor.offset)
    return stored.reshape(tensor.shape[-1], -1)
