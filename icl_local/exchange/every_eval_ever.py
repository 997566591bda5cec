"""Results as Every Eval Ever's records (schema 0.2.1): one JSON file a query set and model file, a result a metric.

The schema's instance-level records need a reference answer and ``is_correct``, which an open answer scored from 1 to 5
does not have: they are not written. Source: evaleval/every_eval_ever on GitHub.
"""

import json
import time
import uuid
from pathlib import Path
from typing import Any

from icl_local import __version__, store
from icl_local.exchange.export import WHOLE, Exported, file_name, require_rows
from icl_local.files import PRIVATE, result_at, write_result
from icl_local.identity import key_of
from icl_local.store import Row, Selection
from icl_local.weights import registry

SCHEMA_VERSION = "0.2.1"


def export_records(database: Path, folder: Path, *, chosen: Selection, organization: str) -> Exported:
    """Write ``folder``/DATASET/DEVELOPER/MODEL/UUID.json for each query set and model file; ``organization`` ran them.

    The same results get the same UUID. Raises ConfigError if nothing is selected.
    """
    rows = store.selected(database, "eee_results", chosen).dicts()
    require_rows(len(rows))
    files = []
    for row in rows:
        record = _record(row, organization)
        developer, name = record["model_info"]["id"].split("/", 1)
        # without the scores: the last digit of a sum depends on DuckDB's threads
        counts = [
            (result["evaluation_name"], result["score_details"]["uncertainty"]["num_samples"])
            for result in record["evaluation_results"]
        ]
        content = key_of(model=record["model_info"], made=record["evaluation_timestamp"], results=counts)
        place = folder / _word(row["dataset"]) / _word(developer) / _word(name)
        path = place / f"{uuid.uuid5(uuid.NAMESPACE_URL, content)}.json"
        with result_at(folder):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_result(path, json.dumps(record, ensure_ascii=False, indent=2) + "\n", mode=PRIVATE)
        files.append(path)
    lost = "every-eval-ever holds results, not texts, and `icl import` does not take it; "
    return Exported(tuple(files), sum(len(row["results"]) for row in rows), lost=lost + WHOLE)


def _record(row: Row, organization: str) -> Row:
    """Return the record of one query set and model file from its row of db/queries/eee_results.sql."""
    model_id, now = _model_id(row), f"{time.time():.3f}"
    record = {
        "schema_version": SCHEMA_VERSION,
        "evaluation_id": f"{_word(row['dataset'])}/{model_id}/{now}",
        "evaluation_timestamp": row["made_at"],
        "retrieved_timestamp": now,
        "source_metadata": {
            "source_name": "icl-local",
            "source_type": "evaluation_run",
            "source_organization_name": organization,
            "evaluator_relationship": "third_party",
        },
        "eval_library": {"name": "icl-local", "version": __version__},
        "model_info": {**row["model_info"], "id": model_id},
        "evaluation_results": row["results"],
    }
    known: Row = _known(record)
    return known


def _model_id(row: Row) -> str:
    """Return the published checkpoint's name if the registry knows it and the weights are its own, else a local one."""
    spec = registry.variant_spec(row["registry_name"] or "", row["variant"])
    known = spec.checkpoint if spec and not row["dpo"] else None
    return known or f"local/{_word(row['model'])}{'-dpo' if row['dpo'] else ''}"


def _word(text: str) -> str:
    return file_name(text).strip("-.") or "unnamed"


def _known(value: Any) -> Any:
    """Return ``value`` without keys whose value is None."""
    if isinstance(value, dict):
        return {name: _known(one) for name, one in value.items() if one is not None}
    return [_known(one) for one in value] if isinstance(value, list) else value
