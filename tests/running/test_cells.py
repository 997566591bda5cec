"""Cells: decoding settings, queries of a language, prompts and keys."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import icl_local
from icl_local.exceptions import ConfigError, InputError, ModelError, UnknownName
from icl_local.running import CellPlan, Decoding, Shard, load_queries, plan_cells
from tests.shared import Run


def test_queries_without_a_language_are_english_only(tmp_path: Path, query_file: Path) -> None:
    assert load_queries(["en"], [str(query_file)])[0].queries[0].language == "en"
    with pytest.raises(InputError, match="names no language"):
        load_queries(["es"], [str(query_file)])
    with pytest.raises(ConfigError, match="no queries in 'es'"):
        load_queries(["en", "es"], [f"en={query_file}"])
    assert [s.queries[0].language for s in load_queries(["en", "es"], [str(query_file), f"es={query_file}"])] == [
        "en",
        "es",
    ]


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        (["a.jsonl", "b.jsonl"], "--queries b.jsonl: a.jsonl is given already"),
        (["samples", "b.jsonl"], "--queries b.jsonl: samples is given already"),
        (["en=a.jsonl", "es=b.jsonl"], "--queries es=b.jsonl is for a language that --lang lacks"),
        (["en=a.jsonl", "en=b.jsonl"], "--queries en=b.jsonl: 'en' has a.jsonl already"),
        (["en=a.jsonl", "b.jsonl"], "--queries b.jsonl is not used"),
    ],
)
def test_no_source_of_queries_is_ignored(sources: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_queries(["en"], sources)


def test_a_plan_counts_what_is_missing_and_neither_loads_nor_fetches(
    icl: Run, tiny_gguf: Path, query_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    db, far = tmp_path / "x.duckdb", "hf:someone/models/far.gguf"
    command = ["run", "--method", "zero-shot,instruct", "--queries", query_file, "--db", db, "--max-tokens", 2]
    here = ["--model", tiny_gguf, "--no-probe", "--verify", 0]
    total = len(query_file.read_text().splitlines())
    assert icl(*command, *here, "--plan")[0] == 0
    assert not db.exists()
    assert icl(*command, *here, "--limit", 2)[0] == 0
    monkeypatch.setattr("icl_local.running.engines.Worker", None)
    monkeypatch.setattr("icl_local.weights.hub.fetch", None)
    status, out, err = icl(*command, "--model", f"{far},{tiny_gguf}", "--plan", "--format", "csv")
    label = tiny_gguf.stem
    assert (status, out.splitlines()) == (0, [
        "model,method,language,queries,done,missing",
        f"far,zero-shot,en,{total},,", f"far,instruct,en,{total},,",
        f"{label},zero-shot,en,{total},2,{total - 2}", f"{label},instruct,en,{total},2,{total - 2}",
    ])  # fmt: skip
    assert err == f"far: {far} is to be fetched\n"
    assert icl(*command, *here, "--format", "csv")[::2] == (2, "error: only --plan prints rows; leave --format out\n")


def test_a_plan_says_which_cell_cannot_run_and_refuses_a_changed_query(
    tiny_gguf: Path, query_file: Path, tmp_path: Path
) -> None:
    db, how = tmp_path / "x.duckdb", {"model": tiny_gguf, "queries": query_file, "plan": True, "progress": None}
    found = icl_local.run(db, **how, decode="choices").preview
    assert found.dicts()[0]["missing"] is None
    assert "cannot run: query" in found.notes[0]
    icl_local.run(db, **{**how, "plan": False}, max_tokens=2, limit=1, probe=False, verify=0)
    assert icl_local.run(db, **how, max_tokens=2).preview.dicts()[0]["done"] == 1
    query_file.write_text(query_file.read_text().replace('"instruction": "', '"instruction": "Now ', 1))
    with pytest.raises(InputError, match="is stored with another text"):
        icl_local.run(db, **how)


def test_unknown_names_are_errors(tiny_gguf: Path, query_file: Path, tmp_path: Path) -> None:
    sets = load_queries(["en"], [str(query_file)])
    with pytest.raises(UnknownName, match="no method"):
        plan_cells([str(tiny_gguf)], ["one-shot"], sets)
    with pytest.raises((UnknownName, ModelError)):
        plan_cells([str(tmp_path / "missing.gguf")], ["zero-shot"], sets)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_tokens": 0}, "--max-tokens must be from 1 to 10,000,000, not 0"),
        ({"max_tokens": 1 << 31}, "--max-tokens must be from 1 to 10,000,000"),
        ({"temperature": 1.0, "draw_seed": 10**20}, "--draw-seed 100000000000000000000 is too large"),
        ({"repetition_penalty": 0.0}, "--repetition-penalty must be above 0, not 0"),
        ({"repetition_penalty": float("nan")}, "--repetition-penalty must be above 0"),
        ({"kv_type": "q8_0"}, "--kv-type must be f16 or f32, not 'q8_0'"),
    ],
)
def test_decoding_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Decoding(**settings)


def planned(
    model: Path, query_file: Path, decoding: Decoding, *, method: str = "zero-shot", limit: int = 3
) -> CellPlan:
    (cell,) = plan_cells([str(model)], [method], load_queries(["en"], [str(query_file)], limit=limit))
    return CellPlan(cell, decoding)


def test_a_key_is_known_before_the_response_and_depends_on_what_the_text_depends_on(
    tiny_gguf: Path, query_file: Path
) -> None:
    plan = planned(tiny_gguf, query_file, Decoding())
    assert plan.keys == planned(tiny_gguf, query_file, Decoding()).keys
    assert "plain_queries" not in plan.settings  # so keys made before that setting stay
    changed = (Decoding(max_tokens=7), Decoding(repetition_penalty=1.2), Decoding(kv_type="f16"))
    for other in (*changed, Decoding(plain_queries=True)):
        assert not plan.keys & planned(tiny_gguf, query_file, other).keys
    assert not plan.keys & planned(tiny_gguf, query_file, Decoding(), method="urial").keys
    assert plan.keys < planned(tiny_gguf, query_file, Decoding(), limit=5).keys


def test_only_missing_responses_are_requested_with_the_cells_settings(tiny_gguf: Path, query_file: Path) -> None:
    plan = planned(tiny_gguf, query_file, Decoding(max_tokens=5, repetition_penalty=1.3), method="urial")
    have = {next(iter(plan.keys))}
    requests = plan.requests(have)
    assert {request.id for request in requests} == plan.keys - have
    assert {(r.max_tokens, r.repetition_penalty) for r in requests} == {(5, 1.3)}
    assert all(request.stops == ("# Query", "#Query") for request in requests)


@pytest.mark.parametrize("method", ["zero-shot", "urial", "instruct"])
def test_a_plain_query_is_marked_in_its_prompt(tiny_gguf: Path, query_file: Path, method: str) -> None:
    plan = planned(tiny_gguf, query_file, Decoding(plain_queries=True), method=method)
    for request in plan.requests(set()):
        assert request.plain is not None
        assert request.prompt[slice(*request.plain)] == plan.by_key[request.id][0].instruction
    assert {one.plain for one in planned(tiny_gguf, query_file, Decoding(), method=method).requests(set())} == {None}


def test_a_cells_rows_name_each_prompt_frame_and_file_once(tiny_gguf: Path, query_file: Path) -> None:
    rows = planned(tiny_gguf, query_file, Decoding()).rows()
    assert Counter(table for table, _ in rows) == {
        "models": 1, "gguf_files": 1, "datasets": 1, "settings": 1, "cells": 1, "methods": 1, "queries": 3,
        "prompts": 1,
    }  # fmt: skip


def test_cells_of_one_file_are_side_by_side(tiny_gguf: Path, query_file: Path, tmp_path: Path) -> None:
    other = tmp_path / "a copy.gguf"
    other.write_bytes(tiny_gguf.read_bytes())
    sets = load_queries(["en"], [str(query_file)])
    labels = [cell.label for cell in plan_cells([str(tiny_gguf), str(other)], ["zero-shot", "instruct"], sets)]
    assert sorted(labels) == [
        "a copy · instruct · en", "a copy · zero-shot · en", "tiny · instruct · en", "tiny · zero-shot · en",
    ]  # fmt: skip
    assert [label.split(" ·")[0] for label in labels] in (["tiny"] * 2 + ["a copy"] * 2, ["a copy"] * 2 + ["tiny"] * 2)


def test_sample_limit_and_shard_select_queries_in_that_order(query_file: Path) -> None:
    def ids(**selection: Any) -> list[str]:
        (found,) = load_queries(["en"], [str(query_file)], **selection)
        return [query.query_id for query in found.queries]

    assert ids(limit=4) == ["0", "1", "2", "3"]
    assert ids(limit=4, shard=Shard(2, 2)) == ["1", "3"]
    assert ids(sample=6, seed=1) == ids(sample=6, seed=1) != ids(sample=6, seed=2)
    with pytest.raises(ConfigError, match="give one of them"):
        ids(sample=6, limit=2)
    with pytest.raises(ConfigError, match="fewer parts"):
        ids(limit=1, shard=Shard(2, 2))


def test_a_day_that_does_not_exist_is_refused_before_anything_runs() -> None:
    with pytest.raises(ConfigError, match="--date must be a day as YYYY-MM-DD, not '2026-13-45'"):
        Decoding(chat_date="2026-13-45")
