"""The Batch API end to end: submitted once, collected by another process's call, parts kept, the rest missing again."""

from __future__ import annotations

import datetime
import json
import os
from collections import Counter
from pathlib import Path

import pytest

from icl_local import store
from icl_local.exceptions import ApiError
from icl_local.judging import batch
from icl_local.judging.judges import ApiJudge
from icl_local.judging.ledger import Scope
from icl_local.judging.template import Templates
from icl_local.openai_client import ApiClient
from icl_local.openai_client.prices import Budget, Price
from tests.faulty_server import FaultyServer, score_of
from tests.judge_rows import database, response_rows

PRICE = Price(10.0, 30.0, model="faulty-1", batch_factor=0.5, as_of=datetime.date(2026, 11, 1))


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("OPENAI_")]:
        monkeypatch.delenv(name)


def judge(server: FaultyServer, **more) -> ApiJudge:
    options = {"api_key": "sk-0123456789", "backoff": 0.01, "max_attempts": 2, "price": PRICE, **more}
    return ApiJudge(ApiClient("faulty-1", base_url=server.url, **options))


def submit(path: Path, server: FaultyServer, **more):
    return batch.submit(path, judge(server, **more), Scope(Templates()))


def statuses(path: Path) -> dict[str, int]:
    return dict(store.query(path, "select status, sum(n_judgments)::int from judge_ledger group by 1").rows)


def test_a_batch_goes_out_and_comes_back_through_separate_calls(tmp_path):
    path = database(tmp_path / "t.duckdb", response_rows(12), response_rows(4, split="safety"))
    with FaultyServer(batch_polls=1) as server:
        sent = submit(path, server)
        assert (sent.requested, sent.in_batches) == (16, 15)
        first = batch.collect(path, judge(server))
        assert [state for _, state, _, _ in first.running] == ["in_progress"]
        second = batch.collect(path, judge(server))
        assert (second.statuses, second.running) == ({"ok": 15}, ())
        assert batch.collect(path, judge(server)).statuses == {}
    assert statuses(path) == {"ok": 16}
    rows = store.query(
        path, "select split, instruction, text, metric, score from scores join responses using (response_id)"
    )
    for split, instruction, text, metric, score in rows.rows:
        assert score == score_of(Templates().get(split=split, language="en").fill(instruction, text), metric)


@pytest.mark.parametrize("takes, temperature", [("ok", {"temperature": 0.0}), ("no_temperature", {})])
def test_a_judgment_of_a_batch_records_what_was_sent(tmp_path, takes, temperature):
    path = database(tmp_path / "t.duckdb", response_rows(3))
    with FaultyServer(mix={takes: 1}, batch_polls=0) as server:
        submit(path, server)
        assert batch.collect(path, judge(server)).statuses == {"ok": 2}
    rows = store.query(path, "select parameters from raw.judgments").rows
    assert [json.loads(sent) for (sent,) in rows] == [{"max_tokens": 1024, **temperature}] * 3


def test_what_a_batch_has_is_not_asked_for_again(tmp_path):
    path = database(tmp_path / "t.duckdb", response_rows(5))
    with FaultyServer() as server:
        submit(path, server)
        again = submit(path, server)
        assert (again.requested, again.in_batches) == (0, 4)
        assert len(server.batches) == 1


def test_an_expired_batch_gives_its_part_and_the_rest_is_missing_again(tmp_path):
    path = database(tmp_path / "t.duckdb", response_rows(7))
    script = ["ok", "ok", "skip", "ok", "500", "400", "garbage"]
    with FaultyServer(script=script, batch_polls=0, batch_end="expired") as server:
        submit(path, server)
        batch.collect(path, judge(server))
        assert statuses(path) == {"ok": 3, "http_error": 2, "rejected": 1, "parse_error": 1}
        assert submit(path, server).in_batches == 1  # the other of the two is judged at once
    errors = store.query(path, "select error from judgments where status = 'http_error'").rows
    assert any("expired" in error for (error,) in errors)


def test_a_batch_costs_its_share_of_the_price(tmp_path):
    path = database(tmp_path / "t.duckdb", response_rows(2))
    with FaultyServer(batch_polls=0) as server:
        submit(path, server)
        batch.collect(path, judge(server))
    rows = store.query(path, "select batch_id, cost_usd, prompt_tokens, completion_tokens from judgments").rows
    for batch_id, cost, prompt_tokens, completion_tokens in rows:
        full = PRICE.usd(prompt_tokens, completion_tokens)
        assert cost == pytest.approx(full / 2 if batch_id else full)


def test_a_submission_whose_batch_was_created_unheard_is_found_again(tmp_path, monkeypatch):
    path = database(tmp_path / "t.duckdb", response_rows(4))
    with FaultyServer(batch_polls=0) as server:
        with monkeypatch.context() as patch:
            patch.setattr(batch, "_event", lambda *args, **named: _only_prepared(*args, **named))
            with pytest.raises(KeyboardInterrupt):
                submit(path, server)
        assert len(server.batches) == 1
        again = submit(path, server)
        assert (again.requested, len(server.batches)) == (0, 1)
        assert batch.collect(path, judge(server)).statuses == {"ok": 3}


EVENT = batch._event


def _only_prepared(submission, event, *args, **named):
    if event == "created":  # as if the process had been killed here
        raise KeyboardInterrupt
    return EVENT(submission, event, *args, **named)


def test_a_submission_that_never_reached_the_server_is_given_up(tmp_path, monkeypatch):
    path = database(tmp_path / "t.duckdb", response_rows(4))
    with FaultyServer(batch_polls=0) as server:
        with monkeypatch.context() as patch:
            patch.setattr(batch, "_line", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                submit(path, server)
        assert server.batches == {}
        assert submit(path, server).in_batches == 2
        assert len(server.batches) == 1


def test_the_cost_limit_bounds_what_is_handed_over(tmp_path):
    path = database(tmp_path / "t.duckdb", response_rows(40))
    with FaultyServer(batch_polls=0) as server:
        sent = submit(path, server, budget=Budget(0.3))
        assert 3 <= sent.in_batches < 39
        batch.collect(path, judge(server))
    assert store.query(path, "select sum(cost_usd) from judgments").rows[0][0] <= 0.3


def test_large_submissions_are_split(tmp_path, monkeypatch):
    monkeypatch.setattr(batch, "MAX_REQUESTS", 3)
    path = database(tmp_path / "t.duckdb", response_rows(9))
    with FaultyServer(batch_polls=0) as server:
        submit(path, server)
        assert [len(server.files[one["input"]].splitlines()) for one in server.batches.values()] == [3, 3, 2]
        looks = []
        batch.collect(path, judge(server), wait=True, poll_seconds=0, on_look=looks.append)
    assert sum((look.statuses for look in looks), Counter()) == {"ok": 8}


def test_a_server_without_an_answer_gets_no_batch(tmp_path):
    path = database(tmp_path / "t.duckdb", response_rows(3))
    with FaultyServer(mix={"500": 1}) as server:
        with pytest.raises(ApiError, match=rf"nothing was submitted to {server.url}: no judgment was made: .*500"):
            submit(path, server)
        assert server.batches == {}


def test_a_refused_upload_is_reported(tmp_path):
    path = database(tmp_path / "t.duckdb", response_rows(3))
    with FaultyServer() as server:
        server._batch_api = lambda *args: (403, b'{"error": {"message": "no batches for this key", "code": null}}')
        with pytest.raises(ApiError, match="no batches"):
            submit(path, server)
