"""Write the final set of a language as a file for ``icl run``, and compare the sets of two languages."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from icl_local import store
from icl_local.exceptions import ConfigError
from icl_local.files import write_result
from icl_local.prompting import JsonItem
from icl_local.running import read_items
from icl_local.translate.review import no_candidates
from icl_local.wording import counted

_SAME_IN_BOTH = ("source_id", "dataset", "category", "task", "topic", "difficulty")


class Built(NamedTuple):
    """Counts of a written set: reviewed texts, machine translations, and queries left out."""

    reviewed: int
    machine: int
    left_out: int


class Difference(NamedTuple):
    """A mismatch between two sets: its kind, the query's id, and a description."""

    kind: str
    query_id: str
    detail: str


def build_set(path: Path, out: Path, *, language: str, dataset: str | None = None, unreviewed: str = "refuse") -> Built:
    """Write the final texts in ``language`` as JSON Lines, in the order of ids, with the other fields of the source.

    A field ``translation`` holds the origin of each text. ``unreviewed`` queries: refuse (raise ConfigError),
    leave-out, or machine (take the best candidate, unless it is unusable). Raises ConfigError where no
    text is left.
    """
    rows = store.named(path, "translation_set", [language, dataset]).dicts()
    if not rows:
        raise no_candidates(path, language)
    if len(datasets := sorted({row["dataset"] for row in rows})) > 1:
        raise ConfigError(f"{path} holds several sets in {language!r}: name one with --dataset, {', '.join(datasets)}")
    if out.suffix not in (".jsonl", ".json"):
        raise ConfigError(f"{out.name}: a query set is written as .jsonl")
    open_rows = [row for row in rows if not row["reviewed"]]
    if open_rows and unreviewed == "refuse":
        raise ConfigError(
            f"{len(open_rows):,} of {counted(len(rows), 'query')} in {language!r} have no final text; review them "
            f"(icl translate review --lang {language}), or give --unreviewed leave-out or machine"
        )
    usable = [row for row in rows if row["reviewed"] or (unreviewed == "machine" and row["severity"] < 10)]
    if not usable:
        flags = ", ".join(sorted({flag for row in rows for flag in row["flags"]}))
        candidate = f" or a usable candidate (they are {flags})" if unreviewed == "machine" else ""
        raise ConfigError(
            f"no query in {language!r} has a final text{candidate}; write texts (icl translate review --lang "
            f"{language}), or translate with another engine"
        )
    usable.sort(key=lambda row: _natural(row["query_id"]))
    write_result(out, "".join(json.dumps(_item(row), ensure_ascii=False) + "\n" for row in usable))
    reviewed = sum(row["reviewed"] for row in usable)
    return Built(reviewed, len(usable) - reviewed, len(rows) - len(usable))


def compare_sets(first: str, second: str) -> list[Difference]:
    """Return the mismatches between the sets of two languages, each a file or hf:... Raises InputError, HubError.

    Kinds: missing_id, duplicate_id, duplicate_text, identical_text, different_field.
    """
    (ones, one), (others, other) = ((items, origin["source"]) for items, origin in map(read_items, (first, second)))
    found = [*_within(one, ones), *_within(other, others)]
    by_id, other_by_id = ({item.id(): item for item in items} for items in (ones, others))
    for query_id in sorted(by_id.keys() ^ other_by_id.keys(), key=_natural):
        here, there = (one, other) if query_id in by_id else (other, one)
        found.append(Difference("missing_id", query_id, f"in {here}, not in {there}"))
    for query_id in sorted(by_id.keys() & other_by_id.keys(), key=_natural):
        found += _between(query_id, by_id[query_id], other_by_id[query_id])
    return found


def _item(row: Mapping[str, Any]) -> dict[str, object]:
    """Return one line of a built set: the source's fields, the text, and its origin."""
    fields = json.loads(row["source_fields"] or "{}")
    shown = {name: row[name] for name in ("instruction", "language", "translation")}
    return {"id": row["query_id"], **fields, **shown}


def _within(source: str, items: Sequence[JsonItem]) -> Iterator[Difference]:
    """Yield ids and texts that occur twice in one set."""
    ids: dict[str, str] = {}
    texts: dict[str, str] = {}
    for item in items:
        query_id, text = item.id(), item.text("instruction").strip()
        if query_id in ids:
            yield Difference("duplicate_id", query_id, f"{ids[query_id]} and {item.place}")
        elif text in texts:
            yield Difference("duplicate_text", query_id, f"{source}, the same as {texts[text]}")
        ids.setdefault(query_id, item.place)
        texts.setdefault(text, query_id)


def _between(query_id: str, one: JsonItem, other: JsonItem) -> Iterator[Difference]:
    if one.text("instruction").strip() == other.text("instruction").strip():
        yield Difference("identical_text", query_id, one.text("instruction").strip()[:80])
    for name in _SAME_IN_BOTH:
        if one.data.get(name) != other.data.get(name):
            yield Difference("different_field", query_id, f"{name}: {one.data.get(name)!r}, {other.data.get(name)!r}")


def _natural(query_id: str) -> list[tuple[bool, int, str]]:
    """Return a sort key that puts 9 before 10 and sample-2 before sample-10."""
    return [(not part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in re.split(r"(\d+)", query_id)]
