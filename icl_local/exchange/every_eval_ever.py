"""Results as Every Eval Ever's records (schema 0.2.1): one JSON file a query set and model file, a result a metric.

Score means are written with their judge, prompt and interval, critical errors as shares. The schema's instance-level
records need a reference answer and ``is_correct``, which an open answer scored from 1 to 5 does not have: they are not
written; the Parquet export holds every answer. Source: evaleval/every_eval_ever on GitHub.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC
from pathlib import Path
from typing import Any

from icl_local import __version__, store
from icl_local.exceptions import ConfigError
from icl_local.exchange.export import WHOLE, Exported
from icl_local.files import PRIVATE, write_result
from icl_local.identity import key_of
from icl_local.prompting import JUST_EVAL
from icl_local.store import Selection
from icl_local.weights import registry

SCHEMA_VERSION = "0.2.1"
_JUST_EVAL_REPOSITORY = "re-align/just-eval-instruct"
_ERRORS = {
    "infinite_loop": "percent of answers that repeat one unit of text without end",
    "infinite_loop_literal": "percent of answers with any sequence of characters repeated more than 5 times",
    "unintended_code": "percent of answers with code where the query's task is not coding",
}
_FILE = ("dataset", "model", "variant", "dpo", "quantization", "weights")

Row = dict[str, Any]


def export_records(
    database: Path, folder: Path, *, chosen: Selection, organization: str, models_file: Path | None = None
) -> Exported:
    """Write ``folder``/DATASET/DEVELOPER/MODEL/UUID.json for each query set and model file; ``organization`` ran them.

    The same results get the same UUID. Raises ConfigError if nothing is selected.
    """
    cells = store.selected(database, "eee_cells", chosen).dicts()
    scores, errors = (_by_cell(store.named(database, name).dicts()) for name in ("eee_scores", "eee_errors"))
    if not cells:
        raise ConfigError("nothing like that is in the database; `icl status` shows what is")
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for cell in cells:
        groups.setdefault(tuple(cell[name] for name in _FILE), []).append(cell)
    families = registry.load_registry(models_file)
    files, count = [], 0
    for of_model in groups.values():
        results = [result for cell in of_model for result in _results(cell, scores, errors)]
        if not results:
            continue
        record = _record(of_model, results, organization, families)
        developer, name = record["model_info"]["id"].split("/", 1)
        dataset = _word(of_model[0]["dataset"])
        # without the scores: the last digit of a sum depends on DuckDB's threads
        counts = [
            (result["evaluation_name"], result["score_details"]["uncertainty"]["num_samples"]) for result in results
        ]
        content = key_of(model=record["model_info"], made=record["evaluation_timestamp"], results=counts)
        path = folder / dataset / _word(developer) / _word(name) / f"{uuid.uuid5(uuid.NAMESPACE_URL, content)}.json"
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_result(path, json.dumps(record, ensure_ascii=False, indent=2) + "\n", mode=PRIVATE)
        files.append(path)
        count += len(results)
    lost = "every-eval-ever holds results, not texts, and `icl import` does not take it; "
    return Exported(tuple(files), count, lost=lost + WHOLE)


def _record(
    cells: Sequence[Row], results: list[Row], organization: str, families: Mapping[str, registry.FamilySpec]
) -> Row:
    first, now = cells[0], f"{time.time():.3f}"
    model = _model_info(first, families)
    last = max(cell["made_at"] for cell in cells).replace(tzinfo=UTC)
    return {
        "schema_version": SCHEMA_VERSION,
        "evaluation_id": f"{_word(first['dataset'])}/{model['id']}/{now}",
        "evaluation_timestamp": last.isoformat(timespec="seconds"),
        "retrieved_timestamp": now,
        "source_metadata": {
            "source_name": "icl-local",
            "source_type": "evaluation_run",
            "source_organization_name": organization,
            "evaluator_relationship": "third_party",
        },
        "eval_library": {"name": "icl-local", "version": __version__},
        "model_info": model,
        "evaluation_results": results,
    }


def _model_info(cell: Row, families: Mapping[str, registry.FamilySpec]) -> Row:
    """Return the model's name: the published checkpoint's if the registry knows it and the weights are its own."""
    family = families.get(cell["registry_name"] or "")
    spec = family.variants.get(cell["variant"]) if family else None
    known = spec.checkpoint if spec and not cell["dpo"] else None
    engine = (
        {}
        if cell["backend"] != "llama.cpp"
        else {"inference_engine": _strings(name="llama.cpp", version=cell["llama_build"])}
    )
    return {
        "name": f"{cell['model']}{' DPO' if cell['dpo'] else ''}",
        "id": known or f"local/{_word(cell['model'])}{'-dpo' if cell['dpo'] else ''}",
        **engine,
        "additional_details": _strings(
            variant=cell["variant"],
            quantization=cell["quantization"],
            file=cell["file_name"],
            gguf_sha256=cell["gguf_sha256"],
            parameters=cell["parameters"],
        ),
    }


def _results(cell: Row, scores: Mapping[str, list[Row]], errors: Mapping[str, list[Row]]) -> list[Row]:
    key = cell["cell_id"]
    shared = {
        "source_data": _source(cell),
        "evaluation_timestamp": cell["made_at"].replace(tzinfo=UTC).isoformat(timespec="seconds"),
        "generation_config": {
            "generation_args": {
                "temperature": 0.0,
                **({"max_tokens": cell["max_tokens"]} if cell["max_tokens"] else {}),
                **({"prompt_template": cell["prompt_template"]} if cell["prompt_template"] else {}),
            },
            "additional_details": _strings(
                method=cell["method"],
                language=cell["language"],
                repetition_penalty=cell["repetition_penalty"],
                penalty_rule=cell["penalty_rule"],
                kv_type=cell["kv_type"],
                exact_batching=cell["exact"],
                settings_id=cell["settings_id"],
                cell_id=key,
            ),
        },
    }
    cell_name = f"{cell['dataset']} {cell['method']} {cell['language']}"
    return [
        *({"evaluation_name": f"{cell_name}: {row['metric']}", **shared, **_score(row)} for row in scores.get(key, ())),
        *({"evaluation_name": f"{cell_name}: {row['error']}", **shared, **_error(row)} for row in errors.get(key, ())),
    ]


def _score(row: Row) -> Row:
    judge = {"name": row["judge"], "id": row["judge_model"]}
    scoring = {
        "llm_scoring": {"judges": [{"model_info": judge, "temperature": 0.0}], "input_prompt": row["template_text"]}
    }
    described = f"mean {row['metric']} of answers, scored 1 to 5 by a judge ({row['template']})"
    metric = _metric(described, lower_is_better=False, least=1, most=5) | (scoring if row["template_text"] else {})
    uncertainty = _uncertainty(
        row, "Wilson score interval of the mean, t quantile, queries of one text as one observation"
    )
    return {"metric_config": metric, "score_details": {"score": row["mean"], "uncertainty": uncertainty}}


def _error(row: Row) -> Row:
    metric = _metric(_ERRORS.get(row["error"]) or str(row["error"]), lower_is_better=True, least=0, most=100)
    uncertainty = _uncertainty(row, "Wilson score interval")
    return {"metric_config": metric, "score_details": {"score": row["percent"], "uncertainty": uncertainty}}


def _metric(description: str, *, lower_is_better: bool, least: int, most: int) -> Row:
    return {
        "evaluation_description": description,
        "lower_is_better": lower_is_better,
        "score_type": "continuous",
        "min_score": least,
        "max_score": most,
    }


def _uncertainty(row: Row, method: str) -> Row:
    found: Row = {"num_samples": row["n"]}
    if row["ci_low"] is not None:
        interval = {"lower": row["ci_low"], "upper": row["ci_high"], "confidence_level": 0.95, "method": method}
        found["confidence_interval"] = interval
    if row.get("se") is not None:
        found["standard_error"] = {"value": row["se"], "method": "analytic"}
        found["standard_deviation"] = row["sd"]
    return found


def _source(cell: Row) -> Row:
    """Return the source of the queries: Just-Eval in English is on the hub; translations and users' files are not."""
    if cell["dataset"] == JUST_EVAL and cell["language"] == "en":
        return {
            "dataset_name": JUST_EVAL,
            "source_type": "hf_dataset",
            "hf_repo": _JUST_EVAL_REPOSITORY,
            "samples_number": cell["n_queries"],
        }
    details = _strings(language=cell["language"], queries=cell["n_queries"])
    return {"dataset_name": cell["dataset"], "source_type": "other", "additional_details": details}


def _strings(**values: object) -> dict[str, str]:
    """Return the known values as texts, as the schema's additional details must be."""
    return {name: str(value) for name, value in values.items() if value is not None}


def _word(text: str) -> str:
    return re.sub(r"[^\w.+-]+", "-", text).strip("-.") or "unnamed"


def _by_cell(rows: Sequence[Row]) -> dict[str, list[Row]]:
    cells: dict[str, list[Row]] = {}
    for row in rows:
        cells.setdefault(row["cell_id"], []).append(row)
    return cells
