"""Critical errors by cell, and the responses that have one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from icl_local import store
from icl_local.results.tables import Table
from icl_local.store import upkeep


def error_table(
    database: Path,
    *,
    listed: bool = False,
    error: str | None = None,
    models: str | Sequence[str] = (),
    methods: str | Sequence[str] = (),
    languages: str | Sequence[str] = (),
    redetect: bool = False,
) -> Table:
    """Return the error rates of every cell in percent, or with ``listed`` one row for each error of a response.

    An empty list takes all. ``error`` selects one kind of the list; None takes those that count by the default reading
    of a loop. ``redetect`` first brings every response to the present detector; a note says how many that were.
    """
    notes = (f"{upkeep.redetect(database):,} responses brought to the present detector",) if redetect else ()
    parameters = store.Selection(models, methods, languages).parameters()[:3]
    if listed:
        found = store.named(database, "error_list", [*parameters, error])
    else:
        found = store.named(database, "error_table", parameters)
    title = "Critical errors" if listed else "Critical errors, percent"
    return Table(title, tuple(found.columns), found.rows, notes, types=tuple(found.types))
