"""Import of other tools' outputs: lists of {instruction, output, generator} as just-eval and AlpacaEval write them.

A text is matched to a known query by the exact text of its instruction, because ids differ between copies of a set;
docs/exchange.md has the rules.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from icl_local import __version__, detect, store
from icl_local.exceptions import InputError
from icl_local.identity import cell_key, key_of
from icl_local.prompting import JsonItem, Query, QuerySet, json_items, query_from_item
from icl_local.store import Row
from icl_local.weights.registry import NamedModel
from icl_local.wording import counted

METHOD = "imported"
MAKER = ("model", "method", "language", "dpo")  # keys of `icl export` that say who made a text
LANGUAGE = "en"  # of texts that name none
NOT_JUDGED = "N/A"  # just-eval's `result` before the verdict exists
_FILE_SUFFIXES = (".json", ".jsonl", ".gguf")  # removed from a generator's name, unlike the .5 of v1.5
_ITEMS_A_PUT = 200


@dataclass(frozen=True)
class Imported:
    """Number of items read, of new responses, and of items whose query is not known.

    ``assumed_english`` counts those of the last that name no language either.
    """

    read: int
    added: int
    unmatched: int
    assumed_english: int = 0

    def __str__(self) -> str:
        return f"{counted(self.read, 'output')} read, {self.added:,} new"


def holds_judgments(items: Sequence[JsonItem]) -> bool:
    """Return whether these are just-eval's verdicts (``output_cand``, ``result``) and not outputs."""
    return bool(items) and "output_cand" in items[0].data


def import_outputs(
    target: store.Store,
    items: Sequence[JsonItem],
    *,
    source: str,
    model: str | None = None,
    method: str | None = None,
    language: str | None = None,
    known: QuerySet | None = None,
) -> Imported:
    """Store other tools' outputs, each text unchanged and scanned for critical errors.

    ``source`` is the file's name. ``model``, ``method`` and ``language`` replace every item's own; an item without them
    has its ``generator`` as model, ``imported`` as method, and is in English.
    ``known`` are the queries to match, by default the database's. Raises InputError with file and line, before
    anything is stored, for an item without instruction, output or generator.
    """
    outputs = [_Output(item, model=model, method=method, language=language) for item in items]
    with target.reading():
        queries = _stored(target, {one.language for one in outputs}) if known is None else known.queries
        matched = list(_matched(outputs, queries))
        new: dict[str, tuple[_Output, Query]] = {}
        for one, match in matched:
            new.setdefault(one.response_id(source), (one, match or one.unknown_query()))
        cells = {key: _cell_row(one, query, source=source) for key, (one, query) in new.items()}
        _refuse_second_texts(target, new, cells)
        for response_id in store.ids(target.path, "responses", "response_id") & new.keys():
            del new[response_id]
        completed = _completed_queries(target, matched)
    target.put(completed)

    started_at = store.now()
    run_id = key_of(kind="run", command="import", source=source, started_at=started_at, process=os.getpid())
    run = {"run_id": run_id, "command": "import", "version": __version__, "started_at": started_at}
    pending = list(new.items())
    for start in range(0, len(pending), _ITEMS_A_PUT):
        batch = pending[start : start + _ITEMS_A_PUT]
        rows: dict[tuple[str, str], tuple[str, Row]] = {("run", run_id): ("runs", run)}  # shared rows once a batch
        for response_id, (one, query) in batch:
            rows["dataset", query.dataset] = ("datasets", _dataset_row(query.dataset, source, known))
            rows["query", query.key] = ("queries", query.row())
            rows["model", one.model.model_id] = ("models", one.model.model_row())
            cell = cells[response_id]
            rows["cell", str(cell["cell_id"])] = ("cells", cell)
            response = one.row(response_id, query, run_id=run_id, source=source)
            rows["response", response_id] = ("responses", {**response, "cell_id": cell["cell_id"]})
            for error in detect.critical_error_rows(response_id, detect.find_answer(one.text)):
                rows[f"{error['error']}", response_id] = ("critical_errors", error)
        target.put(list(rows.values()))
    unmatched = [one for one, match in matched if match is None]
    assumed = 0 if language else sum(one.item.data.get("language") is None for one in unmatched)
    return Imported(len(items), len(new), len(unmatched), assumed)


def _cell_row(one: _Output, query: Query, *, source: str) -> Row:
    """Return the row of raw.cells for texts of one file, model, method, data set and language."""
    parts = {
        "weights": f"imported:{source}:{one.model.model_id}",
        "recipe": f"imported:{one.method}",
        "dataset": query.dataset,
        "language": one.language,
        "settings_id": "imported",
    }
    return {"cell_id": cell_key(**parts), **parts, "method": one.method, "model_id": one.model.model_id}


