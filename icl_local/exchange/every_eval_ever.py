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
_FILE = ("dataset", "model", "variant", "dpo", "quantization", "weights")

Row = dict[str, Any]


def export_records(database: Path, folder: Path, *, chosen: Selection, organization: str) -> Exported:
    """Write ``folder``/DATASET/DEVELOPER/MODEL/UUID.json for each query set and model file; ``organization`` ran them.

    The same results get the same UUID. Raises ConfigError if nothing is selected.
    """
    cells = store.selected(database, "eee_cells", chosen).dicts()
    results_of: dict[str, list[Row]] = {}
    for row in store.named(database, "eee_results").dicts():
        results_of.setdefault(row.pop("cell_id"), []).append(row)
    if not cells:
        raise ConfigError("nothing selected is in the database; `icl status` shows what is")
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for cell in cells:
        groups.setdefault(tuple(cell[name] for name in _FILE), []).append(cell)
    families = registry.load_registry()
    files, count = [], 0
    for of_model in groups.values():
        results = [result for cell in of_model for result in _results(cell, results_of.get(cell["cell_id"], ()))]
        if not results:
            continue
        record = _record(of_model, results, organization, families)
        developer, name = record["model_info"]["id"].split("/", 1)
        dataset = _word(of_model[0]["dataset"])
        # without the scores: the last digit of a sum depends on DuckDB's threads
        counts = [
            (result["evaluation_name"], result["score_details"]["uncertainty"]["num_samples"]) for result in results
        ]
        content = key_of(model=_known(record["model_info"]), made=record["evaluation_timestamp"], results=counts)
        path = folder / dataset / _word(developer) / _word(name) / f"{uuid.uuid5(uuid.NAMESPACE_URL, content)}.json"
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_result(path, json.dumps(_known(record), ensure_ascii=False, indent=2) + "\n", mode=PRIVATE)
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
    engine = _strings(name="llama.cpp", version=cell["llama_build"]) if cell["backend"] == "llama.cpp" else None
    return {
        "name": f"{cell['model']}{' DPO' if cell['dpo'] else ''}",
        "id": known or f"local/{_word(cell['model'])}{'-dpo' if cell['dpo'] else ''}",
        "inference_engine": engine,
        "additional_details": _strings(
            variant=cell["variant"],
            quantization=cell["quantization"],
            file=cell["file_name"],
            gguf_sha256=cell["gguf_sha256"],
            parameters=cell["parameters"],
        ),
    }


def _results(cell: Row, rows: Sequence[Row]) -> list[Row]:
    """Return the rows of db/queries/eee_results.sql for a cell as results, each with the cell's settings."""
    shared = {
        "source_data": _source(cell),
        "evaluation_timestamp": cell["made_at"].replace(tzinfo=UTC).isoformat(timespec="seconds"),
        "generation_config": {
            "generation_args": {
                "temperature": cell["temperature"],
                "top_p": cell["top_p"],
                "max_tokens": cell["max_tokens"] or None,
                "prompt_template": cell["prompt_template"] or None,
            },
            "additional_details": _strings(
                method=cell["method"],
                language=cell["language"],
                repetition_penalty=cell["repetition_penalty"],
                penalty_rule=cell["penalty_rule"],
                kv_type=cell["kv_type"],
                min_p=cell["min_p"],
                exact_batching=cell["exact"],
                settings_id=cell["settings_id"],
                cell_id=cell["cell_id"],
            ),
        },
    }
    cell_name = f"{cell['dataset']} {cell['method']} {cell['language']}"
    return [{"evaluation_name": f"{cell_name}: {row.pop('name')}", **shared, **row} for row in rows]


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


def _known(value: Any) -> Any:
    """Return ``value`` without keys whose value is None."""
    if isinstance(value, dict):
        return {name: _known(one) for name, one in value.items() if one is not None}
    return [_known(one) for one in value] if isinstance(value, list) else value
