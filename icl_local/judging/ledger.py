"""Find the missing judgments, and turn an attempt at one into rows.

A judgment is one response, judge, template and repeat. Its key never changes, so a judgment that has ended is not
requested again. Attempts that failed for a transient reason (network, overload, quota) are followed by another; those
that ended without all scores only at the user's request (``Scope.retry``).
"""

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Collection, Container, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from icl_local import store
from icl_local.exceptions import JudgeError, UnknownName
from icl_local.identity import judgment_key
from icl_local.judging.parse import INCOMPLETE, NOT_APPLICABLE, OUT_OF_RANGE, PARSE_ERROR, REFUSED, TRUNCATED, Verdict
from icl_local.judging.template import Template, Templates
from icl_local.running import Shard
from icl_local.store import TRANSIENT, Record, Selection

HTTP_ERROR, QUOTA = TRANSIENT
REJECTED = "rejected"
RETRIED = (REFUSED, TRUNCATED, PARSE_ERROR, REJECTED, INCOMPLETE, OUT_OF_RANGE)  # ended, and scores are missing

RunSql = Callable[..., store.Rows]  # store.named of one database


@dataclass(frozen=True)
class Scope:
    """The requested judgments: ``repeats`` verdicts on each selected response, with the prompts in ``templates``.

    ``limit`` takes the first missing judgments, ``shard`` a part of the responses, by their keys; ``responses`` takes
    only these ids, ``draws`` the first draws of each query. ``with_chosen`` adds responses that were chosen among given
    texts. ``retry``: a judgment whose last attempt has one of these statuses (RETRIED) is missing too. Raises
    UnknownName for another status.
    """

    templates: Templates
    repeats: int = 1
    selection: Selection = field(default_factory=Selection)
    limit: int | None = None
    shard: Shard | None = None
    responses: Container[str] | None = None
    retry: Collection[str] = ()
    draws: int | None = None
    with_chosen: bool = False

    def __post_init__(self) -> None:
        for status in self.retry:
            if status not in RETRIED:
                raise UnknownName.among("status", status, RETRIED, place=" for --retry")


@dataclass(frozen=True)
class Task:
    """One missing judgment; ``attempt`` is the number of its next attempt, from 1.

    ``expected``: what rules score with (prompting.expectations); ``expectation`` is its id, empty if there is none.
    ``by_bytes``: of a response chosen among given texts, the choice with the largest log-probability by byte.
    """

    judgment_id: str
    attempt: int
    response_id: str
    template: Template
    repeat: int
    split: str = ""
    language: str = ""
    instruction: str = field(default="", repr=False)
    text: str = field(default="", repr=False)
    expected: Mapping[str, Any] = field(default_factory=dict, repr=False)
    expectation: str = ""
    by_bytes: str | None = None

    @property
    def prompt(self) -> str:
        """Return the prompt for the judge."""
        return self.template.fill(self.instruction, self.text)


@dataclass(frozen=True)
class JudgingPlan:
    """The missing judgments as ``tasks``; ``ended`` counts the others by status, ``in_batches`` those in a batch.

    ``missing`` counts the tasks before a limit.
    """

    tasks: tuple[Task, ...]
    ended: Counter[str]
    in_batches: int = 0
    missing: int = 0


@dataclass(frozen=True)
class Attempt:
    """The outcome of one call to a judge; ``number`` counts all attempts at the judgment.

    ``final``: no other attempt follows in this run. ``columns``: more columns of raw.judgments (raw_reply, tokens ...).
    """

    task: Task
    number: int
    verdict: Verdict
    final: bool = True
    columns: Mapping[str, object] = field(default_factory=dict)

    def record(self, judge_id: str) -> Record:
        """Return its row of raw.judgments, with the verdict unless the failure is transient."""
        row = {
            "judgment_id": self.task.judgment_id,
            "attempt": self.number,
            "response_id": self.task.response_id,
            "judge_id": judge_id,
            "template_sha256": self.task.template.sha256,
            "repeat": self.task.repeat,
            "status": self.verdict.status,
            "repairs": list(self.verdict.repairs),
            "error": self.verdict.error,
            **self.columns,
        }
        if self.verdict.status not in TRANSIENT:
            aspects = self.verdict.aspects
            row["scores"] = [aspect.score for aspect in aspects]
            row["not_applicable"] = [aspect.not_applicable for aspect in aspects]
            row["reasons"] = [aspect.reason for aspect in aspects]
        return "judgments", row


def plan(run_sql: RunSql, judge_id: str, scope: Scope) -> JudgingPlan:
    """Compare the judgments in ``scope`` with those in the database; ``run_sql`` runs a named query on it.

    Raises InputError if a response's split or language has no template.
    """
    last = {key: ended for key, *ended in run_sql("judge_attempts", [judge_id]).rows}
    submitted = {row["judgment_id"] for row in open_items(run_sql, judge_id)}
    tasks: list[Task] = []
    ended: Counter[str] = Counter()
    in_batches = 0
    responses = run_sql("judge_responses", [scope.selection.stored(run_sql), scope.draws, scope.with_chosen]).rows
    if scope.shard is not None:
        responses = [row for row in responses if scope.shard.holds(row[0])]
    if scope.responses is not None:
        responses = [row for row in responses if row[0] in scope.responses]
    for repeat in range(scope.repeats):
        for response_id, split, language, instruction, text, expected, expectation, by_bytes in responses:
            template = scope.templates.get(split=split or "multi", language=language)
            key = judgment_key(
                response_id=response_id, judge_id=judge_id, template_sha256=template.sha256, repeat=repeat
            )
            attempt, status, scored_with = last.get(key, (0, HTTP_ERROR, None))
            if key in submitted:
                in_batches += 1
            elif scored_with in (None, expectation) and status not in TRANSIENT and status not in scope.retry:
                ended[status] += 1
            else:
                case = (split, language, instruction, text, json.loads(expected or "{}"), expectation, by_bytes)
                tasks.append(Task(key, attempt + 1, response_id, template, repeat, *case))
    return JudgingPlan(tuple(tasks[: scope.limit]), ended, in_batches, len(tasks))


def open_items(run_sql: RunSql, judge_id: str) -> list[dict[str, Any]]:
    """Return the judgments that were submitted to the Batch API and not collected."""
    return run_sql("judge_open_items", [judge_id]).dicts()


@contextlib.contextmanager
def only_one(path: Path, judge_id: str) -> Iterator[None]:
    """Keep out a second process that judges the same database with the same judge.

    Raises JudgeError if one runs, StoreError without a database or where its spool cannot be written.
    """

    def refuse() -> NoReturn:
        raise JudgeError(f"another process judges {path} with this judge; wait for it")

    store.require(path)
    with store.only_one(path, f"judge-{judge_id}", refuse):
        yield


def in_words(statuses: Mapping[str, int], scores: int | None = None) -> str:
    """Return counts by status, and the number of scores, as text, such as ``5 ok, 1 refused; 25 scores``."""
    words = {status: "partly N/A" if status == NOT_APPLICABLE else status for status in sorted(statuses)}
    counts = ", ".join(f"{statuses[status]:,} {word}" for status, word in words.items())
    return counts + ("" if scores is None else f"; {scores:,} scores") if counts else "nothing"
