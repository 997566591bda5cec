"""Memory and parallelism, computed before decoding from a file's header."""

from __future__ import annotations

import os
from pathlib import Path

from icl_local.weights import GgufInfo

BYTES = {"f32": 4.0, "f16": 2.0, "bf16": 2.0, "q8_0": 34 / 32}
DEFAULT_PARALLEL = 16
_MEMORY_SHARE = 0.6  # of the memory that is free after the weights; the rest is left to other programs


def kv_bytes_per_token(info: GgufInfo, kv_type: str = "f16") -> int:
    """Return the bytes of KV cache of one token: keys and values of every layer (llama.cpp's llama_kv_cache)."""
    return int(2 * info.block_count * info.head_count_kv * info.head_dim * BYTES[kv_type])


def default_kv_type(info: GgufInfo) -> str:
    """Return f32 for F32 weights, so that such a file decodes as Transformers does in fp32; f16 otherwise."""
    return "f32" if info.quantization == "F32" else "f16"


def choose_parallel(
    info: GgufInfo, *, n_ctx_seq: int, kv_type: str, most: int = DEFAULT_PARALLEL, memory_bytes: int | None = None
) -> int:
    """Return the number of sequences to decode together: ``most``, or as many as 60 % of the free memory holds.

    At least one. ``n_ctx_seq``: tokens of prompt and answer of one sequence. ``memory_bytes``: measured if None.
    """
    free = available_memory() if memory_bytes is None else memory_bytes
    room = max(0, int((free - info.bytes) * _MEMORY_SHARE))
    return max(1, min(most, room // max(1, n_ctx_seq * kv_bytes_per_token(info, kv_type))))


def available_memory() -> int:
    """Return the bytes usable without swapping: MemAvailable within the cgroup's limit; without /proc half of all."""
    try:
        fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        free = int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
        return free if limit == "max" else min(free, max(0, int(limit) - used))
    except (OSError, ValueError):
        return free
