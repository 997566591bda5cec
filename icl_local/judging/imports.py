"""Judgments that just-eval made: its raw ``result`` is read by this project's own parser, never its ``parsed_result``.

A judgment goes to the response that says the same, to the same instruction, by the same model; where there is none,
the text comes in as an imported response first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from icl_local import exchange, store
from icl_local.exceptions import InputError
from icl_local.identity import judgment_key, key_of
from icl_local.judging.ledger import Attempt, Record, Task
from icl_local.judging.parse import parse_verdict
from icl_local.judging.template import Template, template_of_items
from icl_local.prompting import Item

_NOT_JUDGED = "N/A"  # just-eval's `result` before a verdict is there
_ITEMS_A_PUT = 200


@dataclass(frozen=True)
class Imported:
    """Judgments read, those new to the database by status, items without a verdict, and responses that came along."""

    read: int
    added: Counter[str]
    not_judged: int
    new_responses: int

    def __str__(self) -> str:
        statuses = ", ".join(f"{count:,} {status}" for status, count in sorted(self.added.items())) or "none"
        told = f"{self.read:,} judgments read, {self.added.total():,} new ({statuses})"
        if self.not_judged:
            told += f", {self.not_judged:,} items hold no verdict"
        return told + (f", {self.new_responses:,} responses came with them" if self.new_responses else "")


def import_judgments(
    target: store.Store, items: Sequence[Item], *, source: str, language: str | None = None
) -> Imported:
    """Store the verdicts of a just-eval file of one mode; ``source`` is its last path part, ``language`` its texts'.

    Raises InputError naming file and line for an item that is no judgment, and where no one template fits all prompts.
    """
    for item in items:
        _check(item)
    template = template_of_items([item.data for item in items], source)
    safety = template.name.endswith("safety")
    found = _responses(target, items)
    lacking = [_as_output(item, safety=safety) for item, response in zip(items, found, strict=True) if response is None]
    if lacking:
        exchange.import_outputs(target, lacking, source=source, language=language)
        found = _responses(target, items)
    have = store.ids(target.path, "judgments", "judgment_id")
    added: Counter[str] = Counter()
    records: list[Record] = [("judge_templates", template.row())]
    judged = [(item, response) for item, response in zip(items, found, strict=True) if _is_judged(item)]
    for item, response in judged:
        judge = _judge_row(item)
        attempt = _attempt(item, response or "", str(judge["judge_id"]), template)
        if attempt.task.judgment_id not in have:
            have.add(attempt.task.judgment_id)
            added[attempt.verdict.status] += 1
            records += [("judges", judge), attempt.record(str(judge["judge_id"]))]
    for start in range(0, len(records), _ITEMS_A_PUT):
        target.put(records[start : start + _ITEMS_A_PUT])
    return Imported(len(judged), added, len(items) - len(judged), len(lacking))


def _check(item: Item) -> None:
    for name in ("input", "output_cand", "generator_cand", "prompt"):
        item.text(name)
    if not isinstance(item.data.get("eval_config"), dict):
        raise InputError(f"{item.place}: has no eval_config; is it a judgment of just-eval?")
    if not isinstance(item.data.get("result", _NOT_JUDGED), str):
        raise InputError(f"{item.place}: `result` is no text")


def _is_judged(item: Item) -> bool:
    return str(item.data.get("result", _NOT_JUDGED)) != _NOT_JUDGED


def _responses(target: store.Store, items: Sequence[Item]) -> list[str | None]:
    """The response each item judges, as far as the database has it."""
    texts = list({item.data["output_cand"] for item in items})
    rows = target.named("responses_of_texts", [texts]).rows
    said: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for response_id, model, instruction, text in rows:
        said.setdefault((instruction, text), []).append((model, response_id))
    return [_by_model(item, said.get((item.data["input"], item.data["output_cand"]), [])) for item in items]


def _by_model(item: Item, candidates: Sequence[tuple[str, str]]) -> str | None:
    """The response of the model that ``generator_cand`` names or begins with; the longest name wins."""
    name = item.data["generator_cand"].rstrip("/").rsplit("/", 1)[-1].strip()
    same = [(model, response_id) for model, response_id in candidates if name.startswith(model)]
    return max(same, key=lambda one: len(one[0]))[1] if same else None


def _as_output(item: Item, *, safety: bool) -> Item:
    """The judged text as just-eval's output files hold it; ids of its safety file begin at 0 again."""
    data: dict[str, Any] = {
        "instruction": item.data["input"],
        "output": item.data["output_cand"],
        "generator": item.data["generator_cand"],
        "id": item.data.get("id"),
        "datasplit": "just_red" if safety else "just_eval",
    }
    return Item(item.file, item.line, data)


def _judge_row(item: Item) -> dict[str, object]:
    config = item.data["eval_config"]
    model = str(config.get("gpt") or "unknown")
    settings = {"max_words": config.get("max_words", -1)}
    return {
        "judge_id": key_of(kind="judge", backend="imported", model=model, settings=settings),
        "name": f"just-eval:{model}",
        "backend": "imported",
        "model": model,
        "settings": settings,
    }


def _attempt(item: Item, response_id: str, judge_id: str, template: Template) -> Attempt:
    key = judgment_key(response_id=response_id, judge_id=judge_id, template_sha256=template.sha256, repeat=0)
    task = Task(key, 1, response_id, template, 0)
    verdict = parse_verdict(item.data["result"], template.aspects)
    return Attempt(task, 1, verdict, columns={"raw_reply": item.data["result"], "structured": "text"})
