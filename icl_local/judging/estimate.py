"""Estimate the tokens and the money that missing judgments take, without a request to the judge.

Tokens follow the judge's earlier judgments where there are enough of them; prices come from the price table.
"""

import functools
from pathlib import Path
from typing import NamedTuple

from icl_local import store
from icl_local.judging import ledger, power
from icl_local.judging.judges import ApiJudge, Judge
from icl_local.judging.ledger import JudgingPlan, RunSql, Scope, Task
from icl_local.judging.rules import RulesJudge
from icl_local.judging.template import Template
from icl_local.openai_client import Price
from icl_local.results import Table

_CHARACTERS_PER_TOKEN = 4.0  # English with OpenAI's tokenizers; Spanish and French need about a tenth more tokens
_TOKENS_PER_ASPECT = 50  # just-eval's published GPT-4 verdicts: 230 tokens for five aspects, 75 for safety alone
_TOKENS_PER_VERDICT = 25
_ENOUGH = 20  # earlier judgments, before their ratios are trusted


class Estimate(NamedTuple):
    """Missing judgments of one split and language; ``usd`` is None where no price is known."""

    split: str
    language: str
    template: str
    missing: int
    prompt_tokens: int
    completion_tokens: int
    usd: float | None


def preview(path: Path, judge: Judge, scope: Scope, *, batch: bool = False) -> Table:
    """Return a table of estimates for each split and language, and for all; notes say what exists and the price.

    It only reads the database. ``batch`` takes the Batch API's price.
    """
    run_sql = functools.partial(store.named, path)
    price = judge.client.price if isinstance(judge, ApiJudge) else None
    with store.reader(path):  # the queries share its open file
        plan = ledger.plan(run_sql, judge.judge_id, scope)
        *_, total = estimates = _estimates(run_sql, judge.judge_id, plan, price, batch=batch)
    batches = f"; in batches: {plan.in_batches}" if plan.in_batches else ""
    notes = [f"there already: {ledger.in_words(plan.ended)}{batches}"]
    if price is not None:
        ends = f"; the model is shut down on {price.shutdown}" if price.shutdown else ""
        notes.append(f"prices of {price.as_of}: ${price.input:g} in, ${price.output:g} out per million tokens{ends}")
    elif isinstance(judge, ApiJudge):
        notes.append("no price is known for this model at this server; give one with --prices")
    notes += power.notes(path, judge.name, total.usd / total.missing if total.usd and total.missing else None)
    return Table(judge.name, Estimate._fields, [*estimates], tuple(notes))


def missing_tokens(path: Path, judge: Judge | RulesJudge | None, scope: Scope) -> tuple[int, int, int]:
    """Return the missing judgments in ``scope``, and their prompt and completion tokens.

    ``judge`` None has judged nothing. It only reads the database.
    """
    run_sql = functools.partial(store.named, path)
    judge_id = "" if judge is None else judge.judge_id
    with store.reader(path):  # the queries share its open file
        total = _estimates(run_sql, judge_id, ledger.plan(run_sql, judge_id, scope), None, batch=False)[-1]
    return total.missing, total.prompt_tokens, total.completion_tokens


def guess(template: Template) -> tuple[float, int]:
    """Return characters of a prompt token and tokens of a verdict, for a judge with few judgments so far."""
    return _CHARACTERS_PER_TOKEN, _TOKENS_PER_VERDICT + _TOKENS_PER_ASPECT * len(template.aspects)


def _estimates(
    run_sql: RunSql, judge_id: str, plan: JudgingPlan, price: Price | None, *, batch: bool
) -> list[Estimate]:
    measured = {
        sha: (characters / prompt_tokens, completion_tokens / n)
        for sha, n, characters, prompt_tokens, completion_tokens in run_sql("judge_tokens", [judge_id]).rows
        if n >= _ENOUGH
    }

    def estimate(split: str, language: str, template: str, missing: int, prompt: int, completion: int) -> Estimate:
        usd = None if price is None else price.usd(prompt, completion, batch=batch)
        return Estimate(split, language, template, missing, prompt, completion, usd)

    groups: dict[tuple[str, str, str], list[Task]] = {}
    for task in plan.tasks:
        groups.setdefault((task.split, task.language, task.template.name), []).append(task)
    found = []
    for group, tasks in sorted(groups.items()):
        template = tasks[0].template
        per_token, per_verdict = measured.get(template.sha256, guess(template))
        prompt_tokens = round(sum(len(task.prompt) for task in tasks) / per_token)
        found.append(estimate(*group, len(tasks), prompt_tokens, round(per_verdict * len(tasks))))
    prompt_tokens, completion_tokens = sum(e.prompt_tokens for e in found), sum(e.completion_tokens for e in found)
    return [*found, estimate("all", "", "", len(plan.tasks), prompt_tokens, completion_tokens)]
