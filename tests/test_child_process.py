"""A child process that speaks JSON lines: replies in order, an end that is described, and a new start after it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from icl_local.child_process import ChildEnded, ChildProcess, SharedChild, environment_without_secrets

ECHO = """
import os, sys, time
from icl_local.child_process import serve

def handle(message, reply):
    print("printed by a library")
    if message.get("die"):
        print("error: a reason", "another line", sep="\\n", file=sys.stderr, flush=True)
        os.abort()
    if message.get("wait"):
        time.sleep(60)
    reply(message)

serve(handle)
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "icl_test_echo.py").write_text(ECHO)
    return {**environment_without_secrets(), "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path[1:]])}


@pytest.fixture
def child(environment: dict[str, str]) -> Iterator[ChildProcess]:
    child = ChildProcess("icl_test_echo", environment=environment)
    yield child
    child.close(seconds=0)


def test_messages_come_back_in_order_and_prints_do_not_mix_in(child: ChildProcess) -> None:
    for number in range(3):
        child.send({"number": number, "text": "é\n\u2028" * 50_000})
    assert [child.receive()["number"] for _ in range(3)] == [0, 1, 2]


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_the_parent_decides_what_a_signal_to_all_processes_does(child: ChildProcess, sent: signal.Signals) -> None:
    os.kill(child.pid, sent)
    child.send({"say": "one"})
    assert child.receive()


def test_an_end_is_described_with_the_line_that_gives_the_reason(child: ChildProcess) -> None:
    child.send({"die": True})
    with pytest.raises(ChildEnded) as ended:
        child.receive()
    assert (ended.value.how, ended.value.last_words, ended.value.timed_out) == ("SIGABRT", "error: a reason", False)
    with pytest.raises(ChildEnded):
        child.send({})


def test_a_time_limit_ends_the_process(child: ChildProcess) -> None:
    child.send({"wait": True})
    with pytest.raises(ChildEnded) as ended, child.time_limit(0.05):
        child.receive()
    assert ended.value.timed_out
    assert not child.alive


def test_a_closed_child_raises_and_may_be_closed_again(child: ChildProcess) -> None:
    child.close(seconds=5)
    for call in (child.receive, lambda: child.send({})):
        with pytest.raises(ChildEnded):
            call()
    child.close(seconds=5)


def test_a_shared_child_starts_at_the_first_call_and_again_after_its_end(environment: dict[str, str]) -> None:
    shared = SharedChild(lambda: ChildProcess("icl_test_echo", environment=environment))
    assert shared.pid is None
    assert shared.ask({"number": 1}) == {"number": 1}
    first = shared.pid
    assert shared.ask({"number": 2}) == {"number": 2}
    assert shared.pid == first
    with pytest.raises(ChildEnded):
        shared.ask({"die": True})
    assert shared.ask({"number": 3}) == {"number": 3}
    assert shared.pid != first
    with pytest.raises(ChildEnded, match="SIGKILL"):
        shared.ask({"wait": True}, seconds=0.05)
    assert shared.pid is None


def test_a_module_that_does_not_start_says_why(environment: dict[str, str]) -> None:
    with pytest.raises(ChildEnded, match="No module named icl_test_absent"):
        ChildProcess("icl_test_absent", environment=environment)


def test_keys_are_left_out_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "hf_token", "AWS_SECRET", "DB_PASSWORD", "OPENAI_CUSTOM_HEADERS"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("ICL_MARK", "kept")
    found = environment_without_secrets()
    assert found["ICL_MARK"] == "kept"
    assert "secret" not in found.values()
