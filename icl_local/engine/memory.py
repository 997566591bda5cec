"""Memory and parallelism, computed before decoding from a file's header."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from icl_local.operating_system import total_memory_bytes
from icl_local.weights import GgufInfo

BYTES = {"f32": 4, "f16": 2}
DEFAULT_PARALLEL = 16
_MEMORY_SHARE = 0.6  # of the memory that is free after the weights; the rest is left to other programs


def kv_bytes_per_token(info: GgufInfo, kv_type: str = "f16") -> int:
    """Return the bytes of KV cache of one token: keys and values of every layer (llama.cpp's llama_kv_cache)."""
    return 2 * info.block_count * info.head_count_kv * info.head_dim * BYTES[kv_type]


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


def available_memory(*, proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the bytes usable without swapping: MemAvailable within the limits of this process's control groups.

    Without /proc it is half of all memory.
    """
    try:
        fields = dict(line.split(":", 1) for line in (proc / "meminfo").read_text().splitlines())
        free = int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return total_memory_bytes() // 2
    return min([free, *_group_rooms(proc, cgroups)])


def _group_rooms(proc: Path, cgroups: Path) -> Iterator[int]:
    """Yield the bytes left below each memory limit, of this process's control group and those above it.

    Cached files that were not used lately count as free: the kernel drops them at the limit (cgroups v1 and v2).
    """
    try:
        lines = (proc / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, name = line.split(":", 2)
        if controllers == "":
            root, limit, used, cached = cgroups, "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            root, limit, used = cgroups / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
            cached = "total_inactive_file"
        else:
            continue
        group = root / name.strip("/")
        for folder in [one for one in (group, *group.parents) if one.is_relative_to(root)]:
            with suppress(OSError, ValueError, KeyError):  # no such file, or no limit ("max")
                most = int((folder / limit).read_text())
                statistics = dict(pair.split() for pair in (folder / "memory.stat").read_text().splitlines())
                yield max(0, most - int((folder / used).read_text()) + int(statistics[cached]))
