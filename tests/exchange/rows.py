"""Other people's items, this program's own rows, and the command line over one database."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from icl_local import exchange, store
from icl_local.cli import icl
from icl_local.identity import key_of
from icl_local.prompting.json_items import JsonItem
from icl_local.prompting.queries import Query, QuerySet
from icl_local.store.database import Store

LOOP = "Round and round we go, " * 12
CODE = "Here:\n```python\nfor i in range(3):\n    print(i)\n```\n"


def output(number: object, text: str = "Fine.", **fields: Any) -> dict[str, Any]:
    return {"id": number, "instruction": f"Question {number}?", "output": text, "generator": "m", **fields}


def items(*data: dict[str, Any]) -> list[JsonItem]:
    return [JsonItem(f"outputs.json:{line}", one) for line, one in enumerate(data, start=1)]


def bring_in(db: Path, *data: dict[str, Any], source: str = "outputs.json", **options: Any) -> exchange.Imported:
    with Store(db) as target:
        return exchange.import_outputs(target, items(*data), source=source, **options)


def rows(db: Path, columns: str, order: str = "all") -> list[tuple[Any, ...]]:
    return store.query(db, f"select {columns} from responses order by {order}").rows


def known(*texts: str, **fields: Any) -> QuerySet:
    asked = [Query("set", str(i), "en", text, "multi", **fields) for i, text in enumerate(texts)]
    return QuerySet("set", "set.jsonl", None, tuple(asked))


def own_cell(response_id: str, text: str, **fields: Any) -> list[tuple[str, dict[str, Any]]]:
    """Rows of one response this program made."""
    query = Query("set", response_id, "en", f"Question {response_id}?", "multi", ("math",))
    head = "HEAD " * 200
    prompt = {"prompt_id": "p", "method": "urial", "language": "en", "head": head, "tail": " TAIL", "stops": ["#"]}
    response = {
        "response_id": response_id,
        "model_id": "t",
        "gguf_sha256": "g",
        "query_key": query.key,
        "prompt_id": "p",
        "settings_id": "s",
        "run_id": "run",
        "method": "urial",
        "language": "en",
        "text": text,
        "raw_text": text,
        "finish_reason": "stop",
        "new_tokens": 3,
        "created_at": store.now(),
        **fields,
    }
    file = {"gguf_sha256": "g", "file_name": "t.gguf", "source": "file", "bytes": 1, "quantization": "Q4_0"}
    return [
        ("models", {"model_id": "t", "label": "Tiny 1B", "variant": "base", "dpo": False}),
        ("gguf_files", file),
        ("settings", {"settings_id": "s", "backend": "llama.cpp", "max_tokens": 9}),
        ("prompts", prompt),
        ("runs", {"run_id": "run", "command": "run", "version": "0", "started_at": store.now()}),
        ("datasets", {"dataset": "set", "source": "set.jsonl"}),
        ("queries", query.row()),
        ("responses", response),
        ("critical_errors", error_row(response_id, "1.0")),
    ]


def error_row(response_id: str, version: str, **fields: Any) -> dict[str, Any]:
    return {"response_id": response_id, "error": "infinite_loop", "found": False, "detector_version": version, **fields}


def verdict(response_id: str, metric_scores: Mapping[str, float | None]) -> list[tuple[str, dict[str, Any]]]:
    """Rows of one judgment."""
    judgment_id = key_of(response=response_id, metrics=sorted(metric_scores))
    template_sha256 = "s" if "safety" in metric_scores else "t"
    template = "Judge ${instruction} -> ${candidate}, $5"
    judgment = {
        "judgment_id": judgment_id,
        "attempt": 1,
        "response_id": response_id,
        "judge_id": "j",
        "template_sha256": template_sha256,
        "repeat": 0,
        "status": "ok",
        "scores": list(metric_scores.values()),
        "not_applicable": [metric == "factuality" and score is None for metric, score in metric_scores.items()],
        "reasons": [f"because {metric}" for metric in metric_scores],
        "raw_reply": '{"raw": 1}',
        "created_at": store.now(),
    }
    judge = {"judge_id": "j", "name": "openai:gpt", "backend": "openai", "model": "gpt"}
    metrics = list(metric_scores)
    return [
        ("judges", judge),
        (
            "judge_templates",
            {"template_sha256": template_sha256, "name": "multi", "text": template, "metrics": metrics},
        ),
        ("judgments", judgment),
    ]


def command(name: str, *arguments: object, db: Path) -> Result:
    result = CliRunner().invoke(icl, [*name.split(), *map(str, arguments), "--db", str(db)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result
