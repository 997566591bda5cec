"""Prefix states on disk: the same bits as decoding, and never a wrong state."""

from __future__ import annotations

from pathlib import Path

import pytest

from icl_local.engine.prefix_cache import PrefixCache
from icl_local.engine.protocol import EngineOptions, Request
from icl_local.engine.worker import Worker


def test_a_prefix_on_disk_gives_the_same_bits(tmp_path: Path, tiny_gguf: Path) -> None:
    requests = [Request(str(i), "word " * 200 + f"number {i}", 8) for i in range(4)]
    options = EngineOptions(trace=True, prefix_cache=str(tmp_path / "prefixes"))
    with Worker(tiny_gguf, options) as worker:
        first = {c.id: c for c in worker.generate(requests)}
        assert worker.stats.prefix_source == "decoded"
    with Worker(tiny_gguf, options) as worker:
        second = {c.id: c for c in worker.generate(requests)}
        assert worker.stats.prefix_source == "cache"
    assert first == second


@pytest.mark.parametrize("changed", [{"min_rows": 8}, {"kv_unified": True}, {"n_ubatch": 64}])
def test_a_prefix_decoded_with_other_settings_is_a_miss(
    tmp_path: Path, tiny_gguf: Path, changed: dict[str, object]
) -> None:
    requests = [Request(str(i), "word " * 200 + f"number {i}", 1) for i in range(2)]
    with Worker(tiny_gguf, EngineOptions(threads=1, prefix_cache=str(tmp_path / "prefixes"))) as worker:
        sources = []
        for overrides in ({}, changed, changed):
            list(worker.generate(requests, **overrides))
            sources.append(worker.stats.prefix_source)
    assert sources == ["decoded", "decoded", "cache"]


def test_a_torn_prefix_file_is_a_miss(tmp_path: Path) -> None:
    cache, tokens = PrefixCache("scope", tmp_path), list(range(300))
    cache.put(tokens, b"state")
    (path,) = tmp_path.iterdir()
    assert PrefixCache("scope", tmp_path).get(tokens) == b"state"
    assert PrefixCache("other", tmp_path).get(tokens) is None
    path.write_bytes(path.read_bytes()[:-1])
    assert PrefixCache("scope", tmp_path).get(tokens) is None
