"""Judges: ``openai:MODEL`` behind an OpenAI-compatible server, ``local:GGUF`` on this project's engine.

A server enforces a verdict's schema if it supports that; a grammar enforces it on a local model.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from icl_local.identity import key_of
from icl_local.judging.ledger import HTTP_ERROR, QUOTA, REJECTED, Attempt, Task
from icl_local.judging.parse import REFUSED, no_verdict, parse_verdict
from icl_local.judging.template import verdict_schema
from icl_local.openai_client import ApiClient, ApiReply, ApiRequest
from icl_local.running import LocalChat
from icl_local.store import Row

MAX_TOKENS = 1024  # just-eval's limit for a verdict
REASON_CHARS = 120  # bounds a verdict's tokens, and with them its KV cache
# fields of a reply that are columns of raw.judgments
_KEPT = (
    "http_status", "finish_reason", "system_fingerprint", "structured", "prompt_tokens", "completion_tokens",
    "cost_usd", "seconds",
)  # fmt: skip
_FILTERED = re.compile(r"content[_ ](?:filter|policy|management)", re.IGNORECASE)


class ChatJudge:
    """A chat model that scores responses.

    ``settings`` are those that change a verdict, besides model and prompt; ``columns`` are the model's in raw.judges,
    ``row`` is the whole row there.
    """

    takes_choices = False

    def __init__(
        self,
        client: ApiClient | LocalChat,
        settings: Mapping[str, object],
        columns: Mapping[str, object],
        *,
        reason_chars: int | None = None,
        **request: Any,
    ) -> None:
        self.client = client
        self.name = client.name
        settings = {"temperature": 0.0, **client.decoding, **settings}
        self.judge_id = key_of(kind="judge", **client.identity, settings=settings)
        self.row: Row = {"judge_id": self.judge_id, "name": self.name, "settings": settings, **columns}
        self._reason_chars = reason_chars
        self._request = request

    def request(self, task: Task) -> ApiRequest:
        """Return the task as a chat of one message; its id is the judgment's key."""
        return ApiRequest(
            task.judgment_id,
            messages=({"role": "user", "content": task.prompt},),
            schema=verdict_schema(task.template.aspects, reason_chars=self._reason_chars),
            group=task.template.sha256,
            **self._request,
        )

    def attempts(self, tasks: Sequence[Task]) -> Iterator[list[Attempt]]:
        """Yield every attempt, retries included. Raises ApiError or EngineError if the run cannot continue."""
        by_id = {task.judgment_id: task for task in tasks}
        for replies in self.client.run(self.request(task) for task in tasks):
            yield [attempt_of(by_id[reply.id], reply) for reply in replies]


class ApiJudge(ChatJudge):
    """A model of ``client`` at temperature 0; each judgment records the settings that the server accepted.

    ``max_tokens`` bounds a verdict with the reasoning before it; ``reasoning_effort`` is sent if given. Both are part
    of the judge's identity.
    """

    client: ApiClient

    def __init__(self, client: ApiClient, *, max_tokens: int = MAX_TOKENS, reasoning_effort: str | None = None) -> None:
        extra = {} if reasoning_effort is None else {"reasoning_effort": reasoning_effort}
        settings = {"max_tokens": max_tokens, **extra}
        super().__init__(client, settings, client.identity, max_tokens=max_tokens, extra=extra)


class LocalJudge(ChatJudge):
    """A GGUF file as judge; ``reason_chars`` bounds each reason, and is part of the judge's identity."""

    client: LocalChat

    def __init__(self, client: LocalChat, *, reason_chars: int = REASON_CHARS) -> None:
        columns = {"backend": "local", "model": client.model.label, "gguf_sha256": client.model.sha256}
        super().__init__(client, {"reason_chars": reason_chars}, columns, reason_chars=reason_chars)


def attempt_of(task: Task, reply: ApiReply, **columns: object) -> Attempt:
    """Return a model's reply as an attempt at the task; scores come from the model's own text only."""
    aspects = task.template.aspects
    if reply.outcome == "reply" and not reply.refusal:
        verdict = parse_verdict(reply.text or "", aspects, cut_off=reply.finish_reason == "length")
    else:
        rejected = REFUSED if _FILTERED.search(reply.error or "") else REJECTED
        statuses = {"reply": REFUSED, "rejected": rejected, "quota": QUOTA, "failed": HTTP_ERROR}
        verdict = no_verdict(statuses[reply.outcome], aspects, reply.refusal or reply.error)
    if reply.probabilities and len(reply.probabilities) == len(aspects):
        columns["probabilities"] = [list(one[:-1]) for one in reply.probabilities]
    return Attempt(
        replace(task, attempt=task.attempt + reply.attempt - 1),
        verdict,
        final=reply.final,
        columns={
            "raw_reply": reply.text,
            "response_model": reply.model,
            "parameters": dict(reply.parameters) or None,
            **{name: getattr(reply, name) for name in _KEPT},
            **columns,
        },
    )
