"""Query sets: Just-Eval-Instruct or any file in its form, and the project's own samples.

docs/prompts.md has the fields of an item. Ids are kept as text, so that the same query in several languages pairs up.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

from icl_local import resources
from icl_local.exceptions import ConfigError, InputError, UnknownName, did_you_mean
from icl_local.files import regular_file
from icl_local.identity import key_of, sha256_file, sha256_text
from icl_local.prompting import json_items, just_eval
from icl_local.prompting.expectations import expected
from icl_local.prompting.json_items import JsonItem
from icl_local.wording import counted

JUST_EVAL = just_eval.NAME
SAMPLES = "samples"
FILE_SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
FIELDS = (
    *("id", "instruction", "language", "category", "task", "topic", "dataset", "difficulty", "tags"),
    *("reference", "choices", "answer", "checks", "instruction_id_list", "kwargs"),
)
EXPECTED = ("reference", "choices", "answer", "checks")
COUNTED = ("dataset", "language", "queries", "safety", *EXPECTED, "tags")  # columns of QuerySet.counts
LISTED = (*COUNTED[:4], "where")  # columns of list_sets

# the beginning of Just-Eval's source_id for ids below a number: it identifies the set under any file name
_JUST_EVAL_SOURCES = {
    420: "alpaca_eval-",
    720: "lima-",
    800: "mt-",
    900: "red_team-",
    1000: "MaliciousInstruct-",
}
_SAMPLES_SOURCE = "icl-local-samples"
# the values that Just-Eval's fields have (README of its data set), and what another value does
_KNOWN_VALUES = {
    "category": (("regular", "safety"), "these queries count as multi"),
    "task": (
        ("info-seek", "reasoning", "procedure", "writing", "coding", "role-play", "math"),
        "only coding asks for code",
    ),
}


@dataclass(frozen=True)
class Query:
    """One query in one language. ``task``, ``topic`` and ``tags``: None unknown, () none.

    ``expected``: what rules score an answer with (see expectations). ``fields``: its item, without the text.
    """

    dataset: str
    query_id: str
    language: str
    instruction: str
    split: str
    task: tuple[str, ...] | None = None
    topic: tuple[str, ...] | None = None
    source_set: str | None = None
    difficulty: str | None = None
    tags: tuple[str, ...] | None = None
    expected: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    fields: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def key(self) -> str:
        """Return the query_key for data set, id, language and text."""
        named = {name: getattr(self, name) for name in ("dataset", "query_id", "language", "instruction")}
        return key_of(kind="query", **named)

    def row(self) -> dict[str, object]:
        """Return the row of raw.queries."""
        columns = [one.name for one in fields(self) if one.name not in ("expected", "fields")]
        return {"query_key": self.key, **{name: getattr(self, name) for name in columns}}

    def expectation_row(self) -> dict[str, object]:
        """Return the row of raw.expectations."""
        expected = dict(self.expected)
        return {
            "expectation_id": key_of(kind="expectation", query_key=self.key, expected=expected),
            "query_key": self.key,
            "expected": expected,
        }


@dataclass(frozen=True)
class QuerySet:
    """The queries of one file; ``source`` is its last path part, ``sha256`` that of its bytes.

    ``notes``: queries left out for the way their language is written; values that are not known, what they count as.
    """

    dataset: str
    source: str
    sha256: str | None
    queries: tuple[Query, ...]
    notes: tuple[str, ...] = ()

    def row(self) -> dict[str, object]:
        """Return the row of raw.datasets."""
        return {"dataset": self.dataset, "source": self.source, "sha256": self.sha256}

    def counts(self) -> list[tuple[object, ...]]:
        """Return a row (see COUNTED) for each language: its queries, and how many of them have a field."""
        languages = sorted({query.language for query in self.queries})
        return [self._count([query for query in self.queries if query.language == one]) for one in languages]

    def _count(self, same: Sequence[Query]) -> tuple[object, ...]:
        expected = (sum(name in query.expected for query in same) for name in EXPECTED)
        n_safety = sum(query.split == "safety" for query in same)
        return self.dataset, same[0].language, len(same), n_safety, *expected, sum(bool(query.tags) for query in same)


def load_file(path: Path, **how: Any) -> QuerySet:
    """Return the query set of a text file; ``how``: language, untagged, dataset and columns of query_set."""
    items, sha256 = json_items.read_file(regular_file(path)), sha256_file(path)
    return query_set(items, source=path.name, sha256=sha256, file=str(path), name=path.stem, **how)


def samples(language: str, *, overlay: Path | None = None) -> QuerySet:
    """Return the project's own twelve queries in ``language``, the same ids in every language. Raises UnknownName."""
    known = resources.names("prompts", "samples", suffix=".jsonl", overlay=overlay)
    if language not in known:
        raise UnknownName(
            f"no sample queries in {language!r}, only in {', '.join(known)}; give some with --queries {language}=FILE"
        )
    name = f"samples/{language}.jsonl"
    text = resources.read_text("prompts", name, overlay=overlay)
    items = json_items.parse(text, name)
    return query_set(items, source=name, sha256=sha256_text(text), language=language, dataset=SAMPLES)


