"""Queries and a model file for runs of tiny models."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from icl_local.engine import EngineOptions, quantize
from tests import kernels

OPTIONS = EngineOptions(parallel=4, threads=1, repack=True)


def write_queries(path: Path) -> Path:
    """Write 24 queries of different lengths."""
    items = [
        {
            "id": i,
            "instruction": f"Tell number {i} of {'many ' * (i % 5)}things",
            "task": ["writing"],
            "category": "regular",
        }
        for i in range(24)
    ]
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    return path


@pytest.fixture
def query_file(tmp_path: Path) -> Path:
    return write_queries(tmp_path / "queries.jsonl")


@pytest.fixture(scope="session")
def model(tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Q8_0, for which batches change nothing."""
    path = tmp_path_factory.mktemp("q8") / "tiny-q8.gguf"
    quantize(tiny_gguf, path, "q8_0")
    kernels.skip_unless_exact(path)
    return path


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test knows what another one has probed."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