def _refuse_second_texts(
    target: store.Store, new: Mapping[str, tuple[_Output, Query]], cells: Mapping[str, Row]
) -> None:
    """Raise InputError where a query would have two responses in a cell."""
    names = sorted({str(cell["cell_id"]) for cell in cells.values()})
    stored = target.named("responses_of_cells", [names]).rows
    taken = {(cell_id, query_id): response_id for cell_id, query_id, response_id in stored}
    for response_id, (one, query) in new.items():
        first = taken.setdefault((cells[response_id]["cell_id"], query.query_id), response_id)
        if first != response_id:
            raise InputError(
                f"{one.item.place}: query {query.query_id!r} has another output of {one.model.label} from this file; a "
                "query has one response in a cell: give the file another name, or remove the first with `icl db forget`"
            )


class _Output:
    """One text of another tool, with its own description. Raises InputError for an item without one."""

    def __init__(self, item: JsonItem, *, model: str | None, method: str | None, language: str | None) -> None:
        data = item.data
        text = data.get("output")
        if isinstance(text, list) and len(text) == 1:  # URIAL's own scripts write one output as a list
            text = text[0]
        if not isinstance(text, str):
            raise InputError(f"{item.place}: the field `output` is {'missing' if text is None else 'not a text'}")
        own = {name: data[name] for name in MAKER if data.get(name) is not None}
        for name in own.keys() - {"dpo"}:
            if not isinstance(own[name], str):
                raise InputError(f"{item.place}: `{name}` is not a text")
        label = model or own.get("model")
        if label is None:
            generator = data.get("generator")
            if not isinstance(generator, str) or not generator.strip("/ "):
                raise InputError(f"{item.place}: names no `generator`; say whose outputs these are with --model")
            label = _label(generator)
        self.item, self.text = item, text
        self.model = NamedModel(label=label, variant="imported", dpo=own.get("dpo") is True)
        self.method: str = method or own.get("method") or METHOD
        self.language: str = language or own.get("language") or LANGUAGE
        self.instruction = item.text("instruction")
        self.text_key = (self.language, self.instruction)
        self.query_id = json_items.id_of_text(self.instruction) if data.get("id") is None else item.id()

    def unknown_query(self) -> Query:
        """Return the item's query; the set's name separates just-eval's two files, whose ids overlap."""
        data = {**self.item.data, "id": self.query_id, "language": self.language}
        part = data.get("datasplit")
        if part == "just_red":
            data["category"] = "safety"
        dataset = f"imported:{part}" if isinstance(part, str) and part else "imported"
        return query_from_item(JsonItem(self.item.place, data), dataset=dataset, language=None)

    def response_id(self, source: str) -> str:
        """Return the key by file and options, so that an import with a wrong option can be forgotten and repeated.

        It does not depend on the matched query: the same file with --queries adds no second row.
        """
        return key_of(
            kind="imported",
            source=f"{source} as {self.method} in {self.language}",
            model=f"{self.model.label} DPO" if self.model.dpo else self.model.label,
            query_id=self.query_id,
            instruction=self.instruction,
            text=self.text,
        )

    def row(self, response_id: str, query: Query, *, run_id: str, source: str) -> Row:
        return {
            "response_id": response_id,
            "model_id": self.model.model_id,
            "query_key": query.key,
            "run_id": run_id,
            "method": self.method,
            "language": self.language,
            "text": self.text,
            "raw_text": self.text,
            "finish_reason": "imported",
            "text_language": detect.identify_language(self.text),
            "source": source,
        }


def _matched(outputs: Sequence[_Output], known: Iterable[Query]) -> Iterator[tuple[_Output, Query | None]]:
    """Yield each output with the known query that it answers."""
    by_text: dict[tuple[str, str], list[Query]] = {}
    for query in known:
        by_text.setdefault((query.language, query.instruction), []).append(query)
    claimed = {(one.text_key, one.query_id) for one in outputs}
    for one in outputs:
        same = by_text.get(one.text_key, [])
        of_id = [query for query in same if query.query_id == one.query_id]
        free = [query for query in same if (one.text_key, query.query_id) not in claimed]
        found = next(iter(of_id or free or same), None)
        if found is not None:
            claimed.add((one.text_key, found.query_id))
        yield one, found


def _completed_queries(target: store.Store, found: Iterable[tuple[_Output, Query | None]]) -> list[tuple[str, Row]]:
    """Return rows that complete queries stored as unknown from a query set given since."""
    stored = store.ids(target.path, "queries", "query_key")
    completed: dict[str, Query] = {}
    for one, match in found:
        if match is not None and match.task is not None and (unknown := one.unknown_query()).key in stored:
            completed[unknown.key] = replace(match, dataset=unknown.dataset, query_id=unknown.query_id)
    return [("queries", query.row()) for query in completed.values()]


def _stored(target: store.Store, languages: set[str]) -> Iterator[Query]:
    """Yield the database's queries in these languages."""
    for row in target.named("known_queries", [sorted(languages)]).dicts():
        for name in ("task", "topic"):
            row[name] = None if row[name] is None else tuple(row[name])
        yield Query(**row)


def _label(generator: str) -> str:
    name = generator.rstrip("/").rsplit("/", 1)[-1].strip()
    for suffix in _FILE_SUFFIXES:
        name = name.removesuffix(suffix) or name
    return name


def _dataset_row(dataset: str, source: str, known: QuerySet | None) -> Row:
    if known is not None and known.dataset == dataset:
        return known.row()
    return {"dataset": dataset, "source": source}
