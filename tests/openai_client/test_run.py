"""A run of requests: its slots, its errors, and its thread, which ends with it however it ends."""

from __future__ import annotations

import asyncio
import datetime
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import openai
import pytest

from icl_local.openai_client import ApiClient, ApiReply, ApiRequest
from icl_local.openai_client.prices import Price
from tests.faulty_server import FaultyServer

KEY = "sk-test-0123456789abcdef"
PRICE = Price(1.0, 1.0, model="m", batch_factor=0.5, as_of=datetime.date(2026, 11, 1))


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("OPENAI_")]:
        monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = client_threads()
    yield
    wait_until(lambda: client_threads() <= before)


def client_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "openai-client"}


def wait_until(holds: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def client(server: FaultyServer, **changes) -> ApiClient:
    return ApiClient("faulty-1", **{"base_url": server.url, "api_key": KEY, "backoff": 0.01, **changes})


def questions(n: int) -> Iterator[ApiRequest]:
    return (ApiRequest(str(i), ({"role": "user", "content": f"question {i}"},)) for i in range(n))


def asked(server: FaultyServer) -> int:
    return sum(server.asked.values())


def test_requests_can_be_made_where_an_event_loop_runs_as_in_a_notebook() -> None:
    async def cell(server: FaultyServer) -> list[ApiReply]:
        return [reply for ready in client(server).run(questions(2)) for reply in ready]

    with FaultyServer() as server:
        assert [reply.outcome for reply in asyncio.run(cell(server))] == ["reply", "reply"]


# ------------------------------------------------------------------------------------------------------- slots


def test_a_reply_keeps_its_slot_until_the_caller_has_dealt_with_it() -> None:
    with FaultyServer() as server:
        dealt_with = 0
        for replies in client(server, concurrency=3).run(questions(12)):
            time.sleep(0.02)
            assert asked(server) - dealt_with <= 3
            dealt_with += len(replies)
    assert dealt_with == 12


def test_free_slots_are_filled_while_the_caller_stores() -> None:
    with FaultyServer() as server:
        run = client(server, concurrency=3).run(questions(12))
        next(run)  # the only request until the server's dialect is known
        wait_until(lambda: asked(server) >= 3)
        assert asked(server) == 3
        run.close()


def test_a_pause_begins_when_the_server_asks_for_it_not_when_the_caller_has_stored() -> None:
    with FaultyServer(script=["ok", "429"], retry_after=0.5) as server:
        run = client(server, concurrency=2).run(questions(2))
        next(run)
        wait_until(lambda: asked(server) == 2)
        time.sleep(0.6)
        begin = time.monotonic()
        replies = [reply for ready in run for reply in ready]
        assert time.monotonic() - begin < 0.5
    assert [(reply.id, reply.outcome) for reply in replies] == [("1", "failed"), ("1", "reply")]


def test_nothing_is_sent_in_a_pause_that_began_while_the_caller_stored() -> None:
    with FaultyServer(script=["ok", "429"], retry_after=0.5) as server:
        run = client(server, concurrency=2).run(questions(4))
        next(run)
        wait_until(lambda: server.actions["429"] == 1)
        time.sleep(0.1)
        assert [reply.outcome for reply in next(run)] == ["failed"]
        assert asked(server) == 2
        run.close()


# ------------------------------------------------------------------------------------------------------ errors


def read_slowly(run: Iterator[list[ApiReply]], got: list[str]) -> None:
    """Add the ids to ``got``; while it waits, the other replies arrive."""
    for replies in run:
        got += [reply.id for reply in replies]
        time.sleep(0.2)


def test_an_error_in_one_reply_ends_the_run_after_the_replies_that_are_paid_for() -> None:
    with FaultyServer() as server:
        api = client(server, concurrency=4)
        read = api.read_completion

        def read_or_fail(body: object, reply: ApiReply, **options: bool) -> ApiReply:
            if reply.id == "2":
                raise KeyError("a bug")
            return read(body, reply, **options)

        api.read_completion = read_or_fail
        got: list[str] = []
        with pytest.raises(KeyError, match="a bug"):
            read_slowly(api.run(questions(50)), got)
        assert len(got) == sum(server.answered.values()) - 1


def test_an_error_of_the_requests_ends_the_run_after_the_replies_that_are_paid_for() -> None:
    def broken() -> Iterator[ApiRequest]:
        yield from questions(6)
        raise KeyError("a bug")

    with FaultyServer(latency=0.05) as server:
        got: list[str] = []
        with pytest.raises(KeyError, match="a bug"):
            read_slowly(client(server, concurrency=4).run(broken()), got)
    assert sorted(got) == ["0", "1", "2", "3", "4", "5"]


def test_json_that_is_nested_too_deeply_fails_its_request_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    deep = itertools.chain([b'{"choices":' + b"[" * 200_000], itertools.repeat(None))
    send = FaultyServer._send

    def send_deep(self, writer, status, body, extra=None):
        data = next(deep)
        return send(self, writer, status, body, extra) if data is None else self._send_raw(writer, 200, data)

    monkeypatch.setattr(FaultyServer, "_send", send_deep)
    with FaultyServer() as server:
        replies = [reply for ready in client(server, concurrency=1).run(questions(2)) for reply in ready]
    assert sorted(reply.outcome for reply in replies) == ["failed", "reply", "reply"]
    assert replies[0].error == "answered with JSON that cannot be read (nested too deeply)"


@pytest.mark.parametrize("tokens", [10**400, 2**63, -1, True, "5", None])
def test_a_number_of_tokens_that_cannot_be_is_none(tokens: object) -> None:
    usage = {"prompt_tokens": tokens, "completion_tokens": 1}
    body = {"choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}], "usage": usage}
    api = ApiClient("m", base_url="http://localhost/v1", price=PRICE)
    reply = api.read_completion(body, ApiReply("a", 1, "failed"))
    assert (reply.outcome, reply.prompt_tokens, reply.completion_tokens, reply.cost_usd) == ("reply", None, 1, None)


# ------------------------------------------------------------------------------------------------- the thread


def test_stopping_to_listen_ends_the_requests() -> None:
    with FaultyServer(latency=0.02) as server:
        run = client(server).run(questions(10_000))
        next(run)
        run.close()
        assert not client_threads()
        assert sum(server.actions.values()) < 200


def test_a_process_ends_while_a_run_is_not_read_to_its_end() -> None:
    code = """
import sys
from icl_local.openai_client import ApiClient, ApiRequest
api = ApiClient("faulty-1", base_url=sys.argv[1], api_key="none")
run = api.run(ApiRequest(str(i), ({"role": "user", "content": str(i)},)) for i in range(1000))
next(run)
"""
    with FaultyServer(latency=0.05) as server:
        command = [sys.executable, "-c", code, server.url]
        ended = subprocess.run(command, timeout=60, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_connections_that_cannot_be_closed_leave_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(self: openai.AsyncOpenAI) -> None:
        raise OSError("not closed")

    monkeypatch.setattr(openai.AsyncOpenAI, "close", fail)
    with FaultyServer() as server:
        assert sum(len(replies) for replies in client(server).run(questions(3))) == 3


def test_an_interrupt_while_a_run_ends_leaves_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    async def interrupted(self: openai.AsyncOpenAI) -> None:
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        await asyncio.sleep(0.2)

    monkeypatch.setattr(openai.AsyncOpenAI, "close", interrupted)
    with FaultyServer(latency=0.02) as server:
        run = client(server).run(questions(100))
        next(run)
        with pytest.raises(KeyboardInterrupt):
            run.close()
        wait_until(lambda: not client_threads())


def test_a_run_that_its_own_thread_collects_as_garbage_ends() -> None:
    with FaultyServer(latency=0.02) as server:
        api = client(server)
        read = api.read_completion
        held = [api.run(questions(1000))]
        next(held[0])
        (thread,) = client_threads()
        api.read_completion = lambda *args, **options: (held.clear(), read(*args, **options))[1]
        thread.join(10)
        assert not thread.is_alive()
    assert held == []
