"""Probed settings: stored with the file, found again, used by runs."""

from __future__ import annotations

import json
from pathlib import Path

from icl_local import store
from icl_local.cache import cache_folder
from icl_local.running import Event, cells, load_queries, probe, run


def test_exactness_is_probed_once_and_recorded(tmp_path: Path, tiny_gguf: Path, query_file: Path) -> None:
    db, notes = tmp_path / "x.duckdb", []

    def note(event: Event) -> None:
        if event.kind == "note":
            notes.append(event.message)

    sets = load_queries(["en"], [str(query_file)], limit=6)
    for max_tokens in (8, 9):  # two runs: one probe at the longest prompt of all cells of the file
        planned = cells.plan_cells([str(tiny_gguf)], ["zero-shot", "urial"], sets)
        run.run_cells(db, planned, decoding=cells.Decoding(max_tokens=max_tokens), on_event=note)
    assert sum("probing" in text for text in notes) == 1
    exact = store.query(db, "select distinct exact from responses").rows
    assert exact == store.query(db, "select max(exact) from probes").rows == [(True,)]


def test_builds_are_compared_where_both_were_probed_on_a_file() -> None:
    folder = cache_folder("probes")

    def write(file: str, *rows: tuple[str, float, bool]) -> None:
        lines = [
            {"cpu_features": f"{used} threads=2 gpu_layers=0 kv=f16", "tokens_per_second": rate, "exact": exact}
            for used, rate, exact in rows
        ]
        (folder / f"{file}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    write("a" * 64, ("AVX", 20.0, True), ("AVX", 25.0, True), ("AVX AVX512", 50.0, True), ("AVX AVX512", 90.0, False))
    write("b" * 64, ("AVX AVX512", 50.0, True))
    (compared,) = probe.other_builds("AVX")
    said = "25 tokens/s with this build, 50 (2.00 times) with one that used AVX AVX512"
    assert compared == f"file {'a' * 12}: {said}"
    assert list(probe.other_builds("AVX2")) == []
