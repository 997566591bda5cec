"""Judge through the Batch API: half the price, results within a day, collected by any later process.

A submission is stored before anything is sent, and the batch's metadata names it, so that a process killed in between
finds its batch again and does not pay twice. The first judgment of a submission is requested directly: it checks the
key and the model and detects what the server supports, before thousands are uploaded.
"""

from __future__ import annotations

import dataclasses
import json
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from icl_local.exceptions import ApiError
from icl_local.judging import ledger
from icl_local.judging.judges import ApiJudge, attempt_of
from icl_local.judging.ledger import Attempt, JudgeProgress, OnProgress, Scope, Task
from icl_local.judging.template import Template
from icl_local.openai_client import ApiClient, ApiReply, is_transient
from icl_local.store import Record, Store

if TYPE_CHECKING:
    from openai.types import Batch

MAX_REQUESTS = 50_000  # OpenAI's limits for one input file
MAX_BYTES = 190_000_000
ENDPOINT: Final = "/v1/chat/completions"
_METADATA = "icl_submission"
_ENDED = {"completed", "expired", "cancelled", "failed"}
_ROWS_A_PUT = 500


@dataclass(frozen=True)
class Collected:
    """The results of one look at the server: ``statuses`` counts the judgments read, ``scores`` their scores.

    ``running`` holds the unfinished batches as (id, state, requests done, requests).
    """

    statuses: Counter[str]
    scores: int = 0
    running: tuple[tuple[str, str, int, int], ...] = ()

    @property
    def lines(self) -> list[str]:
        """Return the counts, and each running batch, as lines of text."""
        running = [f"{name}: {state}, {done} of {total}" for name, state, done, total in self.running]
        return [f"collected: {ledger.in_words(self.statuses, self.scores)}", *running]


def submit(
    path: Path, judge: ApiJudge, scope: Scope, *, on_progress: OnProgress = lambda progress: None
) -> JudgeProgress:
    """Submit every missing judgment to the Batch API; ``in_batches`` counts those submitted.

    The client's budget bounds the highest possible cost, with each verdict at its longest. Raises ApiError if the
    server refuses or does not answer, JudgeError if another process judges with the same judge.
    """
    with ledger.only_judge(path, judge.judge_id), ledger.open_store(path) as target:
        _reconcile(target, judge)
        try:
            left, progress = ledger.make_missing(target, judge, scope, on_progress, first=1)
        except ApiError as error:
            raise ApiError(f"nothing was submitted to {judge.client.base_url}: {error}") from None
        for some in _affordable_chunks(judge, left):
            _send(target, judge, some)
            progress = dataclasses.replace(progress, in_batches=progress.in_batches + len(some))
            on_progress(progress)
        return progress


def collect(
    path: Path,
    judge: ApiJudge,
    *,
    wait: bool = False,
    poll_seconds: float = 60.0,
    on_look: Callable[[Collected], None] = lambda collected: None,
) -> Collected:
    """Read every finished batch of this judge, once; with ``wait``, every ``poll_seconds`` until none is running.

    Judgments without a result are missing again. Raises ApiError.
    """
    total = Collected(Counter())
    while True:
        found = _look(path, judge)
        total = Collected(total.statuses + found.statuses, total.scores + found.scores, found.running)
        on_look(found)
        if not found.running or not wait:
            return total
        time.sleep(poll_seconds)


def _look(path: Path, judge: ApiJudge) -> Collected:
    """Read the batches that are finished now."""
    with ledger.only_judge(path, judge.judge_id), ledger.open_store(path) as target:
        _reconcile(target, judge)
        with target.reading():
            items = target.named("judge_open_items", [judge.judge_id]).dicts()
            texts = dict(target.named("judge_templates").rows)
        statuses: Counter[str] = Counter()
        scores = 0
        running = []
        for batch_id in dict.fromkeys(item["batch_id"] for item in items):
            mine = {item["judgment_id"]: item for item in items if item["batch_id"] == batch_id}
            batch = _retrieve(judge.client, batch_id)
            if batch.status not in _ENDED:
                done = batch.request_counts.completed if batch.request_counts else 0
                running.append((batch_id, batch.status, done, len(mine)))
                continue
            replies = _replies(judge.client, batch, mine)
            attempts = [_attempt(judge, batch, mine[reply.id], reply, texts) for reply in replies]
            for start in range(0, len(attempts), _ROWS_A_PUT):
                part = attempts[start : start + _ROWS_A_PUT]
                target.put([one.record(judge.judge_id) for one in part])
            submission = next(iter(mine.values()))["submission_id"]
            target.put([_event(submission, "closed", judge, len(mine), batch_id=batch_id)])
            statuses.update(one.verdict.status for one in attempts)
            scores += sum(one.verdict.n_scores for one in attempts)
        return Collected(statuses, scores, tuple(running))


