"""One query with all of its answers."""

from pathlib import Path

from icl_local import store
from icl_local.exceptions import UnknownName
from icl_local.store import Row
from icl_local.wording import with_dpo

# of an answer, and what names its query
COLUMNS = (
    "dataset", "query_id", "language", "model", "quantization", "dpo", "method", "settings_id", "sampling",
    "finish_reason", "new_tokens", "errors", "prompt", "text",
)  # fmt: skip


def find(database: Path, query_id: str, chosen: store.Selection) -> list[Row]:
    """Return every query of that id, one for each data set, language and text, as db/queries/answers.sql does.

    ``answers`` are its answers by method, model, quantization. ``sampling``: settings and draw of one, None for a
    greedy one; ``prompt``: the whole prompt, None if another tool made the response. Raises UnknownName.
    """
    rows = store.selected(database, "answers", chosen, [query_id]).dicts()
    if not rows:
        known = [one for (one,) in store.query(database, "select distinct query_id from raw.queries order by 1").rows]
        options = " with these options" if chosen else ""
        raise UnknownName.among("query", query_id, known, place=f" in this database{options}")
    return rows


def query_title(query: Row) -> str:
    """Return data set, id, language, split and task of a query; a task of None is unknown."""
    task = "unknown" if query["task"] is None else ", ".join(query["task"]) or "none"
    return f"{query['dataset']} {query['query_id']} · {query['language']} · {query['split']} · task {task}"


def title(answer: Row) -> str:
    """Return model, GGUF type, method, and the draw of a sampled answer."""
    parts = (with_dpo(answer["model"], answer["dpo"]), answer["quantization"], answer["method"], answer["sampling"])
    return " · ".join(part for part in parts if part)


def subtitle(answer: Row) -> str:
    """Return finish reason, length in tokens, critical errors."""
    tokens = "" if answer["new_tokens"] is None else f"{answer['new_tokens']} tokens"
    return " · ".join(part for part in (answer["finish_reason"], tokens, *answer["errors"]) if part)
