"""Records for Every Eval Ever hold what its schema 0.2.1 asks for, and nothing that it does not know."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import pytest

from icl_local import store
from icl_local.cli import main
from icl_local.exceptions import ConfigError
from icl_local.exchange import every_eval_ever
from icl_local.store import Selection
from icl_local.store.database import Store
from tests import synthetic
from tests.exchange.rows import LOOP, bring_in, output, own_cell, verdict

# The parts of the schema that concern records like ours: required keys, closed objects, types and ranges.
TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
MODEL = {
    "type": "object",
    "required": ["name", "id"],
    "properties": {
        "name": {"type": "string"},
        "id": {"type": "string", "pattern": "^[^/]+/[^/]+$"},
        "inference_engine": {"type": "object", "additionalProperties": {"type": "string"}},
        "additional_details": TEXTS,
    },
}
RESULT = {
    "type": "object",
    "required": ["evaluation_name", "source_data", "metric_config", "score_details"],
    "properties": {
        "source_data": {
            "required": ["dataset_name", "source_type"],
            "properties": {"source_type": {"enum": ["hf_dataset", "other"]}, "additional_details": TEXTS},
        },
        "metric_config": {
            "required": ["lower_is_better", "score_type", "min_score", "max_score"],
            "properties": {
                "score_type": {"const": "continuous"},
                "llm_scoring": {"required": ["judges", "input_prompt"], "properties": {"judges": {"minItems": 1}}},
            },
        },
        "score_details": {
            "required": ["score"],
            "properties": {
                "score": {"type": "number"},
                "uncertainty": {
                    "properties": {
                        "standard_error": {"required": ["value"]},
                        "confidence_interval": {
                            "required": ["lower", "upper"],
                            "properties": {"confidence_level": {"minimum": 0, "maximum": 1}},
                        },
                        "num_samples": {"type": "integer"},
                    }
                },
            },
        },
        "generation_config": {
            "properties": {
                "generation_args": {
                    "additionalProperties": False,
                    "properties": {
                        "temperature": {"type": ["null", "number"]},
                        "max_tokens": {"type": "integer", "minimum": 1},
                        "prompt_template": {"type": "string"},
                    },
                },
                "additional_details": TEXTS,
            }
        },
    },
}
RECORD = {
    "type": "object",
    "additionalProperties": False,
    "required": [
        "schema_version",
        "evaluation_id",
        "retrieved_timestamp",
        "source_metadata",
        "model_info",
        "eval_library",
        "evaluation_results",
    ],
    "properties": {
        "schema_version": {"const": "0.2.1"},
        "evaluation_id": {"type": "string"},
        "evaluation_timestamp": {"type": "string"},
        "retrieved_timestamp": {"type": "string", "pattern": r"^\d+\.\d+$"},
        "source_metadata": {
            "required": ["source_type", "source_organization_name", "evaluator_relationship"],
            "properties": {"source_type": {"const": "evaluation_run"}},
        },
        "eval_library": {"required": ["name", "version"]},
        "model_info": MODEL,
        "evaluation_results": {"type": "array", "minItems": 1, "items": RESULT},
    },
}


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic.build(tmp_path_factory.mktemp("eee") / "study.duckdb", queries=20)


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(folder.rglob("*.json"))]


def test_every_record_is_valid_and_no_result_is_lost(database: Path, tmp_path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    done = every_eval_ever.export_records(database, tmp_path, chosen=Selection(), organization="Lab")
    found = records(tmp_path)
    assert len(found) == len(done.files) > 1
    for record in found:
        jsonschema.validate(record, RECORD)
    ((n_scores,),) = store.query(database, "select count(*) from score_means where reading = 'strict'").rows
    ((n_errors,),) = store.query(database, "select count(*) from error_rates").rows
    assert sum(len(record["evaluation_results"]) for record in found) == n_scores + n_errors == done.rows
    assert all(uuid.UUID(path.stem) for path in done.files)
    assert {record["source_metadata"]["source_organization_name"] for record in found} == {"Lab"}


def test_files_and_query_sets_of_one_name_are_not_pooled(db: Path, tmp_path: Path) -> None:
    bring_in(db, output(0, LOOP), source="one.json")
    bring_in(db, output(0), output(1), source="two.json")
    bring_in(db, output(2, datasplit="just_eval"), source="two.json")
    every_eval_ever.export_records(db, tmp_path / "records", chosen=Selection(), organization="Lab")
    found = [
        [
            (result["score_details"]["uncertainty"]["num_samples"], result["score_details"]["score"])
            for result in results
        ]
        for record in records(tmp_path / "records")
        if (
            results := [one for one in record["evaluation_results"] if one["evaluation_name"].endswith("infinite_loop")]
        )
    ]
    assert sorted(found) == [[(1, 0.0)], [(1, 100.0)], [(2, 0.0)]]


def test_scores_are_those_of_the_views(database: Path, tmp_path: Path) -> None:
    every_eval_ever.export_records(database, tmp_path, chosen=Selection(), organization="Lab")
    results = [result for record in records(tmp_path) for result in record["evaluation_results"]]
    means = [r for r in results if r["metric_config"]["max_score"] == 5]
    ((total,),) = store.query(database, "select sum(mean) from score_means where reading = 'strict'").rows
    assert sum(r["score_details"]["score"] for r in means) == pytest.approx(total)
    assert all(r["metric_config"]["lower_is_better"] is (r["metric_config"]["max_score"] == 100) for r in results)


def test_labels_of_people_are_no_results(db: Path, tmp_path: Path) -> None:
    with Store(db) as target:
        target.put([*own_cell("r", "Fine."), *verdict("r", {"clarity": 5.0})])
        of_rater = {"judge_id": "h", "judgment_id": "h"}
        (_, judgment) = verdict("r", {"clarity": 1.0})[-1]
        rater = {"judge_id": "h", "name": "human:ana", "backend": "human", "model": "ana"}
        target.put([("judges", rater), ("judgments", judgment | of_rater)])
    every_eval_ever.export_records(db, tmp_path / "records", chosen=Selection(), organization="Lab")
    (record,) = records(tmp_path / "records")
    scored = [one for one in record["evaluation_results"] if one["metric_config"]["max_score"] == 5]
    assert [one["score_details"]["score"] for one in scored] == [5.0]


def test_temperatures_are_those_that_were_used(db: Path, tmp_path: Path) -> None:
    """Of responses by their settings, of judges by what the server took; none where it is not known."""
    settings = {"settings_id": "warm", "backend": "llama.cpp", "temperature": 0.75, "top_p": 1.0, "min_p": 0.0}
    with Store(db) as target:
        rows = [*own_cell("r", "Fine."), *own_cell("w", "Warm.", settings_id="warm"), ("settings", settings)]
        rows += [*verdict("w", {"clarity": 4.0}), *verdict("r", {"clarity": 5.0})]
        (_, judgment) = rows[-1]
        for judge_id, own, sent in (
            ("took", {"temperature": 0.5}, {"max_tokens": 9, "temperature": 0.5}),
            ("refused", {"temperature": 0.5}, {"max_tokens": 9}),
            ("local", {"temperature": 0.5}, None),
        ):
            judge = {"judge_id": judge_id, "name": judge_id, "backend": "openai", "model": "gpt", "settings": own}
            ids = {"judge_id": judge_id, "judgment_id": judge_id, "parameters": sent}
            rows += [("judges", judge), ("judgments", judgment | ids)]
        target.put(rows)
    bring_in(db, output(0))
    every_eval_ever.export_records(db, tmp_path / "records", chosen=Selection(), organization="Lab")
    results = [result for record in records(tmp_path / "records") for result in record["evaluation_results"]]
    made = [one["generation_config"] for one in results]
    used = {(one["additional_details"]["method"], one["generation_args"].get("temperature")) for one in made}
    assert used == {("urial", 0.0), ("urial", 0.75), ("imported", None)}
    scored = [
        one["metric_config"]["llm_scoring"]["judges"][0] for one in results if "llm_scoring" in one["metric_config"]
    ]
    assert {one["model_info"]["name"]: one.get("temperature") for one in scored} == {
        "openai:gpt": None, "took": 0.5, "refused": None, "local": 0.5,
    }  # fmt: skip


def test_the_same_results_have_the_same_file_names(database: Path, tmp_path: Path) -> None:
    first = every_eval_ever.export_records(database, tmp_path / "a", chosen=Selection(), organization="Lab")
    second = every_eval_ever.export_records(database, tmp_path / "b", chosen=Selection(), organization="Lab")
    assert [path.name for path in first.files] == [path.name for path in second.files]


def test_a_selection_that_holds_nothing_is_reported(database: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no model 'none'"):
        every_eval_ever.export_records(database, tmp_path, chosen=Selection(model="none"), organization="Lab")


def test_the_command_writes_them(database: Path, tmp_path: Path) -> None:
    out = tmp_path / "records"
    with pytest.raises(SystemExit) as stopped:
        main(["export", "--format", "every-eval-ever", "--lang", "en", "-o", str(out), "--db", str(database)])
    assert stopped.value.code == 0
    names = {result["evaluation_name"] for record in records(out) for result in record["evaluation_results"]}
    assert names
    assert all(" en: " in name for name in names)
