"""One query and all that was answered to it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icl_local import store
from icl_local.exceptions import ConfigError


@dataclass(frozen=True)
class Answer:
    """One stored response. ``prompt`` is the whole text the model got; None where another tool made the response."""

    model: str
    quantization: str
    dpo: bool
    method: str
    settings_id: str
    finish_reason: str
    new_tokens: int | None
    errors: tuple[str, ...]
    prompt: str | None
    text: str


@dataclass(frozen=True)
class Asked:
    """A query in one language and its answers by method, model, quantization."""

    dataset: str
    query_id: str
    language: str
    split: str
    task: tuple[str, ...] | None
    instruction: str
    answers: tuple[Answer, ...]


def find(
    database: Path,
    query_id: str,
    *,
    dataset: str | None = None,
    language: str | None = None,
    model: str | None = None,
    method: str | None = None,
) -> list[Asked]:
    """Every query of that id, one a data set, language and text. Raises ConfigError where there is none."""
    rows = store.named(database, "answers", [query_id, dataset, language, model, method]).dicts()
    if not rows:
        raise ConfigError(
            f"no query {query_id!r} like that in {database}; its ids: icl sql 'select distinct query_id from responses'"
        )
    asked = []
    for _, group in itertools.groupby(rows, key=lambda row: (row["dataset"], row["language"], row["instruction"])):
        same = list(group)
        first = same[0]
        asked.append(
            Asked(
                dataset=first["dataset"],
                query_id=first["query_id"],
                language=first["language"],
                split=first["split"],
                task=None if first["task"] is None else tuple(first["task"]),
                instruction=first["instruction"],
                answers=tuple(_answer(row) for row in same if row["response_id"] is not None),
            )
        )
    return asked


def _answer(row: dict[str, Any]) -> Answer:
    head, tail = row["head"], row["tail"]
    return Answer(
        model=row["model"],
        quantization=row["quantization"],
        dpo=row["dpo"],
        method=row["method"],
        settings_id=row["settings_id"],
        finish_reason=row["finish_reason"],
        new_tokens=row["new_tokens"],
        errors=tuple(row["errors"] or ()),
        prompt=head if tail is None else f"{head}{row['instruction']}{tail}",
        text=row["text"],
    )
