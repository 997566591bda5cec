"""Make the missing judgments: every attempt of the judge is stored before the next one is read."""

from collections.abc import Callable
from pathlib import Path

from icl_local.exceptions import ApiError
from icl_local.judging import ledger
from icl_local.judging.ledger import HTTP_ERROR, Judge, JudgeProgress, Scope, Task
from icl_local.store import Store

OnProgress = Callable[[JudgeProgress], None]


def judge_missing(
    path: Path, judge: Judge, scope: Scope, *, on_progress: OnProgress = lambda progress: None
) -> JudgeProgress:
    """Make every judgment in ``scope`` that ``path`` lacks; after a kill, the same call resumes.

    Raises JudgeError if another process judges with the same judge, ApiError or EngineError if the judge cannot
    continue or every request failed (attempts are kept), StoreError.
    """
    with ledger.open_store(path, judge.judge_id) as target:
        return make(target, judge, scope, on_progress)[1]


def make(
    target: Store, judge: Judge, scope: Scope, on_progress: OnProgress, *, first: int | None = None
) -> tuple[list[Task], JudgeProgress]:
    """Make the missing judgments, or the ``first`` of them; return all that were missing, and the counts."""
    with target.reading():
        tasks, progress = ledger.plan(target.named, judge, scope)
    on_progress(progress)
    if not tasks:
        return tasks, progress
    target.put(ledger.context_records(judge.row(), (task.template for task in tasks)))
    for attempts in judge.attempts(tasks[:first]):
        target.put([one.record(judge.judge_id) for one in attempts])
        progress = progress.plus(attempts)
        on_progress(progress)
    if progress.statuses.total() == progress.statuses[HTTP_ERROR] > 0:
        raise ApiError(f"no judgment was made: {attempts[-1].verdict.error}; the same command tries again")
    return tasks, progress
