"""Make the missing judgments: every attempt of the judge is stored before the next one is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from icl_local.exceptions import ApiError
from icl_local.judging import ledger
from icl_local.judging.judges import Judge
from icl_local.judging.ledger import Attempt, JudgingPlan, Scope, Task
from icl_local.judging.rules import RulesJudge
from icl_local.store import TRANSIENT, Record, Store
from icl_local.wording import counted

FLUSH_ROWS, FLUSH_SECONDS = 5000, 15.0  # DuckDB may lag behind the spool: a flush takes tenths of a second


@dataclass(frozen=True)
class JudgeProgress:
    """Counts of one run of a judge (``label``): judgments requested and done, by status, scores, attempts, tokens, USD.

    ``before`` counts the existing judgments by status, ``in_batches`` those that the Batch API has not returned,
    ``beyond`` the missing ones that a limit left out.
    """

    label: str
    requested: int
    statuses: Counter[str]
    scores: int = 0
    attempts: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float | None = None
    before: Counter[str] = field(default_factory=Counter)
    in_batches: int = 0
    beyond: int = 0

    @classmethod
    def of(cls, judge: Judge | RulesJudge, plan: JudgingPlan) -> JudgeProgress:
        """Return the counts before the first attempt."""
        taken = len(plan.tasks)
        beyond = max(0, plan.missing - taken)
        return cls(judge.name, taken, Counter(), before=plan.ended, in_batches=plan.in_batches, beyond=beyond)

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
        return ledger.in_words(self.statuses)

    def plus(self, attempts: Sequence[Attempt]) -> JudgeProgress:
        """Return these counts with some more attempts."""
        costs = [cost for one in attempts if isinstance(cost := one.columns.get("cost_usd"), float)]
        return replace(
            self,
            statuses=self.statuses + Counter(one.verdict.status for one in attempts if one.final),
            scores=self.scores + sum(one.verdict.n_scores for one in attempts),
            attempts=self.attempts + len(attempts),
            prompt_tokens=self.prompt_tokens + sum(_count(one.columns.get("prompt_tokens")) for one in attempts),
            completion_tokens=self.completion_tokens
            + sum(_count(one.columns.get("completion_tokens")) for one in attempts),
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
        before = f" ({ledger.in_words(self.before)})" if self.before else ""
        return (
            f"{missing} missing{limited}, {counted(self.before.total(), 'was', 'were')} there{before}: "
            f"{ledger.in_words(self.statuses, self.scores)} "
            f"({counted(self.attempts, 'attempt')}{tokens}{cost}){batches}"
        )


def judge_missing(
    path: Path,
    judge: Judge | RulesJudge,
    scope: Scope,
    *,
    on_progress: Callable[[JudgeProgress], None] = lambda progress: None,
) -> JudgeProgress:
    """Make every judgment in ``scope`` that ``path`` lacks; after a kill, the same call resumes.

    Raises JudgeError if another process judges with the same judge, ApiError or EngineError if the judge cannot
    continue or every request failed (attempts are kept), StoreError.
    """
    with ledger.only_one(path, judge.judge_id), open_store(path) as target:
        with target.reading():
            plan = ledger.plan(target.named, judge.judge_id, scope)
        progress = JudgeProgress.of(judge, plan)
        on_progress(progress)
        if plan.tasks:
            target.put(context_records(judge, plan.tasks))
            for attempts in judge.attempts(plan.tasks):
                target.put([one.record(judge.judge_id) for one in attempts])
                progress = progress.plus(attempts)
                on_progress(progress)
            if progress.statuses.total() == progress.statuses[ledger.HTTP_ERROR] > 0:
                raise ApiError(f"no judgment was made: {attempts[-1].verdict.error}; the same command tries again")
        return progress


def open_store(path: Path) -> Store:
    """Open the store for judges: many small puts, few flushes."""
    return Store(path, flush_rows=FLUSH_ROWS, flush_seconds=FLUSH_SECONDS)


def context_records(judge: Judge | RulesJudge, tasks: Sequence[Task]) -> list[Record]:
    """Return the rows that judgments refer to: the judge and the templates of the tasks."""
    templates = {task.template.sha256: task.template for task in tasks}
    return [("judges", judge.row()), *(("judge_templates", template.row()) for template in templates.values())]


def _count(value: object) -> int:
    return value if isinstance(value, int) else 0