def published(language: str) -> QuerySet:
    """Return Just-Eval as published in ``language``, from this disk. Raises ConfigError, HubError, InputError."""
    return _of_published(just_eval.require(language))


def sample(queries: Sequence[Query], n: int, seed: int = 0) -> list[Query]:
    """Draw ``n`` ids in proportion from every split and, within it, every first task; in the order of ``queries``.

    With several languages at once, ``n`` counts ids, and only ids that every language has are drawn; one language at a
    time gives the same ids if splits and tasks agree. Every split has at least one id if ``n`` allows. The draw
    depends on seed and ids alone, not on the order or the text.
    """
    if n < 1:
        raise ConfigError(f"a sample needs at least 1 query, not {n}")
    languages = {query.language for query in queries}
    versions: dict[tuple[str, str], list[Query]] = {}
    for query in queries:
        versions.setdefault((query.dataset, query.query_id), []).append(query)
    strata: dict[str, dict[str, list[tuple[str, str]]]] = {}
    for identity, same in versions.items():
        if {query.language for query in same} == languages:
            task = next((query.task[0] for query in same if query.task), "")
            strata.setdefault(same[0].split, {}).setdefault(task, []).append(identity)

    drawn: set[tuple[str, str]] = set()
    sizes = {split: sum(map(len, tasks.values())) for split, tasks in strata.items()}
    for split, share in _apportion(sizes, n, seed, at_least=1).items():
        tasks = strata[split]
        for task, count in _apportion({name: len(members) for name, members in tasks.items()}, share, seed).items():
            drawn.update(sorted(tasks[task], key=lambda identity: _draw(seed, *identity))[:count])
    return [query for query in queries if (query.dataset, query.query_id) in drawn]


def _apportion(sizes: Mapping[str, int], n: int, seed: int, *, at_least: int = 0) -> dict[str, int]:
    """Share ``n`` places in proportion to ``sizes`` by largest remainder, never more than a size."""
    total = sum(sizes.values())
    if n >= total:
        return dict(sizes)
    exact = {name: Fraction(n * size, total) for name, size in sizes.items()}
    floor = at_least if n >= len(sizes) else 0
    places = {name: max(floor, int(share)) for name, share in exact.items()}
    neediest = sorted(sizes, key=lambda name: (places[name] - exact[name], _draw(seed, name)))
    for name in neediest[: max(0, n - sum(places.values()))]:
        places[name] += 1
    while sum(places.values()) > n:  # the minimum of a small stratum is taken from the one most over its share
        places[max((s for s in neediest if places[s] > floor), key=lambda s: places[s] - exact[s])] -= 1
    return places


def _draw(seed: int, *parts: str) -> str:
    return key_of(kind="sample", seed=seed, parts=parts)


def query_set(
    items: Sequence[JsonItem],
    *,
    source: str,
    sha256: str | None,
    file: str | None = None,
    name: str = "",
    language: str | None = None,
    untagged: str | None = None,
    dataset: str | None = None,
    columns: Mapping[str, str] | None = None,
) -> QuerySet:
    """Return the query set of ``items``, which come from ``source``; ``file``: its name in messages.

    ``language`` selects the items of that language. Items that name no language are in ``language``, or else in
    ``untagged``, which selects nothing; with both they are in ``untagged``, and "" refuses them. ``columns``: fields by
    other names (json_items.mapped). ``dataset`` is the set's name, by default just-eval or samples if the items are
    theirs, else ``name`` without a language at its end. Raises InputError with file and line: no language, no item in
    ``language``, a missing or unusable field, an id that occurs twice.
    """
    if unknown := [field for field in columns or {} if field not in FIELDS]:
        raise UnknownName.among("field", unknown[0], FIELDS, place=" of a query")
    file = file or source
    if not items:
        raise InputError(f"{file}: holds no queries")
    items = json_items.mapped(items, columns or {})
    if all(item.data.get("id") is None for item in items):
        ids = [json_items.id_of_text(item.text("instruction")) for item in items]
        items = [replace(item, data={**item.data, "id": one}) for item, one in zip(items, ids, strict=True)]
    own_language = language if untagged is None else None
    dataset = dataset or _known_set(items) or _without_language(name, items, own_language)
    found: dict[tuple[str, str], tuple[JsonItem, Query]] = {}
    for item in items:
        query = query_from_item(item, dataset=dataset, language=own_language or untagged)
        first, _ = found.setdefault((query.language, query.query_id), (item, query))
        if first is not item:
            what, remedy = f"id {query.query_id!r}", ""
            if query.query_id == json_items.id_of_text(query.instruction):
                what, remedy = "the same instruction", "; remove one, or give both an `id`"
            raise InputError(f"{item.place}: {what} is already at {first.place}{remedy}")
    selected = tuple(query for _, query in found.values() if language in (None, query.language))
    if not selected:
        others = ", ".join(sorted({of for of, _ in found}))
        raise InputError(f"{file}: holds no queries in {language!r} (only {others}); give a file in that language")
    alike = Counter(of for of, _ in found if language != of and re.split("[-_]", of.casefold())[0] == language)
    left_out = (f"{file}: {counted(n, 'query')} in {of!r}, not {language!r}, left out" for of, n in alike.items())
    return QuerySet(dataset, source, sha256, selected, (*left_out, *_unknown_values(items)))


