"""Requests and replies as plain values, without types of the openai package."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

STRUCTURED = ("json_schema", "json_object", "text")


@dataclass(frozen=True)
class ApiRequest:
    """One request: a chat (``messages``) or, where ``prompt`` is given, a raw completion.

    ``schema`` is the JSON schema of the reply, ``extra`` is added to the body unchanged (a server's own options).
    ``may_be_empty``: an empty text is a reply, not a failure. ``group``: requests of one group begin alike.
    """

    id: str
    messages: tuple[Mapping[str, str], ...] = ()
    prompt: str | None = None
    max_tokens: int = 1024
    stops: tuple[str, ...] = ()
    schema: Mapping[str, object] | None = None
    extra: Mapping[str, object] = field(default_factory=dict)
    may_be_empty: bool = False
    group: str = ""

    def prompt_bytes(self) -> int:
        """Return the UTF-8 bytes of the input; no tokenizer makes more tokens."""
        texts = [self.prompt or "", *(message["content"] for message in self.messages)]
        return sum(len(text.encode("utf-8", "replace")) for text in texts)


@dataclass(frozen=True)
class ApiReply:
    """The outcome of one attempt; ``attempt`` counts from 1, ``final`` means that no other follows in this run.

    ``outcome``: reply (``text`` or ``refusal`` of the model) | failed (transient) | rejected (this request will never
    succeed) | quota. ``error`` contains no secrets. Tokens and cost are None if the server does not report them;
    ``parameters`` are those sent besides model, prompt and response format. ``probabilities``: of a local model,
    for each score in its text those of 1 to 5, of N/A, and of what fixes none.
    """

    id: str
    attempt: int
    outcome: str
    final: bool = True
    text: str | None = None
    refusal: str | None = None
    finish_reason: str | None = None
    error: str | None = None
    http_status: int | None = None
    model: str | None = None
    system_fingerprint: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost_usd: float | None = None
    seconds: float | None = None
    structured: str | None = None
    parameters: Mapping[str, object] = field(default_factory=dict)
    probabilities: tuple[tuple[float, ...], ...] = ()


@dataclass(frozen=True)
class Dialect:
    """The parameters of OpenAI's API that a server supports."""

    structured: str = STRUCTURED[0]
    token_limit: str = "max_tokens"
    temperature: bool = True

    def parameters(self, request: ApiRequest) -> dict[str, Any]:
        """Return the body without model, prompt and response format."""
        body: dict[str, Any] = {self.token_limit: request.max_tokens}
        if self.temperature:
            body["temperature"] = 0.0
        if request.stops:
            body["stop"] = list(request.stops)
        return body

    def response_format(self, request: ApiRequest) -> dict[str, Any]:
        """Return the body's response_format, if any."""
        if request.schema is None or self.structured == "text":
            return {}
        if self.structured == "json_object":
            return {"response_format": {"type": "json_object"}}
        schema = {"name": "reply", "strict": True, "schema": request.schema}
        return {"response_format": {"type": "json_schema", "json_schema": schema}}

    def without(self, param: str | None, message: str, *, has_schema: bool) -> Dialect | None:
        """Return the dialect to try after an error about ``param``; None if the error is about something else."""
        text = f"{param} {message}".lower()
        if self.token_limit == "max_tokens" and "max_completion_tokens" in text and "support" in text:
            return dataclasses.replace(self, token_limit="max_completion_tokens")
        if self.temperature and "temperature" in text:
            return dataclasses.replace(self, temperature=False)
        about_format = "schema" in text or "response_format" in text or "json_object" in text
        if has_schema and self.structured != "text" and about_format:
            return dataclasses.replace(self, structured=STRUCTURED[STRUCTURED.index(self.structured) + 1])
        return None


@dataclass(frozen=True)
class Result:
    """One attempt for the scheduler: the reply and its consequences."""

    reply: ApiReply
    wait_seconds: float | None = None  # requested by the server
    pushed_back: bool = False
    again: bool = True  # another attempt may follow in this run
    stop: str | None = None  # why the whole run cannot go on
