"""Rows for the judge's tests: models, queries and responses written straight into a store."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from icl_local.identity import key_of
from icl_local.store import spool_folder
from icl_local.store.database import Store, now
from tests.shared import FOLDER, copy_empty_database

WORDS = ["river", "stone", "cloud", "field", "light", "winter", "garden", "letter", "music", "harbour"]


def response_rows(
    n: int, *, language: str = "en", model: str = "Tiny 1B", split: str = "multi", words: int = 8, method: str = "urial"
) -> list[tuple[str, dict[str, object]]]:
    """``n`` responses to ``n`` queries of one cell; texts grow with their number."""
    model_id = key_of(kind="model", label=model, variant="base", dpo=False)
    shared = [
        ("models", {"model_id": model_id, "label": model, "variant": "base", "dpo": False}),
        ("datasets", {"dataset": "test", "source": "test", "created_at": now()}),
        ("runs", {"run_id": "run", "command": "test", "version": "0", "started_at": now()}),
    ]
    rows: list[tuple[str, dict[str, object]]] = list(shared)
    for i in range(n):
        query_key = key_of(kind="query", language=language, split=split, number=i)
        text = " ".join(WORDS[(i * 7 + k * 3) % len(WORDS)] for k in range(words + i % 5)) + f" {i}."
        rows += [
            (
                "queries",
                {
                    "query_key": query_key,
                    "dataset": "test",
                    "query_id": str(i),
                    "language": language,
                    "split": split,
                    "task": [],
                    "instruction": f"{language} {split} question {i}: what about {WORDS[i % 10]}?",
                },
            ),
            (
                "responses",
                {
                    "response_id": key_of(kind="response", model=model, query=query_key, method=method),
                    "model_id": model_id,
                    "query_key": query_key,
                    "run_id": "run",
                    "method": method,
                    "language": language,
                    "text": text,
                    "raw_text": text,
                    "finish_reason": "stop",
                    "text_language": "en",
                    "created_at": now(),
                },
            ),
        ]
    return rows


_made: dict[str, Path] = {}


def database(path: Path, *cells: list[tuple[str, dict[str, object]]]) -> Path:
    """A database at ``path`` with these rows: a copy, where this process has made one with the same rows."""
    times = ("created_at", "started_at")
    rows = [(table, {name: row[name] for name in row if name not in times}) for cell in cells for table, row in cell]
    key = key_of(rows=rows)
    if key not in _made:
        made = Path(tempfile.mkdtemp(dir=os.environ[FOLDER])) / "made.duckdb"
        copy_empty_database(made)
        with Store(made) as store:
            for cell in cells:
                store.put(cell)
        _made[key] = made
    path.parent.mkdir(parents=True, exist_ok=True)
    if (spool := spool_folder(_made[key])).exists():  # not without rows
        shutil.copytree(spool, spool_folder(path))
    return Path(shutil.copy(_made[key], path))
