"""Estimate the tokens and the money that missing judgments take, without a request to the judge.

Tokens follow the judge's earlier judgments where there are enough of them; prices come from the price table.
"""

import functools
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from icl_local import store
from icl_local.judging import ledger, power
from icl_local.judging.judges import ApiJudge, ChatJudge
from icl_local.judging.ledger import Judge, JudgeProgress, Scope
from icl_local.judging.template import Template
from icl_local.results import Table

_CHARACTERS_PER_TOKEN = 4.0  # English with OpenAI's tokenizers; Spanish and French need about a tenth more tokens
_TOKENS_PER_ASPECT = 50  # just-eval's published GPT-4 verdicts: 230 tokens for five aspects, 75 for safety alone
_TOKENS_PER_VERDICT = 25
_ENOUGH = 20  # earlier judgments, before their ratios are trusted


class Estimate(NamedTuple):
    """Missing judgments of one split and language, or of all; ``usd`` is None where no price is known."""

    split: str
    language: str
    template: str
    missing: int
    prompt_tokens: int
    completion_tokens: int
    usd: float | None

    @property
    def usd_per_verdict(self) -> float | None:
        """Return the price of one judgment, if there is a price and a judgment."""
        return self.usd / self.missing if self.usd is not None and self.missing else None


class Load(NamedTuple):
    """A number of prompts for a judge, and their characters in all."""

    split: str
    language: str
    template: Template
    n: int
    characters: float


def preview(path: Path, judge: ChatJudge, scope: Scope, *, batch: bool = False) -> Table:
    """Return a table of estimates for each split and language, and for all; notes say what exists and the price.

    It only reads the database. ``batch`` takes the Batch API's price.
    """
    store.require(path)
    rows, total, progress = estimates(path, judge, scope, batch=batch)
    batches = f"; in batches: {progress.in_batches}" if progress.in_batches else ""
    notes = [f"there already: {ledger.in_words(progress.before)}{batches}"]
    if price := judge.client.price:
        ends = f"; the model is shut down on {price.shutdown}" if price.shutdown else ""
        notes.append(f"prices of {price.as_of}: ${price.input:g} in, ${price.output:g} out per million tokens{ends}")
    elif isinstance(judge, ApiJudge):
        notes.append("no price is known for this model at this server; give one with --prices")
    notes += power.notes(path, judge.name, total.usd_per_verdict)
    return Table(judge.name, Estimate._fields, [*rows, total], tuple(notes))


def estimates(
    path: Path, judge: Judge | None, scope: Scope, to_come: Iterable[Load] = (), *, batch: bool = False
) -> tuple[list[Estimate], Estimate, JudgeProgress]:
    """Return estimates of the judgments missing in ``scope`` with those ``to_come``, and the counts in ``scope``.

    The estimates are one for each split and language, then one for all. ``judge`` None has judged nothing. It only
    reads the database, which need not exist.
    """
    loads, progress, before = [*to_come], JudgeProgress("", 0), []
    if store.exists(path):
        run_sql = functools.partial(store.named, path)
        with store.reader(path):  # the queries share its open file
            tasks, progress = ledger.plan(run_sql, judge, scope)
            before = run_sql("judge_tokens", [judge.judge_id]).rows if judge else []
        loads += [Load(task.split, task.language, task.template, 1, len(task.prompt)) for task in tasks]
    measured = {
        sha: (characters / prompt_tokens, completion_tokens / n)
        for sha, n, characters, prompt_tokens, completion_tokens in before
        if n >= _ENOUGH
    }
    groups: dict[tuple[str, str, str], list[Load]] = {}
    for load in loads:
        groups.setdefault((load.split, load.language, load.template.name), []).append(load)
    price = judge.client.price if isinstance(judge, ChatJudge) else None

    def estimate(group: tuple[str, str, str], missing: int, prompt_tokens: int, completion_tokens: int) -> Estimate:
        usd = price.usd(prompt_tokens, completion_tokens, batch=batch) if price else None
        return Estimate(*group, missing, prompt_tokens, completion_tokens, usd)

    found = []
    for group, some in sorted(groups.items()):
        template, n = some[0].template, sum(load.n for load in some)
        guess = _CHARACTERS_PER_TOKEN, _TOKENS_PER_VERDICT + _TOKENS_PER_ASPECT * len(template.aspects)
        per_token, per_verdict = measured.get(template.sha256, guess)
        characters = sum(load.characters for load in some)
        found.append(estimate(group, n, round(characters / per_token), round(per_verdict * n)))
    sums = (sum(getattr(one, name) for one in found) for name in ("missing", "prompt_tokens", "completion_tokens"))
    return found, estimate(("all", "", ""), *sums), progress
