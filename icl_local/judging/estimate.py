"""Estimate the tokens and the money that missing judgments take, without a request to the judge.

Tokens follow the judge's earlier judgments where there are enough of them; prices come from the price table.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from icl_local import store
from icl_local.judging import ledger
from icl_local.judging.judges import ApiJudge, Judge
from icl_local.judging.ledger import JudgingPlan, RunSql, Scope, Task
from icl_local.openai_client import Price
from icl_local.results import Table

CHARACTERS_PER_TOKEN = 4.0  # English with OpenAI's tokenizers; Spanish and French need about a tenth more tokens
TOKENS_PER_ASPECT = 50  # the peer's published GPT-4 verdicts: 230 tokens for five aspects, 75 for safety alone
TOKENS_PER_VERDICT = 25
COLUMNS = ("split", "language", "template", "missing", "prompt_tokens", "completion_tokens", "usd")
_ENOUGH = 20  # earlier judgments, before their ratios are trusted


def preview(path: Path, judge: Judge, scope: Scope, *, batch: bool = False) -> Table:
    """Return a table of estimates for each split and language, and for all; notes say what exists and the price.

    It only reads the database. ``batch`` takes the Batch API's price.
    """
    run_sql = functools.partial(store.named, path)
    plan = ledger.plan(run_sql, judge.judge_id, scope)
    price = judge.client.price if isinstance(judge, ApiJudge) else None
    rows = _estimates(run_sql, judge.judge_id, plan, price, batch=batch)
    batches = f"; in batches: {plan.in_batches}" if plan.in_batches else ""
    notes = [f"there already: {ledger.in_words(plan.ended)}{batches}"]
    if price is not None:
        ends = f"; the model is shut down on {price.shutdown}" if price.shutdown else ""
        notes.append(f"prices of {price.as_of}: ${price.input:g} in, ${price.output:g} out per million tokens{ends}")
    elif isinstance(judge, ApiJudge):
        notes.append("no price is known for this model at this server; give one with --prices")
    return Table(judge.name, COLUMNS, rows, tuple(notes))


def missing_tokens(path: Path, judge: Judge | None, scope: Scope) -> tuple[int, int, int]:
    """Return the missing judgments in ``scope``, and their prompt and completion tokens; no judge has judged nothing.

    It only reads the database.
    """
    run_sql = functools.partial(store.named, path)
    judge_id = "" if judge is None else judge.judge_id
    total = _estimates(run_sql, judge_id, ledger.plan(run_sql, judge_id, scope), None, batch=False)[-1]
    return total.missing, total.prompt_tokens, total.completion_tokens


def _estimates(
    run_sql: RunSql, judge_id: str, plan: JudgingPlan, price: Price | None, *, batch: bool
) -> list[tuple[Any, ...]]:
    """Return rows of COLUMNS; usd is None where no price is known."""
    measured = {
        sha: (characters / prompt_tokens, completion_tokens / n)
        for sha, n, characters, prompt_tokens, completion_tokens in run_sql("judge_tokens", [judge_id]).rows
        if n >= _ENOUGH
    }

    def estimate(*group: str, missing: int, prompt: int, completion: int) -> tuple[Any, ...]:
        usd = None if price is None else price.usd(prompt, completion, batch=batch)
        return (*group, missing, prompt, completion, usd)

    groups: dict[tuple[str, str, str], list[Task]] = {}
    for task in plan.tasks:
        groups.setdefault((task.split, task.language, task.template.name), []).append(task)
    found = []
    for group, tasks in sorted(groups.items()):
        template = tasks[0].template
        guess = (CHARACTERS_PER_TOKEN, float(TOKENS_PER_VERDICT + TOKENS_PER_ASPECT * len(template.aspects)))
        per_token, per_verdict = measured.get(template.sha256, guess)
        prompt_tokens = round(sum(len(task.prompt) for task in tasks) / per_token)
        completion_tokens = round(per_verdict * len(tasks))
        found.append(estimate(*group, missing=len(tasks), prompt=prompt_tokens, completion=completion_tokens))
    prompt_tokens, completion_tokens = (sum(row[COLUMNS.index(name)] for row in found) for name in COLUMNS[4:6])
    whole = estimate("all", "", "", missing=len(plan.tasks), prompt=prompt_tokens, completion=completion_tokens)
    return [*found, whole]
