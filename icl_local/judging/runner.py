"""Judge what is missing: tasks go to a judge, every attempt goes into the store before the next is looked at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from icl_local.judging import ledger
from icl_local.judging.ledger import Attempt, JudgingPlan, Scope, Task
from icl_local.store import Store

FLUSH_ROWS, FLUSH_SECONDS = 5000, 15.0  # DuckDB follows the spool at leisure: a flush takes tenths of a second


class Judge(Protocol):
    """What makes verdicts: an API or a local model."""

    @property
    def name(self) -> str:
        """Return the name that is stored and shown."""

    @property
    def judge_id(self) -> str:
        """Return the key of its row."""

    def row(self) -> dict[str, object]:
        """Row of raw.judges."""

    def attempts(self, tasks: Sequence[Task]) -> Iterator[list[Attempt]]:
        """Every attempt at ``tasks``, in lists of what is ready together. Raises IclError where it cannot go on."""


@dataclass(frozen=True)
class JudgeProgress:
    """Counts of one run of a judge (``label``): judgments requested and done (by status), attempts, tokens, USD.

    ``before`` counts what was there already, ``in_batches`` what a Batch API still has.
    """

    label: str
    requested: int
    statuses: Counter[str]
    attempts: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float | None = None
    before: int = 0
    in_batches: int = 0

    @classmethod
    def of(cls, judge: Judge, plan: JudgingPlan) -> JudgeProgress:
        """Return the counts before the first attempt."""
        return cls(judge.name, len(plan.tasks), Counter(), before=plan.ended.total(), in_batches=plan.in_batches)

    @property
    def done(self) -> int:
        """Judgments that nothing more happens to in this run."""
        return sum(self.statuses.values())

    @property
    def missing(self) -> int:
        """Judgments that the next run has to try again."""
        return self.requested - sum(count for status, count in self.statuses.items() if status not in ledger.TRANSIENT)

    @property
    def note(self) -> str:
        """Return the ended judgments by status as text, such as ``5 ok, 1 refused``."""
        return ledger.in_words(self.statuses)

    def plus(self, attempts: Sequence[Attempt]) -> JudgeProgress:
        """Return these counts with some more attempts."""
        costs = [cost for one in attempts if isinstance(cost := one.columns.get("cost_usd"), float)]
        return replace(
            self,
            statuses=self.statuses + Counter(one.verdict.status for one in attempts if one.final),
            attempts=self.attempts + len(attempts),
            prompt_tokens=self.prompt_tokens + sum(_count(one.columns.get("prompt_tokens")) for one in attempts),
            completion_tokens=self.completion_tokens
            + sum(_count(one.columns.get("completion_tokens")) for one in attempts),
            cost_usd=(self.cost_usd or 0.0) + sum(costs) if costs else self.cost_usd,
        )

    def __str__(self) -> str:
        cost = "" if self.cost_usd is None else f", ${self.cost_usd:.4f}"
        tokens = f"{self.prompt_tokens} + {self.completion_tokens} tokens"
        batches = f"; {self.in_batches} with the Batch API" if self.in_batches else ""
        return (
            f"{self.requested} judgments were missing, {self.before} were there: {self.note} "
            f"({self.attempts} attempts, {tokens}{cost}){batches}"
        )


def judge_missing(
    path: Path,
    judge: Judge,
    scope: Scope,
    *,
    on_progress: Callable[[JudgeProgress], None] = lambda progress: None,
) -> JudgeProgress:
    """Make every judgment of ``judge`` that ``path`` lacks; killed anywhere, the same call goes on from there.

    Raises JudgeError where another process judges with the same judge, ApiError or EngineError where the judge
    cannot go on (what it said until then is kept), StoreError.
    """
    with ledger.only_one(path, judge.judge_id), open_store(path) as target:
        plan = ledger.plan(target.named, judge.judge_id, scope)
        progress = JudgeProgress.of(judge, plan)
        on_progress(progress)
        if plan.tasks:
            target.put(context_records(judge, plan.tasks))
            for attempts in judge.attempts(plan.tasks):
                target.put([one.record(judge.judge_id) for one in attempts])
                progress = progress.plus(attempts)
                on_progress(progress)
        return progress


def open_store(path: Path) -> Store:
    """The store as judges use it: many small puts, few flushes."""
    return Store(path, flush_rows=FLUSH_ROWS, flush_seconds=FLUSH_SECONDS)


def context_records(judge: Judge, tasks: Sequence[Task]) -> list[ledger.Record]:
    """What the judgments refer to: the judge and the templates in use."""
    templates = {task.template.sha256: task.template for task in tasks}
    return [("judges", judge.row()), *(("judge_templates", template.row()) for template in templates.values())]


def _count(value: object) -> int:
    return value if isinstance(value, int) else 0
