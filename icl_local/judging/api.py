"""``openai:MODEL``: a judge behind an OpenAI-compatible server, held to the verdict's schema where it is supported."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from icl_local.identity import key_of
from icl_local.judging.ledger import HTTP_ERROR, QUOTA, REJECTED, Attempt, Task, failed
from icl_local.judging.parse import REFUSED, parse_verdict
from icl_local.judging.template import verdict_schema
from icl_local.openai_client import ApiClient, ApiReply, ApiRequest

MAX_TOKENS = 1024  # just-eval's limit for a verdict
_FILTERED = re.compile(r"content[_ ](?:filter|policy|management)", re.IGNORECASE)


class ApiJudge:
    """A model of ``client`` at temperature 0.

    ``max_tokens`` bounds a verdict with the reasoning before it; ``reasoning_effort`` is sent if given. Both are part
    of the judge's identity.
    """

    def __init__(self, client: ApiClient, *, max_tokens: int = MAX_TOKENS, reasoning_effort: str | None = None) -> None:
        self.client = client
        self._max_tokens = max_tokens
        self._extra = {} if reasoning_effort is None else {"reasoning_effort": reasoning_effort}

    @property
    def name(self) -> str:
        """Return the name that is stored and shown."""
        return f"openai:{self.client.model}"

    @property
    def settings(self) -> dict[str, object]:
        """Return the requested settings; each judgment records those that the server accepted."""
        return {"temperature": 0.0, "max_tokens": self._max_tokens, **self._extra}

    @property
    def judge_id(self) -> str:
        """Return the key of model, base URL (without credentials) and settings."""
        return key_of(
            kind="judge",
            backend="openai",
            model=self.client.model,
            base_url=self.client.base_url,
            settings=self.settings,
        )

    def row(self) -> dict[str, object]:
        """Return the row of raw.judges."""
        return {
            "judge_id": self.judge_id,
            "name": self.name,
            "backend": "openai",
            "model": self.client.model,
            "base_url": self.client.base_url,
            "settings": self.settings,
        }

    def request(self, task: Task) -> ApiRequest:
        """Return the task as a chat of one message; its id is the judgment's key."""
        return ApiRequest(
            id=task.judgment_id,
            messages=({"role": "user", "content": task.prompt},),
            max_tokens=self._max_tokens,
            schema=verdict_schema(task.template.aspects),
            extra=self._extra,
        )

    def attempts(self, tasks: Sequence[Task]) -> Iterator[list[Attempt]]:
        """Yield every attempt, retries included. Raises ApiError if the run cannot continue."""
        by_id = {task.judgment_id: task for task in tasks}
        for replies in self.client.run(self.request(task) for task in tasks):
            yield [attempt_of(by_id[reply.id], reply) for reply in replies]


def attempt_of(task: Task, reply: ApiReply, **columns: object) -> Attempt:
    """Return a server's reply as an attempt at the task; scores come from the model's own text only."""
    if reply.outcome == "reply" and reply.refusal:
        verdict = failed(task, REFUSED, reply.refusal)
    elif reply.outcome == "reply":
        cut_off = reply.finish_reason == "length"
        verdict = parse_verdict(reply.text or "", task.template.aspects, cut_off=cut_off)
    elif reply.outcome == "rejected":
        filtered = _FILTERED.search(reply.error or "") is not None
        verdict = failed(task, REFUSED if filtered else REJECTED, reply.error)
    else:
        verdict = failed(task, QUOTA if reply.outcome == "quota" else HTTP_ERROR, reply.error)
    return Attempt(
        task,
        task.attempt + reply.attempt - 1,
        verdict,
        final=reply.final,
        columns={
            "raw_reply": reply.text,
            "http_status": reply.http_status,
            "finish_reason": reply.finish_reason,
            "response_model": reply.model,
            "system_fingerprint": reply.system_fingerprint,
            "structured": reply.structured,
            "parameters": dict(reply.parameters),
            "prompt_tokens": reply.prompt_tokens,
            "completion_tokens": reply.completion_tokens,
            "cost_usd": reply.cost_usd,
            "seconds": reply.seconds,
            **columns,
        },
    )
