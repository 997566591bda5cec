"""An OpenAI-compatible server that misbehaves on demand: in a thread for tests, or as a process of its own.

Every answer is in OpenAI's published schema (built by the client's own types) unless the action says otherwise. What
it does is a list of actions, taken in order and then repeated in a mix drawn by ``seed``; scores follow from the prompt
alone (``score_of``), so a test knows what each response must have got. State is kept by prompt: how often it was asked
and how often it was answered.

By hand: python -m tests.faulty_server '{"mix": {"ok": 8, "500": 1, "reset": 1}, "latency": 0.1}'
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import hashlib
import json
import random
import re
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from openai.types import Batch, FileObject
from openai.types.batch_request_counts import BatchRequestCounts
from openai.types.chat import ChatCompletion

MODEL = "faulty-1"
GARBAGE = "The answer is quite good overall, I would say 4 out of 5 for most things."


@dataclass
class Settings:
    """``script``: actions in order; then ``mix``: action -> weight. ``latency`` and ``retry_after`` in seconds."""

    script: list[str] = field(default_factory=list)
    mix: dict[str, float] = field(default_factory=lambda: {"ok": 1.0})
    latency: float = 0.0
    slow: float = 0.5
    retry_after: float = 0.05
    seed: int = 0
    batch_polls: int = 1  # looks at a batch before it has ended
    batch_end: str = "completed"


def score_of(prompt: str, aspect: str) -> int:
    """What this server gives for a prompt: 1 to 5."""
    return hashlib.sha256(f"{aspect}\0{prompt}".encode()).digest()[0] % 5 + 1


def aspects_of(prompt: str) -> list[str]:
    """The aspects a judge prompt's JSON form asks for."""
    return re.findall(r'"(\w+)"\s*:\s*\{\s*"reason"', prompt)


def verdict(prompt: str) -> str:
    """A well-formed verdict for a judge prompt; any other prompt is answered with its own end."""
    aspects = aspects_of(prompt)
    if not aspects:
        return prompt[-40:]
    return json.dumps({a: {"reason": f"Because of {a}.", "score": score_of(prompt, a)} for a in aspects})


def completion(
    text: str | None, *, finish: str = "stop", refusal: str | None = None, prompt: str = ""
) -> dict[str, Any]:
    """A chat completion as OpenAI sends it."""
    usage = {"prompt_tokens": len(prompt) // 4 + 1, "completion_tokens": len(text or "") // 4 + 1}
    usage["total_tokens"] = sum(usage.values())
    message = {"role": "assistant", "content": text, "refusal": refusal}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_790_000_000,
        "model": f"{MODEL}-2026-11-01",
        "system_fingerprint": "fp_test",
        "choices": [{"index": 0, "finish_reason": finish, "logprobs": None, "message": message}],
        "usage": usage,
    }


