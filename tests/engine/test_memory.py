"""Memory and parallelism, computed from a file's header."""

from __future__ import annotations

from pathlib import Path

import pytest

from icl_local.engine.memory import available_memory, choose_parallel, default_kv_type, kv_bytes_per_token
from icl_local.weights import read_info


def test_the_kv_cache_of_a_token_holds_keys_and_values_of_every_layer(tiny_gguf: Path) -> None:
    info = read_info(tiny_gguf)  # 2 layers, 2 KV heads of 16
    assert kv_bytes_per_token(info, "f16") == 2 * 2 * 2 * 16 * 2
    assert kv_bytes_per_token(info, "f32") == 2 * kv_bytes_per_token(info, "f16")
    assert default_kv_type(info) == "f32"


def test_as_many_sequences_as_memory_holds_and_at_least_one(tiny_gguf: Path) -> None:
    info = read_info(tiny_gguf)
    sequence = 1000 * kv_bytes_per_token(info, "f16")
    free = info.bytes + int(5.5 * sequence / 0.6)
    assert choose_parallel(info, n_ctx_seq=1000, kv_type="f16", memory_bytes=free) == 5
    assert choose_parallel(info, n_ctx_seq=1000, kv_type="f16", memory_bytes=free, most=3) == 3
    assert choose_parallel(info, n_ctx_seq=1000, kv_type="f16", memory_bytes=0) == 1
    assert available_memory() > 0


@pytest.mark.parametrize(
    ("line", "folder", "names"),
    [
        ("0::/", "", ("memory.max", "memory.current", "inactive_file")),
        ("0::/box/inner", "box", ("memory.max", "memory.current", "inactive_file")),
        ("4:cpu,memory:/box", "memory/box", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")),
    ],
)
def test_a_containers_limit_bounds_the_free_memory(
    tmp_path: Path, line: str, folder: str, names: tuple[str, str, str]
) -> None:
    proc, group = tmp_path / "proc", tmp_path / "cgroups" / folder
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable: 8000 kB\n")
    assert available_memory(proc=proc, cgroups=tmp_path / "cgroups") == 8000 * 1024
    (proc / "self" / "cgroup").write_text(f"1:cpu:/\n{line}\n")
    group.mkdir(parents=True, exist_ok=True)
    limit, used, cached = names
    (group / limit).write_text("5000000\n")
    (group / used).write_text("3000000\n")
    (group / "memory.stat").write_text(f"anon 7\n{cached} 1000000\n")
    assert available_memory(proc=proc, cgroups=tmp_path / "cgroups") == 3_000_000
    (group / limit).write_text("max\n")
    assert available_memory(proc=proc, cgroups=tmp_path / "cgroups") == 8000 * 1024
