"""Import judgments of just-eval: this project's parser reads the raw ``result``; ``parsed_result`` is not used.

A judgment belongs to the response with the same text, instruction, model and query id: a set may repeat a query, and a
model its answer. Where the ids are of another copy of the set, such judgments go to such responses in order, one to
one. If no response is left, the text is imported as one first.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from icl_local import exchange, store
from icl_local.exceptions import InputError
from icl_local.identity import judgment_key, key_of
from icl_local.judging.ledger import Attempt, Task, in_words
from icl_local.judging.parse import parse_verdict
from icl_local.judging.template import Template, template_of_items
from icl_local.prompting import JsonItem
from icl_local.store import Record, Row
from icl_local.wording import counted

_ITEMS_A_PUT = 200


@dataclass(frozen=True)
class ImportedVerdicts:
    """Counts: judgments read, new ones by status, items without a verdict, and responses imported with them.

    ``assumed_english`` counts those responses whose items name no language.
    """

    read: int
    added: Counter[str]
    not_judged: int
    new_responses: int
    assumed_english: int = 0

    def __str__(self) -> str:
        text = f"{counted(self.read, 'judgment')} read, {self.added.total():,} new ({in_words(self.added)})"
        if self.not_judged:
            text += f", {counted(self.not_judged, 'item')} without a verdict"
        return text + (f", {counted(self.new_responses, 'response')} imported with them" if self.new_responses else "")


def import_judgments(
    target: store.Store, items: Sequence[JsonItem], *, source: str, language: str | None = None
) -> ImportedVerdicts:
    """Store the verdicts of a just-eval file of one mode; ``source`` is its file name, ``language`` that of its texts.

    Raises InputError naming file and line for an item that is not a judgment, and if no template fits all prompts.
    """
    for item in items:
        _check(item)
    if language:
        items = [replace(item, data={**item.data, "language": language}) for item in items]
    template = template_of_items([item.data for item in items], source)
    safety = template.name.endswith("safety")
    found = _responses(target, items)
    missing = [_as_output(item, safety=safety) for item, response in zip(items, found, strict=True) if response is None]
    assumed = 0
    if missing:
        assumed = exchange.import_outputs(target, missing, source=source, language=language).assumed_english
        found = _responses(target, items)
    have = store.ids(target.path, "judgments", "judgment_id")
    added: Counter[str] = Counter()
    records: list[Record] = [("judge_templates", template.row())]
    pairs = zip(items, found, strict=True)
    judged = [pair for pair in pairs if pair[0].data.get("result", exchange.NOT_JUDGED) != exchange.NOT_JUDGED]
    for item, response in judged:
        judge = _judge_row(item)
        attempt = _attempt(item, response or "", str(judge["judge_id"]), template)
        if attempt.task.judgment_id not in have:
            have.add(attempt.task.judgment_id)
            added[attempt.verdict.status] += 1
            records += [("judges", judge), attempt.record(str(judge["judge_id"]))]
    for start in range(0, len(records), _ITEMS_A_PUT):
        target.put(records[start : start + _ITEMS_A_PUT])
    return ImportedVerdicts(len(judged), added, len(items) - len(judged), len(missing), assumed)


def _check(item: JsonItem) -> None:
    for name in ("input", "output_cand", "generator_cand", "prompt"):
        item.text(name)
    if not isinstance(item.data.get("eval_config"), dict):
        raise InputError(f"{item.place}: has no eval_config; is it a judgment of just-eval?")
    if not isinstance(item.data.get("result", exchange.NOT_JUDGED), str):
        raise InputError(f"{item.place}: `result` is not a text")


def _responses(target: store.Store, items: Sequence[JsonItem]) -> list[str | None]:
    """Return the response that each item judges; None where the database has none."""
    texts = list({item.data["output_cand"] for item in items})
    rows = target.named("responses_of_texts", [texts]).dicts()
    said: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        said.setdefault((row["instruction"], row["text"]), []).append(row)
    candidates = [_of_model(item, said.get((item.data["input"], item.data["output_cand"]), [])) for item in items]
    found = [responses.get(str(item.data.get("id"))) for item, responses in zip(items, candidates, strict=True)]
    taken = set(found)
    for place, responses in enumerate(candidates):
        if found[place] is None:
            found[place] = next((one for one in responses.values() if one not in taken), None)
            taken.add(found[place])
    return found


def _of_model(item: JsonItem, candidates: Sequence[Row]) -> dict[str, str]:
    """Return query id -> response of the item's model, method, language and DPO, as far as it names them.

    Without a ``model`` it is the one whose name ``generator_cand`` begins with; the longest name wins.
    """
    own = {name: item.data[name] for name in exchange.MAKER if item.data.get(name) is not None}
    if "model" not in own:
        generator = item.data["generator_cand"].rstrip("/").rsplit("/", 1)[-1].strip()
        names = [row["model"] for row in candidates if generator.startswith(row["model"])]
        own["model"] = max(names, key=len, default=None)
    return {
        row["query_id"]: row["response_id"]
        for row in candidates
        if all(row[name] == value for name, value in own.items())
    }


def _as_output(item: JsonItem, *, safety: bool) -> JsonItem:
    """Return the judged text in the form of just-eval's output files; ids of its safety file begin at 0 again."""
    data: dict[str, Any] = {
        "instruction": item.data["input"],
        "output": item.data["output_cand"],
        "generator": item.data["generator_cand"],
        "id": item.data.get("id"),
        "datasplit": "just_red" if safety else "just_eval",
        **{name: item.data[name] for name in exchange.MAKER if name in item.data},
    }
    return JsonItem(item.place, data)


def _judge_row(item: JsonItem) -> dict[str, object]:
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


def _attempt(item: JsonItem, response_id: str, judge_id: str, template: Template) -> Attempt:
    key = judgment_key(response_id=response_id, judge_id=judge_id, template_sha256=template.sha256, repeat=0)
    task = Task(key, 1, response_id, template, 0)
    verdict = parse_verdict(item.data["result"], template.aspects)
    return Attempt(task, verdict, columns={"raw_reply": item.data["result"], "structured": "text"})
