"""API judges against a server that misbehaves: every judgment ends in a score or a status, none is made twice."""

from __future__ import annotations

import datetime
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest
from openai.types.chat import ChatCompletion

from icl_local import store
from icl_local.exceptions import ApiError, JudgeError
from icl_local.judging.judges import ApiJudge
from icl_local.judging.ledger import JudgeProgress, Scope, judge_missing
from icl_local.judging.template import Templates
from icl_local.openai_client import ApiClient, ApiReply, ApiRequest
from icl_local.openai_client.prices import Budget, Price
from icl_local.openai_client.schedule import AdaptiveLimit, Schedule
from tests.faulty_server import FaultyServer, completion, score_of
from tests.judge_rows import database, response_rows

KEY = "sk-test-0123456789abcdef"
FAULTS = {
    "ok": 10, "fenced": 1, "garbage": 0.5, "truncated": 0.5, "refusal": 0.5, "429": 1, "500": 1, "503": 0.5, "reset": 1,
    "html200": 0.5, "html502": 0.5, "broken_json": 0.5, "cut_body": 0.5, "empty_choices": 0.5, "null_choices": 0.5,
    "null_content": 0.5, "error200": 0.5, "400": 0.3, "400_policy": 0.3,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("OPENAI_")]:
        monkeypatch.delenv(name)


def client(server: FaultyServer, **changes) -> ApiClient:
    return ApiClient("faulty-1", **{"base_url": server.url, "api_key": KEY, "backoff": 0.01, **changes})


def judge_all(path: Path, server: FaultyServer, **changes) -> JudgeProgress:
    return judge_missing(path, ApiJudge(client(server, **changes)), Scope(Templates()))


def ask(server: FaultyServer, n: int = 3, **changes) -> list[ApiReply]:
    return [reply for ready in client(server, **changes).run(questions(n)) for reply in ready]


def questions(n: int) -> list[ApiRequest]:
    return [ApiRequest(str(i), ({"role": "user", "content": f"question {i}"},)) for i in range(n)]


def test_the_server_speaks_openai_s_schema():
    reply = ChatCompletion.model_validate(completion("text"), strict=True)
    assert reply.choices[0].message.content == "text"


def test_scores_are_the_ones_the_server_gave(tmp_path):
    path = database(tmp_path / "t.duckdb", response_rows(6), response_rows(4, language="es"))
    with FaultyServer() as server:
        progress = judge_all(path, server)
    assert progress.statuses == {"ok": 10}
    rows = store.query(
        path, "select language, instruction, text, metric, score from scores join responses using (response_id)"
    )
    assert len(rows.rows) == 6 * 5 + 4 * 6
    for language, instruction, text, metric, score in rows.rows:
        aspect = {"language": "language_consistency"}.get(metric, metric)
        prompt = Templates().get(split="multi", language=language).fill(instruction, text)
        assert score == score_of(prompt, aspect)


def test_usage_model_and_fingerprint_are_kept(tmp_path):
    path = database(tmp_path / "t.duckdb", response_rows(1))
    price = Price(2.0, 8.0, model="faulty-1", batch_factor=0.5, as_of=datetime.date(2026, 11, 1))
    with FaultyServer() as server:
        judge_all(path, server, price=price)
    row = store.query(
        path,
        "select response_model, system_fingerprint, structured, prompt_tokens, completion_tokens, cost_usd "
        "from judgments",
    ).rows[0]
    assert row[:3] == ("faulty-1-2026-11-01", "fp_test", "json_schema")
    assert row[5] == pytest.approx((row[3] * 2.0 + row[4] * 8.0) / 1e6)


def test_every_judgment_ends_in_a_score_or_a_status(tmp_path):
    path = database(tmp_path / "t.duckdb", response_rows(100))
    with FaultyServer(mix=FAULTS, seed=3) as server:
        for _ in range(2):
            judge_all(path, server, concurrency=16)
        check_ended(path, server, 100)


def check_ended(path: Path, server: FaultyServer, n: int) -> None:
    """``n`` judgments, each answered by the server at most once, each score the server's own."""
    final = store.query(path, "select status, n_judgments from judge_ledger").rows
    assert sum(count for _, count in final) == n
    statuses = Counter()
    for status, count in final:
        statuses[status] += count
    assert set(statuses) <= {"ok", "repaired", "parse_error", "truncated", "refused", "rejected", "http_error"}
    assert statuses["ok"] > n / 3
    assert max(server.answered.values()) == 1
    scored = store.query(
        path, "select instruction, text, metric, score, status from scores join responses using (response_id)"
    ).rows
    for instruction, text, metric, score, status in scored:
        prompt = Templates().get(split="multi", language="en").fill(instruction, text)
        assert score == (score_of(prompt, metric) if status in ("ok", "repaired") else None)
    attempts = store.query(path, "select count(*) from judgments").rows[0][0]
    assert attempts == sum(server.actions.values())