def error(
    message: str, *, code: str | None = None, param: str | None = None, kind: str = "server_error"
) -> dict[str, Any]:
    """An error body as OpenAI sends it."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


class FaultyServer:
    """The server; a context manager that listens on a free loopback port."""

    def __init__(self, settings: Settings | None = None, **changes: Any) -> None:
        self.settings = settings or Settings(**changes)
        self.asked: collections.Counter[str] = collections.Counter()
        self.answered: collections.Counter[str] = collections.Counter()
        self.actions: collections.Counter[str] = collections.Counter()
        self.bodies: list[dict[str, Any]] = []
        self.most_at_once = 0
        self.batches: dict[str, dict[str, Any]] = {}
        self.files: dict[str, bytes] = {}
        self._now = 0
        self._random = random.Random(self.settings.seed)
        self._script = collections.deque(self.settings.script)
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._moved = threading.Condition()

    def __enter__(self) -> FaultyServer:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *exc: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def wait_for(self, answers: int, *, timeout: float = 300.0) -> None:
        """Return once that many answers have been given."""
        with self._moved:
            assert self._moved.wait_for(lambda: sum(self.answered.values()) >= answers, timeout)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=512))
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        server.close()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                method, path, _ = head[0].split(" ")
                headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in head[1:] if line)}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                if not await self._handle(method, path.split("?")[0], headers, body, writer):
                    writer.transport.abort()
                    return
        writer.close()

    async def _handle(
        self, method: str, path: str, headers: dict[str, str], body: bytes, writer: asyncio.StreamWriter
    ) -> bool:
        """Answer one request; False to reset the connection."""
        if path == "/v1/state":
            state = {"asked": self.asked, "answered": self.answered, "actions": self.actions}
            return self._send(writer, 200, {**state, "most_at_once": self.most_at_once})
        if path.startswith(("/v1/files", "/v1/batches")):
            return self._send_raw(writer, *self._batch_api(method, path, headers, body))
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        try:
            return await self._chat(headers, json.loads(body), writer)
        finally:
            self._now -= 1

    async def _chat(self, headers: dict[str, str], body: dict[str, Any], writer: asyncio.StreamWriter) -> bool:
        prompt = body["messages"][-1]["content"] if "messages" in body else body["prompt"]
        key = hashlib.sha256(prompt.encode()).hexdigest()[:16]
        action = self._next_action(body)
        self.bodies.append(body)
        self.asked[key] += 1
        self.actions[action] += 1
        if self.settings.latency:
            await asyncio.sleep(self.settings.latency)
        if action in ("reset", "cut_body"):
            if action == "cut_body":
                writer.write(b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{"id"')
                await writer.drain()
            return False
        if action == "slow":
            await asyncio.sleep(self.settings.slow)
        if "prompt" in body:
            answer = completion("", prompt=prompt)
            answer["object"], answer["choices"] = (
                "text_completion",
                [{"index": 0, "text": prompt[-40:], "finish_reason": "stop"}],
            )
            return self._send(writer, 200, answer)
        status, answer, extra = self._answer(action, prompt, headers)
        if status == 200 and action in _ANSWERS:
            with self._moved:
                self.answered[key] += 1
                self._moved.notify_all()
        return self._send(writer, status, answer, extra)

    def _next_action(self, body: dict[str, Any]) -> str:
        wanted = (body.get("response_format") or {}).get("type")
        if "no_schema" in self.settings.mix and wanted == "json_schema":
            return "no_schema"
        if "no_json_object" in self.settings.mix and wanted in ("json_schema", "json_object"):
            return "no_schema"
        if "no_max_tokens" in self.settings.mix and "max_tokens" in body:
            return "no_max_tokens"
        if "no_temperature" in self.settings.mix and "temperature" in body:
            return "no_temperature"
        if self._script:
            return self._script.popleft()
        names = [name for name in self.settings.mix if not name.startswith("no_")] or ["ok"]
        return self._random.choices(names, [self.settings.mix.get(name, 1.0) for name in names])[0]

    def _answer(self, action: str, prompt: str, headers: dict[str, str]) -> tuple[int, object, dict[str, str]]:
        text = verdict(prompt)
        retry = {"retry-after": f"{self.settings.retry_after:g}"}
        match action:
            case "ok" | "slow":
                return 200, completion(text, prompt=prompt), {}
            case "fenced":
                return 200, completion(f"Sure!\n```json\n{text}\n```", prompt=prompt), {}
            case "garbage":
                return 200, completion(GARBAGE, prompt=prompt), {}
            case "truncated":
                return 200, completion(text[: len(text) // 2], finish="length", prompt=prompt), {}
            case "refusal":
                return 200, completion(None, refusal="I can't help with judging that.", prompt=prompt), {}
            case "filtered":
                return 200, completion(None, finish="content_filter", prompt=prompt), {}
            case "used_up":
                limits = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "120ms"}
                return 200, completion(text, prompt=prompt), limits
            case "empty_choices":
                return 200, {**completion(text), "choices": []}, {}
            case "null_choices":
                return 200, {**completion(text), "choices": None}, {}
            case "null_content":
                return 200, completion(None), {}
            case "error200":
                return 200, error(f"upstream failed, last verdict: {text}"), {}
            case "html200":
                return 200, f"<html><body><h1>Welcome</h1>{text}</body></html>", {}
            case "string200":
                return 200, json.dumps(f"busy, last verdict: {text}").encode(), {}
            case "broken_json":
                return 200, b'{"id": "chatcmpl-1", "choices": [{"index": 0, "mess', {}
            case "html502":
                return 502, f"<html>Bad gateway {text}</html>", {}
            case "429":
                return 429, error("Rate limit reached", code="rate_limit_exceeded", kind="requests"), retry
            case "429_long":
                return 429, error("Rate limit reached", code="rate_limit_exceeded"), {"retry-after": "3600"}
            case "quota":
                message = "You exceeded your current quota, please check your plan and billing details."
                return 429, error(message, code="insufficient_quota", kind="insufficient_quota"), {}
            case "401":
                message = f"Incorrect API key provided: {headers.get('authorization', '').removeprefix('Bearer ')}."
                return 401, error(message, code="invalid_api_key", kind="invalid_request_error"), {}
            case "404":
                return 404, error(f"The model `{MODEL}` does not exist", code="model_not_found"), {}
            case "400":
                message = "This model's maximum context length is 8192 tokens, your messages have 9000."
                return 400, error(message, code="context_length_exceeded", param="messages"), {}
            case "400_policy":
                return 400, error("The prompt triggered the content management policy", code="content_filter"), {}
            case "echo_key":
                return 500, error(f"internal error, headers were {headers}; verdict {text}"), {}
            case "no_schema":
                return (
                    400,
                    error("Invalid parameter: 'response_format' of type 'json_schema'", param="response_format"),
                    {},
                )
            case "no_max_tokens":
                message = "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead."
                return 400, error(message, code="unsupported_parameter", param="max_tokens"), {}
            case "no_temperature":
                return 400, error("'temperature' does not support 0.0 with this model.", param="temperature"), {}
            case _:
                return int(action), error(f"The server had an error; it said {text}"), {}

    def _batch_api(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        parts = path.removeprefix("/v1/").split("/")
        if parts[0] == "files" and method == "POST":
            boundary = headers["content-type"].split("boundary=")[1].encode()
            content = next(p for p in body.split(b"--" + boundary) if b"filename=" in p).split(b"\r\n\r\n", 1)[1]
            name = f"file-{len(self.files)}"
            self.files[name] = content.removesuffix(b"\r\n")
            made = FileObject(
                id=name,
                bytes=len(content),
                created_at=0,
                filename=name,
                object="file",
                purpose="batch",
                status="processed",
            )
            return 200, made.model_dump_json().encode()
        if parts[0] == "files":
            return 200, self.files[parts[1]]
        if method == "POST":
            asked = json.loads(body)
            name = f"batch_{len(self.batches)}"
            self.batches[name] = {"input": asked["input_file_id"], "metadata": asked.get("metadata"), "polls": 0}
            return 200, self._batch(name).model_dump_json().encode()
        if len(parts) == 1:
            found = [self._batch(name).model_dump() for name in self.batches]
            return 200, json.dumps({"object": "list", "data": found, "has_more": False}).encode()
        self.batches[parts[1]]["polls"] += 1
        return 200, self._batch(parts[1]).model_dump_json().encode()

    def _batch(self, name: str) -> Batch:
        state = self.batches[name]
        lines = [json.loads(line) for line in self.files[state["input"]].splitlines()]
        ended = state["polls"] > self.settings.batch_polls
        if ended and "output" not in state:
            state["output"], state["errors"] = f"{name}-output", f"{name}-errors"
            self._work_off(lines, state)
        counts = BatchRequestCounts(total=len(lines), completed=len(lines) if ended else len(lines) // 2, failed=0)
        return Batch(
            id=name,
            object="batch",
            endpoint="/v1/chat/completions",
            completion_window="24h",
            created_at=int(time.time()),
            input_file_id=state["input"],
            status=self.settings.batch_end if ended else "in_progress",
            output_file_id=state.get("output"),
            error_file_id=state.get("errors"),
            metadata=state["metadata"],
            request_counts=counts,
        )

    def _work_off(self, lines: list[dict[str, Any]], state: dict[str, Any]) -> None:
        """Output and error file of a batch; "skip" leaves a request out, as an expired batch does."""
        good, bad = [], []
        for line in lines:
            prompt = line["body"]["messages"][-1]["content"]
            key = hashlib.sha256(prompt.encode()).hexdigest()[:16]
            action = self._next_action(line["body"])
            self.asked[key] += 1
            self.actions[action] += 1
            if action == "skip":
                continue
            status, answer, _ = self._answer(action, prompt, {})
            self.answered[key] += status == 200 and action in _ANSWERS
            response = {"status_code": status, "request_id": "r", "body": answer}
            (good if status == 200 else bad).append(
                {"id": "batch_req", "custom_id": line["custom_id"], "response": response, "error": None}
            )
        self._random.shuffle(good)
        for name, found in ((state["output"], good), (state["errors"], bad)):
            self.files[name] = "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in found).encode()

    def _send(
        self, writer: asyncio.StreamWriter, status: int, body: object, extra: dict[str, str] | None = None
    ) -> bool:
        kind = "text/html" if isinstance(body, str) else "application/json"
        data = (
            body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else json.dumps(body).encode()
        )
        return self._send_raw(writer, status, data, kind=kind, extra=extra)

    def _send_raw(
        self,
        writer: asyncio.StreamWriter,
        status: int,
        data: bytes,
        *,
        kind: str = "application/json",
        extra: dict[str, str] | None = None,
    ) -> bool:
        lines = [f"HTTP/1.1 {status} X", f"content-type: {kind}", f"content-length: {len(data)}"]
        lines += [f"{name}: {value}" for name, value in (extra or {}).items()]
        writer.write("\r\n".join([*lines, "", ""]).encode() + data)
        return True


_ANSWERS = {"ok", "slow", "fenced", "garbage", "truncated", "refusal", "filtered", "used_up"}


def main() -> None:
    """Serve until standard input closes; the port is the first line of standard output."""
    server = FaultyServer(Settings(**json.loads(sys.argv[1] if len(sys.argv) > 1 else "{}")))
    with server:
        print(server.port, flush=True)  # noqa: T201
        sys.stdin.read()


if __name__ == "__main__":
    ChatCompletion.model_validate(completion("x"))
    main()