def _affordable_chunks(judge: ApiJudge, tasks: Sequence[Task]) -> Iterator[list[Task]]:
    """Yield ``tasks`` in lists within the API's limits for a file, until the budget is used."""
    chunk: list[Task] = []
    size = 0
    client = judge.client
    for task in tasks:
        if client.budget is not None and not client.budget.reserve(client.ceiling_usd(judge.request(task), batch=True)):
            break
        length = len(task.prompt.encode("utf-8", "replace")) * 2 + 4096  # escapes, schema and envelope
        if chunk and (len(chunk) >= MAX_REQUESTS or size + length > MAX_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(task)
        size += length
    if chunk:
        yield chunk


def _send(target: Store, judge: ApiJudge, tasks: Sequence[Task]) -> None:
    """Store the submission, upload its file, create its batch, store that."""
    submission = secrets.token_hex(16)
    items: list[Record] = [("judge_batch_items", {"submission_id": submission, **task.keys}) for task in tasks]
    target.put([_event(submission, "prepared", judge, len(tasks)), *items])
    data = "".join(json.dumps(_line(judge, task)) + "\n" for task in tasks).encode()
    name = f"icl-{submission}.jsonl"
    uploaded = judge.client.call(lambda client: client.files.create(file=(name, data), purpose="batch"))
    batch = judge.client.call(  # once: a batch whose creation was not confirmed is found by its metadata
        lambda client: client.batches.create(
            input_file_id=uploaded.id,
            endpoint=ENDPOINT,
            completion_window="24h",
            metadata={_METADATA: submission},
        ),
        max_attempts=1,
    )
    target.put([_event(submission, "created", judge, len(tasks), batch_id=batch.id)])


def _line(judge: ApiJudge, task: Task) -> dict[str, object]:
    request, dialect = judge.request(task), judge.client.dialect
    body = {
        "model": judge.client.model,
        "messages": list(request.messages),
        **dialect.parameters(request),
        **dialect.response_format(request),
        **request.extra,
    }
    return {"custom_id": task.judgment_id, "method": "POST", "url": ENDPOINT, "body": body}


def _reconcile(target: Store, judge: ApiJudge) -> None:
    """Find out whether submissions that were stored but not confirmed have been sent."""
    items = target.named("judge_open_items", [judge.judge_id]).dicts()
    unconfirmed = Counter(item["submission_id"] for item in items if item["state"] == "prepared")
    if not unconfirmed:
        return
    batches = judge.client.call(lambda client: list(client.batches.list(limit=100)))
    found = {(batch.metadata or {}).get(_METADATA, ""): batch.id for batch in batches}
    for submission, count in unconfirmed.items():
        event = "created" if submission in found else "abandoned"
        target.put([_event(submission, event, judge, count, batch_id=found.get(submission))])


def _event(submission: str, event: str, judge: ApiJudge, count: int, *, batch_id: str | None = None) -> Record:
    dialect = judge.client.dialect
    return "judge_batches", {
        "submission_id": submission,
        "event": event,
        "judge_id": judge.judge_id,
        "batch_id": batch_id,
        "n_requests": count,
        "structured": dialect.structured,
        "parameters": {"token_limit": dialect.token_limit, "temperature": dialect.temperature},
    }


def _replies(client: ApiClient, batch: Batch, items: Mapping[str, Mapping[str, Any]]) -> Iterator[ApiReply]:
    """Yield a reply to each judgment of a finished batch: from the output file, the error file, or as failed."""
    left = {**items}
    for file_id in (batch.output_file_id, batch.error_file_id):
        for line in _content(client, file_id).split("\n") if file_id else ():
            try:
                result = json.loads(line)
                item = left.pop(result["custom_id"], None)
            except (ValueError, TypeError, KeyError, RecursionError):
                continue  # not a result: its judgment stays missing
            if item is not None:
                yield _reply(client, item, result)
    reasons = "; ".join(error.message or "" for error in (batch.errors.data or [])) if batch.errors else ""
    error = client.redact(f"the batch is {batch.status} and has no result for this {reasons}".rstrip())[:300]
    for judgment_id in left:
        yield ApiReply(judgment_id, 1, "failed", error=error)


def _retrieve(client: ApiClient, batch_id: str) -> Batch:
    return client.call(lambda api: api.batches.retrieve(batch_id))


def _content(client: ApiClient, file_id: str) -> str:
    return client.call(lambda api: api.files.content(file_id).text)


def _reply(client: ApiClient, item: Mapping[str, Any], result: Mapping[str, Any]) -> ApiReply:
    """Return a line of an output or error file as a reply."""
    reply = ApiReply(item["judgment_id"], 1, "failed", structured=item["structured"])
    response = result.get("response")
    status, body = (response.get("status_code"), response.get("body")) if isinstance(response, dict) else (None, None)
    if status == 200 and isinstance(body, dict):
        return client.read_completion(body, reply, batch=True)
    failure = result.get("error") or (body.get("error") if isinstance(body, dict) else None) or "no answer"
    message = failure.get("message") or failure.get("code") if isinstance(failure, dict) else failure
    reply = dataclasses.replace(reply, error=client.redact(str(message))[:300])
    if not isinstance(status, int):
        return reply
    refused = status >= 400 and not is_transient(status)
    return dataclasses.replace(reply, outcome="rejected" if refused else "failed", http_status=status)


def _attempt(
    judge: ApiJudge, batch: Batch, item: Mapping[str, Any], reply: ApiReply, texts: Mapping[str, str]
) -> Attempt:
    template = Template("stored", texts[item["template_sha256"]])
    task = Task(item["judgment_id"], item["attempt"], item["response_id"], template, item["repeat"])
    request, dialect = judge.request(task), dataclasses.replace(judge.client.dialect, **json.loads(item["parameters"]))
    reply = dataclasses.replace(reply, parameters={**dialect.parameters(request), **request.extra})
    return attempt_of(task, reply, batch_id=batch.id)