def test_terminal_verdicts_are_not_asked_for_again(tmp_path):
    path = database(tmp_path / "t.duckdb", response_rows(6))
    with FaultyServer(script=["ok", "garbage", "refusal", "truncated", "400", "filtered"]) as server:
        first = judge_all(path, server, concurrency=1)
        again = judge_all(path, server)
        assert sum(server.actions.values()) == 6
    assert first.statuses == {"ok": 1, "parse_error": 1, "refused": 2, "truncated": 1, "rejected": 1}
    assert (again.requested, again.before) == (0, first.statuses)


@pytest.mark.parametrize(
    "fault, http_status, error",
    [
        ("html200", 200, "answered 200 without a completion: <html><body><h1>Welcome</h1>"),
        ("string200", 200, "answered 200 without a completion: busy, last verdict: "),
        ("error200", 200, "answered 200 without a completion: {'message': 'upstream failed, last verdict: "),
        ("empty_choices", 200, "answered 200 without a completion"),
        ("null_choices", 200, "answered 200 without a completion"),
        ("null_content", 200, "answered 200 with no text"),
        ("broken_json", None, "answered with JSON that cannot be read ("),
        ("html502", 502, "Error code: 502"),
        ("500", 500, "Error code: 500"),
    ],
)
def test_an_error_that_holds_a_verdict_never_becomes_a_score(tmp_path, fault, http_status, error):
    path = database(tmp_path / "t.duckdb", response_rows(2))
    with FaultyServer(mix={fault: 1}) as server, pytest.raises(ApiError, match="no judgment was made: "):
        judge_all(path, server, max_attempts=2)
    rows = store.query(path, "select status, http_status, error from judgments").rows
    assert {row[:2] for row in rows} == {("http_error", http_status)}
    assert all(found.startswith(error) for _, _, found in rows), rows
    assert store.query(path, "select * from scores").rows == []


def test_a_transient_failure_is_tried_again_in_the_run_and_each_attempt_is_a_row(tmp_path):
    path = database(tmp_path / "t.duckdb", response_rows(1))
    with FaultyServer(script=["500", "reset", "429"]) as server:
        judge_all(path, server)
    rows = store.query(path, "select attempt, status, http_status from judgments order by attempt").rows
    assert rows == [(1, "http_error", 500), (2, "http_error", None), (3, "http_error", 429), (4, "ok", 200)]


def test_a_judgment_that_failed_in_one_run_is_tried_in_the_next(tmp_path):
    path = database(tmp_path / "t.duckdb", response_rows(1))
    with FaultyServer(script=["500"]) as server:
        with pytest.raises(ApiError, match=r"no judgment was made: .*500"):
            judge_all(path, server, max_attempts=1)
        assert judge_all(path, server).missing == 0
    assert store.query(path, "select attempt, status from judgments order by 1").rows == [(1, "http_error"), (2, "ok")]


@pytest.fixture
def pauses(monkeypatch):
    """For each wait that a server asked for: its seconds, and those from its reply to the next request."""
    found, replied = [], []
    begin, finish = Schedule.next, Schedule.finished

    def next_(self, now):
        job = begin(self, now)
        while job is not None and replied:
            wait, moment = replied.pop()
            found.append((wait, now - moment))
        return job

    def finished(self, job, result, now):
        if result.wait_seconds is not None:
            replied.append((result.wait_seconds, now))
        return finish(self, job, result, now)

    monkeypatch.setattr(Schedule, "next", next_)
    monkeypatch.setattr(Schedule, "finished", finished)
    return found


def test_retry_after_is_respected(pauses):
    with FaultyServer(script=["ok", "429"], retry_after=0.1) as server:
        replies = ask(server, 2, concurrency=1)
    assert [reply.outcome for reply in replies] == ["reply", "failed", "reply"]
    ((wait, waited),) = pauses
    assert waited >= wait == 0.1


def test_a_used_up_limit_pauses_until_its_reset(pauses):
    with FaultyServer(script=["used_up"]) as server:
        ask(server, 2)
    ((wait, waited),) = pauses
    assert waited >= wait > 0


@pytest.mark.parametrize(
    "fault, message",
    [("quota", "add credit"), ("401", "OPENAI_API_KEY"), ("404", "check model"), ("429_long", "wait 3600 s")],
)
def test_a_server_that_cannot_continue_stops_the_run_with_one_line(fault, message):
    with FaultyServer(script=[fault]) as server:
        with pytest.raises(ApiError, match=message) as error:
            ask(server, 20)
        assert server.actions == {fault: 1}
    assert "\n" not in str(error.value)


