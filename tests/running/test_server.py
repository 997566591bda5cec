"""Generation by OpenAI-compatible servers: which endpoint, which penalty, what is recorded, what happens on failure."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from icl_local import store
from icl_local.cli import main
from icl_local.exceptions import ApiError, ConfigError
from icl_local.running import Decoding, load_queries, plan_cells, run
from icl_local.running.server import PENALTIES, open_server

Answer = Callable[[str, dict[str, Any]], tuple[int, dict[str, Any]]]
Asked = list[tuple[str, dict[str, Any]]]


def answered(path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """A text that names the endpoint."""
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    shared = {"id": "1", "created": 1, "model": body["model"], "usage": usage}
    if path.endswith("/chat/completions"):
        message = {"role": "assistant", "content": "chat answer"}
        return 200, {
            **shared,
            "object": "chat.completion",
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
        }
    choice = {"index": 0, "finish_reason": "stop", "text": " raw answer\n"}
    return 200, {**shared, "object": "text_completion", "choices": [choice]}


@contextmanager
def serving(owner: str, answer: Answer = answered, models: tuple[str, ...] = ("m",)) -> Iterator[tuple[str, Asked]]:
    """A server that says it is ``owner``; its URL and what it was asked."""
    asked: Asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.reply(
                200, {"object": "list", "data": [{"id": m, "object": "model", "owned_by": owner} for m in models]}
            )

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            asked.append((self.path, body))
            self.reply(*answer(self.path, body))

        def reply(self, status: int, body: dict[str, Any]) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def generate(db: Path, url: str, *, methods: list[str], limit: int = 3, label: str = "m") -> list[run.CellResult]:
    server = open_server(f"openai:m@{url}")
    sets = load_queries(["en"], ["samples"], limit=limit)
    return run.run_cells(db, plan_cells([label], methods, sets, server=server), decoding=Decoding(max_tokens=9))


def test_base_prompts_go_to_completions_and_queries_to_chat(tmp_path: Path) -> None:
    db = tmp_path / "a.duckdb"
    with serving("llamacpp") as (url, asked):
        results = generate(db, url, methods=["urial", "instruct"])
    assert [result.status for result in results] == ["done", "done"]
    raw = [body for path, body in asked if path == "/v1/completions"]
    chat = [body for path, body in asked if path == "/v1/chat/completions"]
    assert len(raw) == len(chat) == 3
    assert all("# Query" in body["prompt"] and body["stop"] and body["max_tokens"] == 9 for body in raw)
    assert all(len(body["messages"]) == 1 and body["messages"][0]["role"] == "user" for body in chat)
    assert all("# Query" not in body["messages"][0]["content"] for body in chat)
    assert all(body["temperature"] == 0 for body in raw + chat)
    rows = store.query(
        db, "select method, text, quantization, finish_reason, new_tokens, exact from responses order by 1"
    )
    assert set(rows.rows) == {
        ("instruct", "chat answer", "none", "eog", 3, None),
        ("urial", "raw answer", "none", "stop", 3, None),
    }


@pytest.mark.parametrize("owner", [*PENALTIES, "somebody"])
def test_a_servers_penalty_is_recorded_and_never_called_transformers(tmp_path: Path, owner: str) -> None:
    db = tmp_path / "a.duckdb"
    with serving(owner) as (url, asked):
        generate(db, url, methods=["zero-shot"], limit=1)
    ((backend, penalty, rule),) = store.query(
        db, "select backend, repetition_penalty, penalty_rule from raw.settings"
    ).rows
    assert backend == "openai"
    assert rule.startswith("server:")
    assert "transformers" not in rule.lower()
    body = asked[0][1]
    sent = {key: body[key] for key in ("repeat_penalty", "repeat_last_n", "repetition_penalty") if key in body}
    expected = {
        "llamacpp": {"repeat_penalty": 1.1, "repeat_last_n": -1},
        "vllm": {"repetition_penalty": 1.1},
        "sglang": {"repetition_penalty": 1.1},
    }
    assert sent == expected.get(owner, {})
    assert penalty == (1.1 if sent else None)


def test_an_empty_answer_is_an_answer(tmp_path: Path) -> None:
    def empty(path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        status, reply = answered(path, body)
        reply["choices"][0]["text"] = ""
        return status, reply

    db = tmp_path / "a.duckdb"
    with serving("vllm", empty) as (url, asked):
        generate(db, url, methods=["zero-shot"])
    assert len(asked) == 3
    assert store.query(db, "select text, finish_reason from responses").rows == [("", "stop")] * 3


def test_a_prompt_too_long_for_the_server_is_recorded_as_such(tmp_path: Path) -> None:
    def refuse(path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if "ice cream" not in body["prompt"]:
            return answered(path, body)
        return 400, {"error": {"message": "This model's maximum context length is 64 tokens", "code": 400}}

    db = tmp_path / "a.duckdb"
    with serving("vllm", refuse) as (url, _):
        generate(db, url, methods=["zero-shot"], limit=2)
    found = store.query(db, "select finish_reason, text from responses order by 1").rows
    assert found == [("prompt_too_long", ""), ("stop", "raw answer")]


def test_another_refusal_is_no_answer_and_is_asked_again_by_the_next_run(tmp_path: Path) -> None:
    ill = True

    def refuse(path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if ill and "ice cream" in body["prompt"]:
            return 400, {"error": {"message": "repeat_penalty is not supported", "code": 400}}
        return answered(path, body)

    db = tmp_path / "a.duckdb"
    with serving("vllm", refuse) as (url, _):
        (first,) = generate(db, url, methods=["zero-shot"], limit=2)
        assert store.query(db, "select finish_reason from responses").rows == [("stop",)]
        ill = False
        (second,) = generate(db, url, methods=["zero-shot"], limit=2)
    assert (first.status, first.n_new) == ("failed", 1)
    assert "repeat_penalty is not supported" in (first.error or "")
    assert (second.status, second.n_new) == ("done", 1)


def test_what_failed_is_asked_again_by_the_next_run(tmp_path: Path) -> None:
    ill = True

    def sometimes(path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        return (401, {"error": {"message": "bad key"}}) if ill else answered(path, body)

    db = tmp_path / "a.duckdb"
    with serving("vllm", sometimes) as (url, _):
        (first,) = generate(db, url, methods=["zero-shot"])
        ill = False
        (second,) = generate(db, url, methods=["zero-shot"])
        (third,) = generate(db, url, methods=["zero-shot"])
    assert (first.status, first.n_new) == ("failed", 0)
    assert "refuses the key" in (first.error or "")
    assert (second.status, second.n_new) == ("done", 3)
    assert third.n_new == 0


def test_a_registry_name_lends_its_label(tmp_path: Path) -> None:
    db = tmp_path / "a.duckdb"
    with serving("library") as (url, _):
        generate(db, url, methods=["zero-shot"], limit=1, label="llama-3.2-1b")
    rows = store.query(db, "select model, variant, size_class, gguf_sha256 from responses").rows
    assert rows == [("Llama3.2 1B", "base", "small", None)]


def test_the_command_says_what_the_server_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    db = str(tmp_path / "a.duckdb")
    with serving("library") as (url, _), pytest.raises(SystemExit) as stopped:
        main(["run", "--backend", f"openai:m@{url}", "--queries", "samples", "--limit", "1", "--db", db])
    assert stopped.value.code == 0
    assert "ollama" in capsys.readouterr().err


def test_wrong_addresses_and_absent_models_are_reported() -> None:
    with pytest.raises(ConfigError, match="openai:MODEL@URL"):
        open_server("ollama:m")
    for address in ("localhost:8080/v1", "user:password@host/v1", "host/v1"):
        with pytest.raises(ConfigError, match=r"--backend cannot be 'openai:m@\.\.\.'; write openai:MODEL"):
            open_server(f"openai:m@{address}")
    with serving("vllm", models=("a", "b")) as (url, _), pytest.raises(ApiError, match="only a, b"):
        open_server(f"openai:m@{url}")
    with serving("vllm") as (url, _):
        server = open_server(f"openai:m@{url}")
        cells = plan_cells(["m"], ["zero-shot"], load_queries(["en"], ["samples"]), server=server)
        with pytest.raises(ConfigError, match="--stop-on-loop"):
            Decoding(stop_on_loop=True).row(cells[0].method, cells[0].model)
    with pytest.raises(ApiError, match=r"^no answer from http://127.0.0.1:9/v1 \(.*\); check the server and its URL"):
        open_server("openai:m@http://127.0.0.1:9/v1")
    with pytest.raises(ApiError, match=r"^no answer from http://127.0.0.1:9/v1"):
        open_server("openai:m@2025@http://127.0.0.1:9/v1")
