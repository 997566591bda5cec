"""What is asked of a server and what comes back: plain values, nothing of the openai package."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

STRUCTURED = ("json_schema", "json_object", "text")


@dataclass(frozen=True)
class ApiRequest:
    """One request: a chat (``messages``) or, where ``prompt`` is given, a raw completion.

    ``schema`` is the JSON schema of the reply, ``extra`` goes into the body as it is (a server's own options).
    ``may_be_empty``: an empty text is an answer and no failure.
    """

    id: str
    messages: tuple[Mapping[str, str], ...] = ()
    prompt: str | None = None
    max_tokens: int = 1024
    temperature: float = 0.0
    stops: tuple[str, ...] = ()
    schema: Mapping[str, object] | None = None
    extra: Mapping[str, object] = field(default_factory=dict)
    may_be_empty: bool = False

    def prompt_bytes(self) -> int:
        """UTF-8 bytes of the input: no tokenizer makes more tokens than that."""
        texts = [self.prompt or "", *(message["content"] for message in self.messages)]
        return sum(len(text.encode("utf-8", "replace")) for text in texts)


@dataclass(frozen=True)
class ApiReply:
    """What came of one attempt; ``attempt`` counts from 1, ``final`` says that none follows in this run.

    ``outcome``: reply (the model answered: ``text`` or ``refusal``) | failed (transient) | rejected (this request is
    refused for good) | quota. ``error`` is told without secrets. Tokens and cost are None where the server is silent;
    ``parameters`` is what was sent beside model, prompt and response format.
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
    seconds: float = 0.0
    structured: str | None = None
    parameters: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Dialect:
    """Which of OpenAI's parameters a server takes."""

    structured: str = STRUCTURED[0]
    token_limit: str = "max_tokens"
    temperature: bool = True

    def parameters(self, request: ApiRequest) -> dict[str, Any]:
        """The body beside model, prompt and response format."""
        body: dict[str, Any] = {self.token_limit: request.max_tokens}
        if self.temperature:
            body["temperature"] = request.temperature
        if request.stops:
            body["stop"] = list(request.stops)
        return body

    def response_format(self, request: ApiRequest) -> dict[str, Any]:
        """The body's response_format, or nothing."""
        if request.schema is None or self.structured == "text":
            return {}
        if self.structured == "json_object":
            return {"response_format": {"type": "json_object"}}
        schema = {"name": "reply", "strict": True, "schema": request.schema}
        return {"response_format": {"type": "json_schema", "json_schema": schema}}

    def without(self, param: str | None, message: str, *, has_schema: bool) -> Dialect | None:
        """The dialect to try after the server complained about ``param``; None where that is not the matter."""
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
    """One attempt as the scheduler sees it: the reply, and what follows from it."""

    reply: ApiReply
    wait_seconds: float | None = None  # the server's own word
    pushed_back: bool = False
    again: bool = True  # a failed attempt may be followed by another in this run
    stop: str | None = None  # why the whole run cannot go on