def _unknown_values(items: Sequence[JsonItem]) -> Iterator[str]:
    """Yield a note on each category and task that Just-Eval does not have, with the line where it is first used."""
    first: dict[tuple[str, str], JsonItem] = {}
    for item in items:
        task = item.data.get("task") or []
        for label in [task] if isinstance(task, str) else task:
            first.setdefault(("task", str(label)), item)
        if item.data.get("category") is not None:
            first.setdefault(("category", str(item.data["category"])), item)
    for (name, value), item in first.items():
        known, effect = _KNOWN_VALUES[name]
        if value not in known:
            guess = did_you_mean(value, list(known))
            yield f"{item.place}: {name} {value!r} is not known{guess}; {effect}; known: {', '.join(known)}"


def query_from_item(item: JsonItem, *, dataset: str, language: str | None) -> Query:
    """Return one item as a Query; ``language`` is that of items that name none. Raises InputError with its place."""
    data = item.data
    instruction = item.text("instruction")
    if not instruction.strip():
        raise InputError(f"{item.place}: the instruction is empty")
    own_language = data.get("language") or language
    if not own_language or not isinstance(own_language, str):
        raise InputError(f"{item.place}: names no language; give --queries LANGUAGE=FILE or add a `language` field")
    return Query(
        dataset=dataset,
        query_id=item.id(),
        language=own_language,
        instruction=instruction,
        split="safety" if data.get("category") == "safety" else "multi",
        task=_labels(item, "task"),
        topic=_labels(item, "topic"),
        source_set=_optional(data.get("dataset")),
        difficulty=_optional(data.get("difficulty")),
        tags=_labels(item, "tags"),
        expected=expected(item),
        fields={name: value for name, value in data.items() if name not in ("instruction", "language", "translation")},
    )


def _optional(value: object) -> str | None:
    return value if isinstance(value, str) and value not in ("", "N/A") else None


def _labels(item: JsonItem, name: str) -> tuple[str, ...] | None:
    value = item.data.get(name)
    if value is None:
        return None
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list) or not all(isinstance(label, str) for label in value):
        raise InputError(f"{item.place}: `{name}` must be a list of texts")
    return tuple(value)


def _known_set(items: Sequence[JsonItem]) -> str | None:
    if all(item.data.get("dataset") == _SAMPLES_SOURCE for item in items):
        return SAMPLES
    return JUST_EVAL if all(map(_is_just_eval, items)) else None


def _without_language(name: str, items: Sequence[JsonItem], language: str | None) -> str:
    """Return ``queries`` for queries and for queries.es in Spanish, so that a set's languages pair up."""
    for code in {language, *(item.data.get("language") for item in items[:1])} - {None}:
        name = re.sub(rf"(?<=.)[._/-]{re.escape(str(code))}(?=/|$)", "", name)
    return name


def _is_just_eval(item: JsonItem) -> bool:
    number, source_id = str(item.data.get("id")), item.data.get("source_id")
    if not (number.isdecimal() and isinstance(source_id, str)):
        return False
    begin = next((begin for end, begin in _JUST_EVAL_SOURCES.items() if int(number) < end), None)
    return begin is not None and source_id.startswith(begin)


def list_sets() -> list[tuple[object, ...]]:
    """Return a row (see LISTED) for each query set on this machine, and for those available elsewhere."""
    shipped = resources.names("prompts", "samples", suffix=".jsonl")
    place = "ships with icl-local: icl run --queries samples"
    rows: list[tuple[object, ...]] = [(*samples(language).counts()[0][:4], place) for language in shipped]
    for language in just_eval.FILES:
        found = just_eval.cached(language)
        if found is None:
            rows.append((JUST_EVAL, language, None, None, f"not here; icl data pull just-eval --lang {language}"))
        else:
            rows.append((*_of_published(found).counts()[0][:4], found.source))
    rows.append((JUST_EVAL, "other", None, None, "not published; see icl translate --help"))
    return rows


def _of_published(found: just_eval.Published) -> QuerySet:
    return query_set(found.items, source=found.source, sha256=found.sha256, language=found.language, dataset=JUST_EVAL)