def test_a_request_refused_before_anything_was_answered_is_tried_once_more():
    with FaultyServer(script=["400", "ok", "400"]) as server:
        replies = ask(server, 2, backoff=1.0)
    assert [(reply.id, reply.outcome) for reply in replies] == [("0", "failed"), ("1", "reply"), ("0", "rejected")]


def test_a_server_that_refuses_everything_stops_the_run_and_no_judgment_is_given_up(tmp_path):
    path = database(tmp_path / "t.duckdb", response_rows(20))
    with FaultyServer(mix={"400": 1}) as server, pytest.raises(ApiError, match="maximum context length"):
        judge_all(path, server)
    assert store.query(path, "select distinct status from judgments").rows == [("http_error",)]
    assert sum(server.actions.values()) < 10


def test_quota_in_the_middle_keeps_what_was_made(tmp_path):
    path = database(tmp_path / "t.duckdb", response_rows(6))
    with FaultyServer(script=["ok", "ok", "ok", "quota"]) as server:
        with pytest.raises(ApiError):
            judge_all(path, server, concurrency=1)
        assert dict(store.query(path, "select status, count(*) from judgments group by 1").rows) == {
            "ok": 3,
            "quota": 1,
        }
        assert judge_all(path, server).statuses == {"ok": 3}


def test_an_absent_server_is_reported(tmp_path):
    with FaultyServer() as server:
        gone = client(server, max_attempts=2)
    with pytest.raises(ApiError, match=r"no answer from http://127\.0\.0\.1"):
        list(gone.run([ApiRequest(str(i), ({"role": "user", "content": "q"},)) for i in range(5)]))


@pytest.mark.parametrize(
    "url, message",
    [
        (None, "OPENAI_API_KEY is not set"),
        ("http://[::1", "is not a URL"),
        ("http://host:port/v1", "is not a URL"),
        ("localhost:8080", "must be a plain URL"),
    ],
)
def test_an_unusable_key_or_url_is_reported(url, message):
    with pytest.raises(ApiError, match=message):
        ApiClient("gpt-6-luna", base_url=url)


@pytest.mark.parametrize(
    "refused, structured",
    [({}, "json_schema"), ({"no_schema": 1}, "json_object"), ({"no_json_object": 1}, "text")],
)
def test_the_best_structured_output_the_server_takes_is_used(tmp_path, refused, structured):
    path = database(tmp_path / "t.duckdb", response_rows(3))
    with FaultyServer(mix={"ok": 1, **refused}) as server:
        judge_all(path, server)
    assert store.query(path, "select distinct structured, status from judgments").rows == [(structured, "ok")]


def test_parameters_a_server_refuses_are_left_out_and_that_is_recorded(tmp_path):
    path = database(tmp_path / "t.duckdb", response_rows(3))
    with FaultyServer(mix={"ok": 1, "no_max_tokens": 1, "no_temperature": 1}) as server:
        judge_all(path, server)
        assert sum(server.actions.values()) == 3 + 2
    rows = store.query(path, "select distinct parameters::varchar from raw.judgments").rows
    assert [json.loads(row[0]) for row in rows] == [{"max_completion_tokens": 1024}]


def test_a_key_appears_nowhere(tmp_path, caplog):
    path = database(tmp_path / "t.duckdb", response_rows(3))
    caplog.set_level(logging.DEBUG)
    messages = []
    with FaultyServer(script=["echo_key", "echo_key", "401"]) as server:
        url = server.url.replace("://", "://user:pass-word-1@")
        judge = ApiJudge(client(server, base_url=url))
        with pytest.raises(ApiError) as error:
            judge_missing(path, judge, Scope(Templates()))
        messages.append(str(error.value))
        judge_missing(path, judge, Scope(Templates()))
    everything = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    everything += (caplog.text + "".join(messages)).encode()
    assert b"headers were" in everything
    for secret in (KEY, "pass-word-1", "0123456789abcdef"):
        assert secret.encode() not in everything


def test_the_cost_limit_is_never_passed(tmp_path):
    path = database(tmp_path / "t.duckdb", response_rows(60))
    price = Price(10.0, 30.0, model="faulty-1", batch_factor=0.5, as_of=datetime.date(2026, 11, 1))
    limit = 0.5
    with FaultyServer() as server, pytest.raises(ApiError, match="cost limit"):
        judge_all(path, server, price=price, budget=Budget(limit))
    spent, n = store.query(path, "select sum(cost_usd), count(*) from judgments").rows[0]
    assert n > 5
    assert limit / 2 < spent <= limit


