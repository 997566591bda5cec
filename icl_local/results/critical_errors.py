"""Critical errors by cell, and the responses that have one."""

from pathlib import Path

from icl_local import store
from icl_local.exceptions import refuse_idle
from icl_local.results.tables import Table
from icl_local.store import upkeep
from icl_local.wording import counted

# ended by a stop, but the last line is not the query heading
_CUT_SHORT = r"finish_reason = 'stop' and quantization <> 'none' and not regexp_matches(raw_text, '(^|\n)# ?[^#\n]*$')"


def error_table(
    database: Path,
    *,
    listed: bool = False,
    error: str | None = None,
    chosen: store.Selection,
    redetect: bool = False,
) -> Table:
    """Return the error rates of every cell in percent, or with ``listed`` one row for each error of a response.

    ``error`` selects one kind of the list; None takes those that count by the default reading
    of a loop. ``redetect`` first updates every response with the current detector. Notes say how many, and how
    many are left out because only an earlier detector has read them.
    """
    if not listed:
        reason = "the table is of whole cells (--list selects; icl sql 'from error_breakdown' has splits)"
        refuse_idle(reason, {"--error": error is not None, "--split": bool(chosen.split)})
    notes = _redetected(database) if redetect else ()
    found = store.selected(database, "error_list" if listed else "error_table", chosen, [error] if listed else [])
    ((earlier,),) = store.named(database, "earlier_detections").rows
    if earlier:
        notes += (f"{counted(earlier, 'response')} left out, read by an earlier detector only: icl errors --redetect",)
    title = "Critical errors" if listed else "Critical errors, percent"
    return Table.of(found, title, notes=notes)


def _redetected(database: Path) -> tuple[str, ...]:
    """Update every response with the current detector; return notes on what changed."""
    counts = upkeep.redetect(database)
    again = (
        f'to make them again: icl db forget --where "{_CUT_SHORT}"; icl db forget --allow-again; then the same icl run'
    )
    notes = [f"{counted(counts['done'], 'response')} updated with the current detector"]
    if n := counts["recut"]:
        notes.append(f"{counted(n, 'text was', 'texts were')} cut again from the raw text")
    if n := counts["judged"]:
        notes.append(f"{counted(n, 'text stays', 'texts stay')} as a judge has read (docs/detection.md)")
    if n := counts["cut_short"]:
        notes.append(f"{counted(n, 'answer was', 'answers were')} cut at a heading that is not a stop; {again}")
    return tuple(notes)
