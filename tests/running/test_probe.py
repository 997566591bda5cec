"""Probed settings: stored with the file, found again, used by runs."""

from __future__ import annotations

from pathlib import Path

from icl_local import store
from icl_local.running import cells, run
from icl_local.running.run import Event


def test_exactness_is_probed_once_and_recorded(tmp_path: Path, tiny_gguf: Path, query_file: Path) -> None:
    db, notes = tmp_path / "x.duckdb", []

    def note(event: Event) -> None:
        if event.kind == "note":
            notes.append(event.message)

    sets = cells.load_queries(["en"], [str(query_file)], limit=6)
    for max_tokens in (8, 9):  # two runs: one probe at the longest prompt of all cells of the file
        planned = cells.plan_cells([str(tiny_gguf)], ["zero-shot", "urial"], sets)
        run.run_cells(db, planned, decoding=cells.Decoding(max_tokens=max_tokens), on_event=note)
    assert sum("probing" in text for text in notes) == 1
    exact = store.query(db, "select distinct exact from responses").rows
    assert exact == store.query(db, "select max(exact) from probes").rows == [(True,)]
