"""One query with all of its answers."""

from dataclasses import dataclass
from pathlib import Path

from icl_local import store
from icl_local.exceptions import UnknownName
from icl_local.wording import with_dpo


@dataclass(frozen=True)
class Answer:
    """One stored response. ``sampling``: its settings and draw, None for a greedy one.

    ``prompt`` is the whole prompt; None if another tool made the response.
    """

    model: str
    quantization: str
    dpo: bool
    method: str
    settings_id: str
    sampling: str | None
    finish_reason: str
    new_tokens: int | None
    errors: list[str]
    prompt: str | None
    text: str

    @property
    def title(self) -> str:
        """Return model, GGUF type, method, and the draw of a sampled one."""
        parts = (with_dpo(self.model, self.dpo), self.quantization, self.method, self.sampling)
        return " · ".join(part for part in parts if part)

    @property
    def subtitle(self) -> str:
        """Return finish reason, length in tokens, critical errors."""
        tokens = "" if self.new_tokens is None else f"{self.new_tokens} tokens"
        return " · ".join(part for part in (self.finish_reason, tokens, *self.errors) if part)


COLUMNS = ("dataset", "query_id", "language", *Answer.__dataclass_fields__)


@dataclass(frozen=True)
class AnsweredQuery:
    """A query in one language and its answers by method, model, quantization. ``task`` None: unknown."""

    dataset: str
    query_id: str
    language: str
    split: str
    task: list[str] | None
    instruction: str
    answers: tuple[Answer, ...]

    @property
    def title(self) -> str:
        """Return data set, id, language, split and task."""
        task = "unknown" if self.task is None else ", ".join(self.task) or "none"
        return f"{self.dataset} {self.query_id} · {self.language} · {self.split} · task {task}"

    def rows(self) -> list[tuple[object, ...]]:
        """Return a row under COLUMNS for each answer."""
        return [(self.dataset, self.query_id, self.language, *vars(answer).values()) for answer in self.answers]


def find(database: Path, query_id: str, chosen: store.Selection) -> list[AnsweredQuery]:
    """Return every query of that id, one for each data set, language and text. Raises UnknownName."""
    rows = store.selected(database, "answers", chosen, [query_id]).dicts()
    if not rows:
        known = [one for (one,) in store.query(database, "select distinct query_id from raw.queries order by 1").rows]
        options = " with these options" if chosen else ""
        raise UnknownName.among("query", query_id, known, place=f" in this database{options}")
    return [AnsweredQuery(**{**row, "answers": tuple(Answer(**one) for one in row["answers"])}) for row in rows]
