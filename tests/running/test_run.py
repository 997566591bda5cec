"""Runs end to end on a tiny random file: missing responses are generated, kills lose nothing, failures are reported."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from click.testing import CliRunner

import icl_local
from icl_local import cli, store
from icl_local.engine.protocol import EngineOptions, Request
from icl_local.exceptions import EngineError
from icl_local.running import CellResult, cell_run, cells, engines, load_queries, run
from icl_local.store import spool, upkeep
from tests import acknowledging

ICL = [sys.executable, "-m", "icl_local"]
TEXTS = "select response_id, text, raw_text, finish_reason, prompt_tokens, new_tokens from responses order by all"


def make(
    db: Path,
    model: Path,
    query_file: Path,
    *,
    methods: tuple[str, ...] = ("zero-shot",),
    parallel: int = 4,
    **more: int,
) -> list[CellResult]:
    planned = cells.plan_cells([str(model)], methods, load_queries(["en"], [str(query_file)]))
    return run.run_cells(
        db,
        planned,
        decoding=cells.Decoding(max_tokens=more.pop("max_tokens", 12), **more),  # type: ignore[arg-type]
        options=EngineOptions(parallel=parallel),
        probe=False,
    )


def test_a_run_makes_one_response_a_query_and_a_second_run_nothing(
    tmp_path: Path, tiny_gguf: Path, query_file: Path
) -> None:
    db = tmp_path / "x.duckdb"
    first = make(db, tiny_gguf, query_file, methods=("zero-shot", "urial", "instruct"))
    assert [(result.status, result.n_new) for result in first] == [("done", 24)] * 3
    before = store.query(db, TEXTS).rows
    second = make(db, tiny_gguf, query_file, methods=("zero-shot", "urial", "instruct"))
    assert [(result.status, result.n_new) for result in second] == [("done", 0)] * 3
    assert store.query(db, TEXTS).rows == before
    assert len(before) == 72
    counts = store.query(db, "select method, error, n from error_rates where n <> 24").rows
    assert counts == []
    assert store.query(db, "select count(*) from progress where done = wanted and status = 'done'").rows == [(3,)]


def test_a_second_run_brings_tags_and_a_corrected_reference(tmp_path: Path, tiny_gguf: Path) -> None:
    db, file = tmp_path / "x.duckdb", tmp_path / "q.csv"
    for reference, tag, n_new in (("a", "", 1), ("b", "new", 0), ("a", "", 0)):
        file.write_text(f"id,instruction,reference,tags\n1,Hi,{reference},{tag}\n")
        assert [result.n_new for result in make(db, tiny_gguf, file)] == [n_new]
        assert store.query(db, "select reference from expectations").rows == [([reference],)]
        written = list(spool.read(store.spool_folder(db)))
        make(db, tiny_gguf, file)
        assert list(spool.read(store.spool_folder(db))) == written
    assert store.query(db, "select tags from raw.queries").rows == [(["new"],)]


def test_a_second_run_brings_the_task_of_a_query_that_has_tags(tmp_path: Path, tiny_gguf: Path) -> None:
    db, file = tmp_path / "x.duckdb", tmp_path / "q.jsonl"
    item = {"id": 1, "instruction": "Hi", "tags": ["old"]}
    for parts in ({}, {"task": ["coding"]}):
        file.write_text(json.dumps({**item, **parts}))
        make(db, tiny_gguf, file)
    assert store.query(db, "select task, tags from raw.queries").rows == [(["coding"], ["old"])]
    written = list(spool.read(store.spool_folder(db)))
    make(db, tiny_gguf, file)
    assert list(spool.read(store.spool_folder(db))) == written


def test_prompts_that_differ_in_the_methods_name_alone_are_decoded_once(
    tmp_path: Path, tiny_gguf: Path, query_file: Path
) -> None:
    db = tmp_path / "x.duckdb"
    made = make(db, tiny_gguf, query_file, methods=("urial", "urial[k=3,seed=1]", "urial[k=1,seed=1..6]"))
    assert [result.n_new for result in made] == [24] * 8
    decoded = [result.stats.n_done for result in made if result.stats]
    assert decoded[:3] == [24, 0, 24]
    texts = "select count(distinct examples), count(distinct (query_key, examples, raw_text, tokens, text))"
    sets, different = store.query(db, f"{texts} from raw.responses join raw.prompts using (prompt_id)").rows[0]
    assert (sum(decoded), different) == (24 * sets, 24 * sets)
    assert 2 < sets < 5
    methods = store.query(db, "select base_method, k, seed from raw.methods order by seed nulls first, k").rows
    assert methods == [("urial", 3, None), ("urial", 1, 1), ("urial", 3, 1), *(("urial", 1, n) for n in range(2, 7))]


def test_notes_on_a_model_are_said_once(tmp_path: Path, tiny_gguf: Path, query_file: Path) -> None:
    query_sets = load_queries(["en"], [str(query_file)], limit=1)
    planned = [
        replace(cell, model=replace(cell.model, notes=("runs without its own template",)))
        for cell in cells.plan_cells([str(tiny_gguf)], ["zero-shot", "instruct"], query_sets)
    ]
    notes: list[str] = []
    run.run_cells(
        tmp_path / "x.duckdb",
        planned,
        decoding=cells.Decoding(max_tokens=1),
        probe=False,
        verify=0,
        on_event=lambda event: notes.append(event.message) if event.kind == "note" else None,
    )
    assert notes == ["runs without its own template"]


def test_the_number_of_parallel_sequences_changes_no_response(
    tmp_path: Path, tiny_gguf: Path, query_file: Path
) -> None:
    texts = []
    for parallel in (1, 3, 8):
        db = tmp_path / f"{parallel}.duckdb"
        make(db, tiny_gguf, query_file, methods=("urial",), parallel=parallel)
        texts.append(store.query(db, TEXTS).rows)
    assert texts[0] == texts[1] == texts[2]


def test_every_response_holds_its_tokens_and_the_one_that_ended_it(
    tmp_path: Path, embedded_model: Path, query_file: Path
) -> None:
    db = tmp_path / "x.duckdb"
    query_sets = load_queries(["en"], [str(query_file)], limit=4)
    planned = cells.plan_cells([str(embedded_model)], ["zero-shot"], query_sets)
    run.run_cells(db, planned, decoding=cells.Decoding(max_tokens=12), probe=False)
    sql = "select finish_reason, new_tokens, tokens, end_token from raw.responses"
    found = store.query(db, sql, unsafe=True).rows
    assert len(found) == 4
    for reason, new_tokens, tokens, end_token in found:
        assert len(tokens) == new_tokens
        assert end_token == ("<|im_end|>" if reason == "eog" else None)
        assert (tokens[-1] == 2) is (reason == "eog")


def test_settings_that_change_the_text_make_new_rows(tmp_path: Path, tiny_gguf: Path, query_file: Path) -> None:
    db = tmp_path / "x.duckdb"
    make(db, tiny_gguf, query_file, max_tokens=4)
    make(db, tiny_gguf, query_file, max_tokens=6)
    found = store.query(db, "select settings_id, count(*) from responses group by all").rows
    assert [n for _, n in found] == [24, 24]


def test_a_cells_seconds_are_its_own_not_those_of_loading_and_probing(
    tmp_path: Path, tiny_gguf: Path, query_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds_of_probing = 1e6
    now, probed = [0.0], engines.setting_for

    def advance() -> float:
        now[0] += 1
        return now[0]

    def slow(*arguments: Any, **more: Any) -> Any:
        now[0] += seconds_of_probing
        return probed(*arguments, **more)

    monkeypatch.setattr(cell_run, "time", Mock(wraps=time, perf_counter=advance))
    monkeypatch.setattr(engines, "setting_for", slow)
    planned = cells.plan_cells([str(tiny_gguf)], ["zero-shot"], load_queries(["en"], [str(query_file)]))
    run.run_cells(tmp_path / "x.duckdb", planned, decoding=cells.Decoding(max_tokens=4))
    (seconds,) = store.query(tmp_path / "x.duckdb", "select wall_seconds from raw.run_cells").rows[0]
    assert 0 < seconds < seconds_of_probing


def test_what_is_not_a_response_is_counted_apart(tmp_path: Path, tiny_gguf: Path) -> None:
    """A prompt beyond the context and an unknown category are said before the run; neither passes for an answer."""
    file, notes = tmp_path / "own.jsonl", []
    items = [
        {"id": 1, "instruction": "short", "category": "unsafe", "task": ["codng"]},
        {"id": 2, "instruction": "far too long " * 2000, "category": "regular"},
    ]
    file.write_text("\n".join(json.dumps(item) for item in items))
    planned = cells.plan_cells([str(tiny_gguf)], ["zero-shot"], load_queries(["en"], [str(file)]))

    def on_event(event: run.Event) -> None:
        notes.extend([event.message] if event.kind == "note" else [])

    done = run.run_cells(
        tmp_path / "x.duckdb", planned, decoding=cells.Decoding(max_tokens=4), probe=False, on_event=on_event
    )
    result = icl_local.RunResult(tmp_path / "x.duckdb", tuple(done))
    assert (result.n_new, result.n_too_long, result.done) == (1, 1, True)
    assert "1 new of 2, 1 too long for the context" in repr(done[0])
    assert notes[0].endswith(
        "own.jsonl:1: task 'codng' is not known (did you mean coding?); only coding asks for code; known: info-seek, "
        "reasoning, procedure, writing, coding, role-play, math"
    )
    assert "own.jsonl:1: category 'unsafe' is not known" in notes[1]
    assert "1 of 2 prompts does not fit the context of" in notes[2]
    assert len(notes) == 3


def test_prompts_that_leave_less_room_than_an_answer_may_take_are_counted_before_the_run() -> None:
    worker = SimpleNamespace(info=SimpleNamespace(n_ctx_train=100), count_tokens=lambda texts: list(map(len, texts)))
    requests = [Request(str(n), "x" * n) for n in (50, 80, 90, 120)]
    said = list[str]()
    assert cell_run._too_long(worker, requests, 20, said.append) == 1
    too_long, tight = said
    assert too_long.startswith("1 of 4 prompts does not fit the context of 100 tokens (longest: 120)")
    assert tight.startswith("1 of 4 prompts leaves less than 20 tokens of the context of 100 (longest: 90)")
    assert cell_run._too_long(worker, requests, 0, said.append) == 1
    assert said == [too_long, tight, too_long]


def test_nothing_is_probed_for_prompts_that_do_not_fit(
    tmp_path: Path, tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = tmp_path / "long.jsonl"
    asked.write_text(json.dumps({"id": 1, "instruction": "far too long " * 2000}))
    monkeypatch.setattr(engines, "setting_for", Mock(side_effect=AssertionError("probed")))
    planned = cells.plan_cells([str(tiny_gguf)], ["zero-shot"], load_queries(["en"], [str(asked)]))
    (made,) = run.run_cells(tmp_path / "x.duckdb", planned, decoding=cells.Decoding(max_tokens=4))
    assert (made.status, made.n_too_long) == ("done", 1)


def icl(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*ICL, *arguments], capture_output=True, text=True, env={**os.environ, **(env or {})})


def acknowledged(db: Path) -> int:
    folder = store.spool_folder(db)
    return sum(record.table == "responses" for record in spool.read(folder)) if folder.is_dir() else 0


def test_a_run_killed_several_times_ends_as_one_never_killed(tmp_path: Path, tiny_gguf: Path, query_file: Path) -> None:
    killed, whole = tmp_path / "killed.duckdb", tmp_path / "whole.duckdb"
    arguments = ["run", "--model", str(tiny_gguf), "--method", "urial", "--queries", str(query_file)]
    arguments += ["--max-tokens", "60", "--parallel", "2", "--no-probe", "--db"]
    between = 0
    for round_number in range(4):
        with acknowledging.start(*arguments, str(killed)) as process:
            acknowledging.wait_for(process, "responses", 2 + round_number)
            process.send_signal(signal.SIGKILL)
        between += 0 < acknowledged(killed) < 24
    assert between >= 3
    for db in (killed, whole):
        assert CliRunner().invoke(cli.icl, [*arguments, str(db)]).exit_code == 0
    rows = store.query(killed, TEXTS).rows
    assert len(rows) == 24
    assert rows == store.query(whole, TEXTS).rows


@pytest.mark.parametrize("sent, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_keeps_everything_and_says_so(
    tmp_path: Path, tiny_gguf: Path, sent: signal.Signals, status: int
) -> None:
    db, asked = tmp_path / "x.duckdb", tmp_path / "many.jsonl"
    asked.write_text("".join(json.dumps({"id": i, "instruction": f"Count to {i}"}) + "\n" for i in range(2000)))
    arguments = ["run", "--model", str(tiny_gguf), "--queries", str(asked), "--max-tokens", "200", "--db", str(db)]
    with acknowledging.start(*arguments, "--parallel", "1", "--no-probe") as process:
        acknowledging.wait_for(process, "responses", 2)
        process.send_signal(sent)
        _, stderr = process.communicate()
    assert process.returncode == status
    assert "same command resumes" in stderr
    kept = acknowledged(db)
    assert store.query(db, "select count(*) from responses").rows == [(kept,)]
    assert store.query(db, "select status from progress").rows == [("interrupted",)]


def test_readers_open_the_database_during_a_run(tmp_path: Path, tiny_gguf: Path, query_file: Path) -> None:
    db = tmp_path / "x.duckdb"
    arguments = [
        "run",
        "--model",
        str(tiny_gguf),
        "--queries",
        str(query_file),
        "--max-tokens",
        "300",
        "--db",
        str(db),
    ]
    seen = []
    with acknowledging.start(*arguments, "--parallel", "2", "--no-probe") as process:
        acknowledging.wait_for(process, "runs", 1)
        while process.poll() is None:
            seen.append(store.query(db, "select count(*) from responses").rows[0][0])
    assert process.returncode == 0
    assert seen == sorted(seen)
    assert len(seen) >= 2
    assert store.query(db, "select count(*) from responses").rows == [(24,)]


def test_a_cell_that_fails_does_not_stop_the_others(
    tmp_path: Path, tiny_gguf: Path, query_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other.gguf"
    shutil.copy(tiny_gguf, other)
    sets = load_queries(["en"], [str(query_file)], limit=3)
    planned = cells.plan_cells([str(tiny_gguf), str(other)], ["zero-shot"], sets)
    broken = planned[0].model.path
    real = engines.Worker

    def worker(path: Path, options: EngineOptions) -> engines.Worker:
        started = real(path, options)
        if path == broken:
            os.kill(started.pid, signal.SIGSEGV)
        return started

    monkeypatch.setattr(engines, "Worker", worker)
    results = run.run_cells(tmp_path / "x.duckdb", planned, decoding=cells.Decoding(max_tokens=4), probe=False)
    assert {result.status for result in results} == {"failed", "done"}
    assert not icl_local.RunResult(tmp_path, tuple(results)).done
    assert "SIGSEGV" in str(next(result.error for result in results if result.status == "failed"))


def test_a_cell_that_fails_before_its_first_response_is_shown_with_the_reason(
    tmp_path: Path, tiny_gguf: Path, query_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    db, sets = tmp_path / "x.duckdb", load_queries(["en"], [str(query_file)], limit=3)
    planned = cells.plan_cells([str(tiny_gguf)], ["zero-shot"], sets)
    decoding = cells.Decoding(max_tokens=4)
    with monkeypatch.context() as patched:
        patched.setattr(engines, "Worker", Mock(side_effect=EngineError("out of memory")))
        run.run_cells(db, planned, decoding=decoding, probe=False)
    shown = "select status, error, done, wanted from progress"
    assert store.query(db, shown).rows == [("failed", "out of memory", 0, 3)]
    assert store.query(db, "from broken_references").rows == []
    run.run_cells(db, planned, decoding=decoding, probe=False, verify=0)
    assert store.query(db, shown).rows == [("done", None, 3, 3)]
    assert store.query(db, "select count(*) from raw.runs where llama_build is not null").rows == [(1,)]


def test_a_run_names_the_responses_that_stay_forgotten(tmp_path: Path, tiny_gguf: Path, query_file: Path) -> None:
    db, sets = tmp_path / "x.duckdb", load_queries(["en"], [str(query_file)], limit=3)
    planned = cells.plan_cells([str(tiny_gguf)], ["zero-shot"], sets)
    how: dict[str, Any] = {"decoding": cells.Decoding(max_tokens=4), "probe": False, "verify": 0}
    run.run_cells(db, planned, **how)
    upkeep.forget(db, [str(store.query(db, "select min(response_id) from responses").rows[0][0])])
    notes: list[str] = []
    (result,) = run.run_cells(db, planned, **how, on_event=lambda event: notes.append(event.message))
    assert (result.n_new, [note for note in notes if note]) == (
        0,
        ["1 response stays forgotten; icl db forget --allow-again lifts this"],
    )


def test_an_expected_error_is_one_line_and_exit_status_1(tmp_path: Path, query_file: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + b"\xff" * 40)
    done = icl("run", "--model", str(broken), "--queries", str(query_file), "--db", str(tmp_path / "x.duckdb"))
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