def test_a_second_process_with_the_same_judge_is_held_off(tmp_path):
    path = database(tmp_path / "t.duckdb", response_rows(30))
    with FaultyServer(latency=0.05) as server:
        first = threading.Thread(target=judge_all, args=(path, server), kwargs={"concurrency": 1})
        first.start()
        server.wait_for(1)
        with pytest.raises(JudgeError, match="another process judges"):
            judge_all(path, server)
        first.join()
        assert max(server.answered.values()) == 1


def test_two_judges_score_the_same_responses_side_by_side(tmp_path):
    path = database(tmp_path / "t.duckdb", response_rows(3))
    with FaultyServer() as server:
        for model in ("one", "two"):
            api = ApiClient(model, base_url=server.url, api_key=KEY)
            judge_missing(path, ApiJudge(api), Scope(Templates(), repeats=2))
    found = store.query(path, "select judge, repeat, count(*) from scores group by all order by all").rows
    assert found == [("openai:one", 0, 15), ("openai:one", 1, 15), ("openai:two", 0, 15), ("openai:two", 1, 15)]


def test_raw_completions_go_through_the_same_client():
    with FaultyServer() as server:
        requests = [ApiRequest("a", prompt="Once upon a time", stops=("\n",))]
        replies = [reply for ready in client(server).run(requests) for reply in ready]
        assert "prompt" in server.bodies[0]
        assert server.bodies[0]["stop"] == ["\n"]
    assert [reply.text for reply in replies] == ["Once upon a time"]


def test_concurrency_grows_until_the_server_pushes_back():
    limit = AdaptiveLimit(4, 64)
    for _ in range(20):
        limit.succeeded()
    assert limit.value == 24
    limit.pushed_back(now=10.0)
    limit.pushed_back(now=10.5)
    assert limit.value == 12
    for _ in range(12):
        limit.succeeded()
    assert limit.value == 13


JUDGE_IN_A_PROCESS = """
import sys
from pathlib import Path
from icl_local.judging.judges import ApiJudge
from icl_local.judging.ledger import Scope, judge_missing
from icl_local.judging.template import Templates
from icl_local.openai_client import ApiClient

api = ApiClient("faulty-1", base_url=sys.argv[2], backoff=0.01, concurrency=int(sys.argv[3]))
print(judge_missing(Path(sys.argv[1]), ApiJudge(api), Scope(Templates())).missing)
"""


def kill_and_resume(path: Path, server: FaultyServer, *, n: int, kills: int) -> None:
    """Judge in a process that is killed ``kills`` times in the middle, then to the end in this one."""
    command = [sys.executable, "-c", JUDGE_IN_A_PROCESS, str(path), server.url, "16"]
    environment = {**os.environ, "OPENAI_API_KEY": KEY}
    for kill in range(kills):
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        try:
            server.wait_for(n * (kill + 1) // (kills + 1))
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
    for _ in range(3):
        judge_all(path, server, concurrency=16)


def acknowledged_once(path: Path, n: int) -> None:
    """Each judgment that ended for good did so in exactly one attempt."""
    ended, judgments = store.query(
        path, "select count(*), count(distinct judgment_id) from judgments where not transient"
    ).rows[0]
    assert ended == judgments
    assert store.query(path, "select count(distinct judgment_id) from judgments").rows[0][0] == n


def test_a_killed_run_resumes_and_makes_no_acknowledged_judgment_twice(tmp_path):
    path = database(tmp_path / "t.duckdb", response_rows(60))
    with FaultyServer(mix={"ok": 9, "500": 1, "reset": 0.5}, latency=0.02, seed=5) as server:
        kill_and_resume(path, server, n=60, kills=1)
        acknowledged_once(path, 60)
        lost = sum(count - 1 for count in server.answered.values())
        assert lost <= 16  # only what was under way at the kill may be asked for again


@pytest.mark.soak
def test_five_hundred_judgments_with_every_fault_and_three_kills(tmp_path):
    path = database(tmp_path / "t.duckdb", response_rows(500))
    with FaultyServer(mix=FAULTS, latency=0.02, seed=11) as server:
        kill_and_resume(path, server, n=500, kills=3)
        acknowledged_once(path, 500)
        assert sum(count - 1 for count in server.answered.values()) <= 3 * 16


def test_thirty_two_requests_are_under_way_at_once(tmp_path):
    """scripts/time_judges measures that this is twenty times as fast as one after the other."""
    path = database(tmp_path / "t.duckdb", response_rows(100))
    with FaultyServer(latency=0.5) as server:
        judge_all(path, server, concurrency=32)
        assert server.most_at_once == 32
