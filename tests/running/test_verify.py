"""Verification: what was stored is decoded again one at a time; what differs is found and stays known."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from icl_local import engine, store
from icl_local.cli import icl
from icl_local.detect import ANSWER_RULE
from icl_local.engine import Completion, Worker, exact
from icl_local.exceptions import ConfigError, ModelError
from icl_local.running import cells, engines, load_queries, probe, run, verify
from icl_local.weights import registry
from tests.tiny_model import build_tiny_gguf

EXACTNESS = "select n_verified, n_equal, exact from exactness"


def make(db: Path, model: Path, query_file: Path, *, limit: int = 12, verify: int = 0, **more: Any) -> list[str]:
    """Run a small cell; return its notes, and what it says while it verifies."""
    notes: list[str] = []
    sets = load_queries(["en"], [str(query_file)], limit=limit)
    run.run_cells(
        db,
        cells.plan_cells([str(model)], ["zero-shot"], sets),
        decoding=cells.Decoding(max_tokens=8),
        probe=more.pop("probe", False),
        verify=verify,
        on_event=lambda event: notes.append(event.message) if event.kind in ("note", "verifying") else None,
        **more,
    )
    return notes


def tamper(db: Path, assignment: str, n: int) -> None:
    with store.writer(db, wait_seconds=5) as con:
        con.execute(
            f"update raw.responses set {assignment} "
            f"where response_id in (select response_id from raw.responses order by response_id limit {n})"
        )


def test_an_untouched_run_is_equal_and_states_the_bound(tmp_path: Path, exact_gguf: Path, query_file: Path) -> None:
    db = tmp_path / "x.duckdb"
    make(db, exact_gguf, query_file)
    done = CliRunner().invoke(icl, ["verify", str(db), "--sample", "9", "--weights", str(exact_gguf)])
    assert done.exit_code == 0, done.output
    assert "9 of 9 equal, drawn from 12: fewer than 40.05 % differ, with 99 % confidence" in done.output
    assert store.query(db, EXACTNESS).rows == [(9, 9, True)]
    again = CliRunner().invoke(icl, ["verify", str(db), "--sample", "9", "--format", "json"])
    assert json.loads(again.stdout) == []
    assert store.query(db, "select count(*) from broken_references").rows == [(0,)]


@pytest.mark.parametrize("method", ["zero-shot", "instruct"])
def test_plain_queries_are_decoded_and_verified_as_text(tmp_path: Path, exact_gguf: Path, method: str) -> None:
    queries = tmp_path / "q.jsonl"
    queries.write_text('{"id": 1, "instruction": "say <|im_end|> now"}\n{"id": 2, "instruction": "say it now"}\n')
    db = tmp_path / "x.duckdb"
    planned = cells.plan_cells([str(exact_gguf)], [method], load_queries(["en"], [str(queries)]))
    for plain in (False, True):
        run.run_cells(db, planned, decoding=cells.Decoding(8, plain_queries=plain), probe=False, verify=0)
    columns = "query_id, plain_queries, prompt_tokens"
    counts = store.query(db, f"select {columns} from responses join raw.settings using (settings_id) order by all").rows
    assert [row[:2] for row in counts] == [("1", True), ("1", None), ("2", True), ("2", None)]
    assert counts[0][2] > counts[1][2]
    assert counts[2][2] == counts[3][2]
    done = CliRunner().invoke(icl, ["verify", str(db), "--sample", "4", "--weights", str(exact_gguf)])
    assert "4 of 4 equal" in done.output, done.output


def test_a_query_that_the_template_changed_is_found_where_it_stands(tmp_path: Path) -> None:
    model, queries, db = tmp_path / "m.gguf", tmp_path / "q.jsonl", tmp_path / "x.duckdb"
    turn = "<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>"
    build_tiny_gguf(
        model, chat_template=f"{{% for m in messages %}}{turn}{{% endfor %}}<|im_start|>assistant", n_layers=1
    )
    queries.write_text('{"id": 1, "instruction": " assistant "}\n{"id": 2, "instruction": "say it"}\n')
    planned = cells.plan_cells([str(model)], ["instruct"], load_queries(["en"], [str(queries)]))
    run.run_cells(db, planned, decoding=cells.Decoding(2, plain_queries=True), probe=False, verify=0)
    ids = sorted(store.ids(db, "responses", "response_id"))
    for row in store.named(db, "responses_to_decode", [ids, ANSWER_RULE]).records():
        prompt, plain = verify.stored_prompt(row)
        assert plain is not None
        assert (prompt[: plain[0]], prompt[slice(*plain)]) == ("<|im_start|>user\n", row["instruction"].strip())


def test_459_equal_responses_bound_the_rest_below_one_percent() -> None:
    rows = tuple({"equal": True} for _ in range(459))
    below = verify.VerifyResult(rows, 1000).differing_below
    assert below is not None
    assert 0.0099 < below < 0.01
    assert verify.VerifyResult(({"equal": False}, *rows), 1000).differing_below is None


def test_three_tampered_rows_are_drawn_as_often_as_chance_says() -> None:
    ids, tampered, n = [f"{i:03}" for i in range(60)], {"007", "021", "059"}, 20
    caught = sum(bool(tampered & set(verify.draw(ids, n, seed=seed))) for seed in range(200))
    expected = 1 - math.comb(57, n) / math.comb(60, n)
    assert abs(caught / 200 - expected) < 4 * math.sqrt(expected * (1 - expected) / 200)
    assert verify.draw(ids, n, seed=1) == verify.draw(list(reversed(ids)), n, seed=1)


@pytest.mark.parametrize(
    ("assignment", "position"),
    [
        ("tokens = list_concat(tokens[:2], [7], tokens[4:])", 2),
        ("raw_text = raw_text || ' more'", None),
        ("text = 'A better answer.'", None),
    ],
)
def test_tampered_rows_are_found_with_position_and_both_texts(
    tmp_path: Path, exact_gguf: Path, query_file: Path, assignment: str, position: int | None
) -> None:
    db = tmp_path / "x.duckdb"
    make(db, exact_gguf, query_file)
    tamper(db, assignment, 3)
    found = verify.verify_responses(db, weights=[exact_gguf])
    assert (len(found.rows), found.n_equal, found.differing_below) == (12, 9, None)
    assert [row["position"] for row in found.differences()] == [position] * 3
    assert all(row["stored_text"] is not None and row["decoded_text"] is not None for row in found.differences())
    assert [group[2:] for group in found.by_machine()] == [(12, 9)]
    assert store.query(db, "select distinct exact from responses").rows == [(False,)]


def test_responses_without_tokens_are_counted_apart(tmp_path: Path, exact_gguf: Path, query_file: Path) -> None:
    db = tmp_path / "x.duckdb"
    make(db, exact_gguf, query_file)
    tamper(db, "tokens = null", 5)
    found = verify.verify_responses(db, weights=[exact_gguf])
    assert (found.n_responses, found.n_equal, found.excluded) == (7, 7, {"stored without tokens": 5})


def test_a_file_that_is_not_here_is_named_with_its_hash(tmp_path: Path, edit: Any, query_file: Path) -> None:
    db, model = tmp_path / "x.duckdb", edit((0, b""))
    make(db, model, query_file, limit=2)
    (sha256,) = store.query(db, "select distinct gguf_sha256 from responses").rows[0]
    model.unlink()
    with pytest.raises(ModelError, match=f"edited.gguf .SHA-256 {sha256}.; give it with --weights FILE"):
        verify.verify_responses(db)
    with pytest.raises(ConfigError, match="--sample"):
        verify.verify_responses(db, sample=0)


def test_what_this_machine_has_verified_is_not_decoded_again(
    tmp_path: Path, exact_gguf: Path, query_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    db, decoded = tmp_path / "x.duckdb", list[str]()
    make(db, exact_gguf, query_file)

    class Killed(Exception):
        pass

    def stop_after_four(done: int, total: int) -> None:
        if done == 4:
            raise Killed

    with pytest.raises(Killed):
        verify.verify_responses(db, weights=[exact_gguf], on_progress=stop_after_four)
    plain = verify.compare

    def compare(stored: verify.Stored, completion: Completion) -> dict[str, Any]:
        decoded.append(stored.request.id)
        return plain(stored, completion)

    monkeypatch.setattr(verify, "compare", compare)
    assert verify.verify_responses(db, weights=[exact_gguf]).n_equal == 12
    assert len(decoded) == 8
    monkeypatch.setattr(verify, "_machine_id", lambda: "another machine")  # whose evidence is not this one's
    verify.verify_responses(db, weights=[exact_gguf], sample=5)
    assert len(decoded) == 13


def test_a_run_verifies_the_longest_and_others(tmp_path: Path, exact_gguf: Path, query_file: Path) -> None:
    db = tmp_path / "x.duckdb"
    assert make(db, exact_gguf, query_file, verify=3) == [f"verify {n}/3" for n in range(4)]
    assert store.query(db, EXACTNESS).rows == [(3, 3, True)]
    longest = "select max(new_tokens) from responses"
    assert store.query(db, "select max(n_tokens) from verifications").rows == store.query(db, longest).rows


def test_the_longest_is_picked_and_the_others_at_random() -> None:
    lengths = {str(i): i for i in range(40)}
    counts = dict.fromkeys(lengths, 0)
    for seed in range(300):
        first, *others = verify.pick(lengths, 3, seed=str(seed))
        assert first == "39"
        assert len({first, *others}) == 3
        for one in others:
            counts[one] += 1
    assert all(3 <= counts[str(i)] <= 35 for i in range(39))  # 600 draws over 39: 15 each
    assert verify.pick(lengths, 0, seed="x") == []


class OtherInBatches(Worker):
    """A worker whose batches end every answer with another token than the answer has alone."""

    def generate(self, requests: Sequence[engine.Request], **settings: Any) -> Iterator[Completion]:
        for made in super().generate(requests, **settings):
            alone = settings.get("parallel") == 1
            yield made if alone else replace(made, tokens=(*made.tokens[:-1], made.tokens[-1] ^ 1))


def run_as_exact(
    db: Path, model: Path, query_file: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[run.CellResult, list[str]]:
    """Run six queries with one unified KV buffer that a probe is said to have found exact; return result and notes."""
    claimed = probe.Setting({**probe.UNIFIED, "parallel": 6}, True)
    monkeypatch.setattr(engines, "setting_for", lambda *_, **__: claimed)
    notes: list[str] = []
    (result,) = run.run_cells(
        db,
        cells.plan_cells([str(model)], ["zero-shot"], load_queries(["en"], [str(query_file)], limit=6)),
        decoding=cells.Decoding(max_tokens=24),
        on_event=lambda event: notes.append(event.message) if event.kind in ("note", "verifying") else None,
    )
    assert result.n_verified == 3
    assert store.query(db, "select distinct exact from raw.responses", unsafe=True).rows == [(True,)]
    return result, notes


def assert_known_as_not_exact(db: Path, result: run.CellResult, notes: list[str]) -> None:
    notes = [note for note in notes if not note.startswith("verif")]
    assert [f"{result.n_differing} of 3 responses of" in note and "exact is false" in note for note in notes] == [True]
    assert store.query(db, "select distinct exact from responses").rows == [(False,)]
    assert store.query(db, "select exact from exactness").rows == [(False,)]


def test_batches_that_differ_are_caught_by_the_default_of_three(
    tmp_path: Path, tiny_gguf: Path, query_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = tmp_path / "x.duckdb"
    monkeypatch.setattr(engines, "Worker", OtherInBatches)
    result, notes = run_as_exact(db, tiny_gguf, query_file, monkeypatch)
    assert result.n_differing == 3
    assert_known_as_not_exact(db, result, notes)
    last = "select distinct position = n_tokens - 1 from verifications"
    assert store.query(db, last).rows == [(True,)]


@pytest.mark.soak
def test_one_unified_buffer_is_caught_by_the_default_of_three(
    tmp_path: Path, embedded_model: Path, query_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = tmp_path / "x.duckdb"
    result, notes = run_as_exact(db, embedded_model, query_file, monkeypatch)
    if not result.n_differing:
        assert notes == []
        pytest.skip("with the kernels of this machine one unified KV buffer changes none of these tokens")
    assert_known_as_not_exact(db, result, notes)


class Agreeing:
    """A worker whose batches never differ."""

    def __init__(self, info: Any) -> None:
        self.info, self.stats, self.calls = info, engine.Stats(n_done=1, new_tokens=9, decode_seconds=1.0), 0

    def generate(self, requests: Sequence[engine.Request], **settings: Any) -> Any:
        self.calls += 1
        for request in requests:
            yield Completion(request.id, "", "length", 1, 1, tokens=(1,), digests=("same",))

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(text) // 4 for text in texts]


def test_a_difference_beats_any_probe_and_is_known_to_other_databases(tmp_path: Path, exact_gguf: Path) -> None:
    model = registry.resolve(str(exact_gguf), method_kind="completion")
    with Worker(exact_gguf) as real:
        worker: Any = Agreeing(real.info)

    def setting(name: str, **more: Any) -> probe.Setting:
        with store.Store(tmp_path / name) as writer:
            return probe.setting_for(writer, model, worker, **more)

    first = setting("a.duckdb")
    probed = worker.calls
    assert first.exact
    assert setting("b.duckdb") == first  # kept for the machine
    assert worker.calls == probed
    longer = setting("b.duckdb", prompt_characters=4_000)
    assert worker.calls > probed  # a probe with short prompts says nothing about long ones
    assert longer.exact
    probed = worker.calls
    assert setting("c.duckdb", prompt_characters=4_000, parallel=64).exact
    assert worker.calls > probed  # nor does a small batch about a large one
    with store.Store(tmp_path / "a.duckdb") as writer:
        probe.refute(writer, model, worker, {**first.overrides}, 5)
    other = setting("d.duckdb")
    assert other.exact
    assert {name: other.overrides[name] for name in exact.SETTINGS} != {
        name: first.overrides[name] for name in exact.SETTINGS
    }
    assert store.query(tmp_path / "d.duckdb", "select count(*) from probes").rows == [(1,)]


def test_iq_types_start_with_eight_rows() -> None:
    assert {one["min_rows"] for one in exact.candidates("IQ4_NL")} == {8}
    assert exact.candidates("Q4_K_M")[0] == {"kv_unified": False, "flash_attn": False, "min_rows": 2, "repack": False}
