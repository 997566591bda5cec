"""A study of tiny models, and its database after one run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from icl_local import study
from icl_local.engine.protocol import EngineOptions
from icl_local.study.spec import load_study

OPTIONS = EngineOptions(parallel=4, threads=1)


@pytest.fixture(scope="session")
def tiny_study(tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models, one of them missing, two methods, two languages of six queries each."""
    folder = tmp_path_factory.mktemp("study")
    for language in ("en", "es"):
        items = [{"id": i, "instruction": f"{language} {i}: tell a tale", "task": ["writing"]} for i in range(6)]
        (folder / f"q.{language}.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    path = folder / "mine.toml"
    path.write_text(
        f"""
title = "Mine"
[queries]
en = "q.en.jsonl"
es = "q.es.jsonl"
[decoding]
max_tokens = 6
[[cells]]
models = ["{tiny_gguf}", "nowhere.gguf"]
methods = ["zero-shot", "instruct"]
languages = ["en", "es"]
[[judges]]
judge = "local:nowhere.gguf"
"""
    )
    return path


@pytest.fixture(scope="session")
def whole(tiny_study: Path) -> tuple[Path, study.Outcome]:
    """The database of the study run at one go, and what came of it."""
    db = tiny_study.with_name("whole.duckdb")
    return db, study.run_study(db, load_study(str(tiny_study)), options=OPTIONS, probe=False)
