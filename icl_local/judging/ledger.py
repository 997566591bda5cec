"""Find the missing judgments and make them: every attempt of the judge is stored before the next one is read.

A judgment is one response, judge, template and repeat. Its key never changes, so a judgment that has ended is not
requested again. Attempts that failed for a transient reason (network, overload, quota) are followed by another; those
that ended without all scores only at the user's request (``Scope.retry``).
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn, Protocol

from icl_local import store
from icl_local.exceptions import ApiError, JudgeError, UnknownName
from icl_local.identity import judgment_key
from icl_local.judging.parse import INCOMPLETE, NOT_APPLICABLE, OUT_OF_RANGE, PARSE_ERROR, REFUSED, TRUNCATED, Verdict
from icl_local.judging.template import Template, Templates
from icl_local.running import Shard
from icl_local.store import TRANSIENT, Record, Row, Selection, Store
from icl_local.wording import counted

HTTP_ERROR, QUOTA = TRANSIENT
REJECTED = "rejected"
RETRIED = (REFUSED, TRUNCATED, PARSE_ERROR, REJECTED, INCOMPLETE, OUT_OF_RANGE)  # ended, and scores are missing
FLUSH_ROWS, FLUSH_SECONDS = 5000, 15.0  # DuckDB may lag behind the spool: a flush takes tenths of a second

RunSql = Callable[..., store.Rows]  # store.named of one database


@dataclass(frozen=True)
class Scope:
    """The requested judgments: ``repeats`` verdicts on each selected response, with the prompts in ``templates``.

    ``limit`` takes the first missing judgments, ``shard`` a part of the responses, by their keys; ``responses`` takes
    only these ids, ``draws`` the first draws of each query. ``retry``: a judgment whose last attempt has one of these
    statuses (RETRIED) is missing too. Raises UnknownName for another status.
    """

    templates: Templates
    repeats: int = 1
    selection: Selection = field(default_factory=Selection)
    limit: int | None = None
    shard: Shard | None = None
    responses: Container[str] | None = None
    retry: Collection[str] = ()
    draws: int | None = None

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

    @property
    def keys(self) -> dict[str, object]:
        """Return the columns that say which attempt at which judgment this is, besides the judge."""
        return {
            "judgment_id": self.judgment_id,
            "attempt": self.attempt,
            "response_id": self.response_id,
            "template_sha256": self.template.sha256,
            "repeat": self.repeat,
        }


@dataclass(frozen=True)
class Attempt:
    """The outcome of one call to a judge.

    ``final``: no other attempt follows in this run. ``columns``: more columns of raw.judgments (raw_reply, tokens ...).
    """

    task: Task
    verdict: Verdict
    final: bool = True
    columns: Mapping[str, Any] = field(default_factory=dict)

    def record(self, judge_id: str) -> Record:
        """Return its row of raw.judgments, with the verdict unless the failure is transient."""
        row = {
            **self.task.keys,
            "judge_id": judge_id,
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


class Judge(Protocol):
    """A model or rules that score responses; ``takes_choices``: also responses chosen among given texts."""

    name: str
    judge_id: str
    row: Row  # of raw.judges
    takes_choices: bool

    def attempts(self, tasks: Sequence[Task]) -> Iterator[list[Attempt]]:
        """Yield every attempt, retries included. Raises IclError if the run cannot continue."""


@dataclass(frozen=True)
class JudgeProgress:
    """Counts of one run of a judge (``label``): judgments requested and done, by status, scores, attempts, tokens, USD.

    ``before`` counts the existing judgments by status, ``in_batches`` those that the Batch API has not returned,
    ``beyond`` the missing ones that a limit left out.
    """

    label: str
    requested: int
    statuses: Counter[str] = field(default_factory=Counter)
    scores: int = 0
    attempts: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float | None = None
    before: Counter[str] = field(default_factory=Counter)
    in_batches: int = 0
    beyond: int = 0

    @property
    def done(self) -> int:
        """Return the number of judgments that this run has finished."""
        return sum(self.statuses.values())

    @property
    def missing(self) -> int:
        """Return the number of judgments that the next run has to retry."""
        return self.requested - sum(count for status, count in self.statuses.items() if status not in TRANSIENT)

    @property
    def note(self) -> str:
        """Return the ended judgments by status as text, such as ``5 ok, 1 refused``."""
        return in_words(self.statuses)

    def plus(self, attempts: Sequence[Attempt]) -> JudgeProgress:
        """Return these counts with some more attempts."""

        def given(column: str) -> list[Any]:
            return [value for one in attempts if (value := one.columns.get(column)) is not None]

        costs = given("cost_usd")
        return replace(
            self,
            statuses=self.statuses + Counter(one.verdict.status for one in attempts if one.final),
            scores=self.scores + sum(one.verdict.n_scores for one in attempts),
            attempts=self.attempts + len(attempts),
            prompt_tokens=self.prompt_tokens + sum(given("prompt_tokens")),
            completion_tokens=self.completion_tokens + sum(given("completion_tokens")),
            cost_usd=(self.cost_usd or 0.0) + sum(costs) if costs else self.cost_usd,
        )

    def __str__(self) -> str:
        cost = "" if self.cost_usd is None else f", ${self.cost_usd:.4f}"
        used = self.prompt_tokens or self.completion_tokens
        tokens = f", {self.prompt_tokens:,} + {self.completion_tokens:,} tokens" if used else ""
        batches = f"; {self.in_batches} with the Batch API" if self.in_batches else ""
        missing = counted(self.requested + self.beyond, "judgment was", "judgments were")
        taken = counted(self.requested, "was taken", "were taken")
        limited = f" (the first {taken})" if self.beyond else ""
        before = f" ({in_words(self.before)})" if self.before else ""
        return (
            f"{missing} missing{limited}, {counted(self.before.total(), 'was', 'were')} there{before}: "
            f"{in_words(self.statuses, self.scores)} "
            f"({counted(self.attempts, 'attempt')}{tokens}{cost}){batches}"
        )


OnProgress = Callable[[JudgeProgress], None]


def plan(run_sql: RunSql, judge: Judge | None, scope: Scope) -> tuple[list[Task], JudgeProgress]:
    """Return the missing judgments in ``scope``, and the counts before the first attempt.

    ``run_sql`` runs a named query on the database; ``judge`` None has judged nothing. Raises InputError if a response's
    split or language has no template.
    """
    judge_id, name, takes_choices = (judge.judge_id, judge.name, judge.takes_choices) if judge else ("", "", False)
    last = {key: ended for key, *ended in run_sql("judge_attempts", [judge_id]).rows}
    submitted = {row["judgment_id"] for row in run_sql("judge_open_items", [judge_id]).dicts()}
    tasks: list[Task] = []
    ended: Counter[str] = Counter()
    in_batches = 0
    responses = run_sql("judge_responses", [scope.selection.stored(run_sql), scope.draws, takes_choices]).rows
    if scope.shard is not None:
        responses = [row for row in responses if scope.shard.holds(row[0])]
    if scope.responses is not None:
        responses = [row for row in responses if row[0] in scope.responses]
    for repeat in range(scope.repeats):
        for response_id, split, language, instruction, text, expected, expectation, by_bytes in responses:
            template = scope.templates.get(split=split, language=language)
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
    taken = tasks[: scope.limit]
    beyond = len(tasks) - len(taken)
    return taken, JudgeProgress(name, len(taken), before=ended, in_batches=in_batches, beyond=beyond)


def judge_missing(
    path: Path, judge: Judge, scope: Scope, *, on_progress: OnProgress = lambda progress: None
) -> JudgeProgress:
    """Make every judgment in ``scope`` that ``path`` lacks; after a kill, the same call resumes.

    Raises JudgeError if another process judges with the same judge, ApiError or EngineError if the judge cannot
    continue or every request failed (attempts are kept), StoreError.
    """
    with only_judge(path, judge.judge_id), open_store(path) as target:
        _, progress = make_missing(target, judge, scope, on_progress)
        return progress


def make_missing(
    target: Store, judge: Judge, scope: Scope, on_progress: OnProgress, *, first: int | None = None
) -> tuple[list[Task], JudgeProgress]:
    """Make the missing judgments, or the ``first`` of them; return those that are left, and the counts."""
    with target.reading():
        tasks, progress = plan(target.named, judge, scope)
    on_progress(progress)
    if not tasks:
        return [], progress
    target.put(context_records(judge.row, (task.template for task in tasks)))
    taken = tasks[:first]
    for attempts in judge.attempts(taken):
        target.put([one.record(judge.judge_id) for one in attempts])
        progress = progress.plus(attempts)
        on_progress(progress)
    if progress.statuses.total() == progress.statuses[HTTP_ERROR] > 0:
        raise ApiError(f"no judgment was made: {attempts[-1].verdict.error}; the same command tries again")
    return tasks[len(taken) :], progress


@contextlib.contextmanager
def only_judge(path: Path, judge_id: str, *, message: str | None = None) -> Iterator[None]:
    """Be the only process that judges this database with this judge.

    Raises JudgeError, with ``message`` if given, where another one does, StoreError without a database.
    """

    def refuse() -> NoReturn:
        raise JudgeError(message or f"another process judges {path} with this judge; wait for it")

    store.require(path)
    with store.only_one(path, f"judge-{judge_id}", refuse):
        yield


def open_store(path: Path) -> Store:
    """Open the store for a model's or the rules' judgments: many small puts, few flushes. Raises StoreError."""
    return Store(path, flush_rows=FLUSH_ROWS, flush_seconds=FLUSH_SECONDS)


def context_records(judge_row: Row, templates: Iterable[Template]) -> list[Record]:
    """Return the rows that judgments refer to: the judge and the templates."""
    by_hash = {template.sha256: template for template in templates}
    return [("judges", judge_row), *(("judge_templates", template.row()) for template in by_hash.values())]


def in_words(statuses: Mapping[str, int], scores: int | None = None) -> str:
    """Return counts by status, and the number of scores, as text, such as ``5 ok, 1 refused; 25 scores``."""
    words = {status: "partly N/A" if status == NOT_APPLICABLE else status for status in sorted(statuses)}
    counts = ", ".join(f"{statuses[status]:,} {word}" for status, word in words.items())
    return counts + ("" if scores is None else f"; {scores:,} scores") if counts else "nothing"
