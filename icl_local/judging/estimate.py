"""What missing judgments will take: tokens from the ledger's own ratios where there are some, money from the table."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from icl_local import store
from icl_local.judging import ledger
from icl_local.judging.ledger import JudgingPlan, RunSql, Selection, Task
from icl_local.judging.runner import Judge
from icl_local.judging.template import Templates
from icl_local.openai_client import Price

CHARACTERS_PER_TOKEN = 4.0  # English with OpenAI's tokenizers; Spanish and French need about a tenth more tokens
TOKENS_PER_ASPECT = 50  # the peer's published GPT-4 verdicts: 230 tokens for five aspects, 75 for safety alone
TOKENS_PER_VERDICT = 25
_ENOUGH = 20  # judgments of the ledger, before its ratios are trusted

COLUMNS = ("split", "language", "template", "missing", "prompt_tokens", "completion_tokens", "usd")


@dataclass(frozen=True)
class Estimate:
    """Missing judgments of one split and language; ``usd`` is None where no price is stated."""

    split: str
    language: str
    template: str
    missing: int
    prompt_tokens: int
    completion_tokens: int
    usd: float | None

    def cells(self) -> tuple[object, ...]:
        """The values under COLUMNS."""
        return tuple(getattr(self, name) for name in COLUMNS)


def estimate(
    run_sql: RunSql, judge_id: str, plan: JudgingPlan, price: Price | None, *, batch: bool = False
) -> list[Estimate]:
    """One line a split and language, and a line ``all``."""
    measured = {
        sha: (characters / prompt_tokens, completion_tokens / n)
        for sha, n, characters, prompt_tokens, completion_tokens in run_sql("judge_tokens", [judge_id]).rows
        if n >= _ENOUGH
    }
    groups: dict[tuple[str, str, str], list[Task]] = {}
    for task in plan.tasks:
        groups.setdefault((task.split, task.language, task.template.name), []).append(task)
    lines = []
    for (split, language, name), tasks in sorted(groups.items()):
        template = tasks[0].template
        guess = (CHARACTERS_PER_TOKEN, float(TOKENS_PER_VERDICT + TOKENS_PER_ASPECT * len(template.aspects)))
        per_token, per_verdict = measured.get(template.sha256, guess)
        prompt_tokens = round(sum(len(task.prompt) for task in tasks) / per_token)
        completion_tokens = round(per_verdict * len(tasks))
        lines.append(_line(split, language, name, len(tasks), prompt_tokens, completion_tokens, price, batch))
    return [*lines, _total(lines, price, batch)]


def _total(lines: Sequence[Estimate], price: Price | None, batch: bool) -> Estimate:
    missing = sum(line.missing for line in lines)
    prompt_tokens = sum(line.prompt_tokens for line in lines)
    return _line("all", "", "", missing, prompt_tokens, sum(line.completion_tokens for line in lines), price, batch)


def _line(
    split: str,
    language: str,
    template: str,
    missing: int,
    prompt_tokens: int,
    completion_tokens: int,
    price: Price | None,
    batch: bool,
) -> Estimate:
    usd = None if price is None else price.usd(prompt_tokens, completion_tokens, batch=batch)
    return Estimate(split, language, template, missing, prompt_tokens, completion_tokens, usd)


def preview(
    path: Path,
    judge: Judge,
    *,
    templates: Templates,
    repeats: int = 1,
    selection: Selection | None = None,
    price: Price | None = None,
    batch: bool = False,
) -> tuple[JudgingPlan, list[Estimate]]:
    """What is missing and what it will take, from reading the database alone; nobody is asked."""
    run_sql = functools.partial(store.named, path)
    plan = ledger.plan(run_sql, judge.judge_id, templates, repeats=repeats, selection=selection or Selection())
    return plan, estimate(run_sql, judge.judge_id, plan, price, batch=batch)
