"""The demo's whole way, on a tiny random model in place of the embedded one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from icl_local import store
from icl_local.cli import demo, icl
from icl_local.prompting import queries


def test_the_query_that_the_demo_names_exists() -> None:
    (named,) = re.findall(r"icl show (\S+)", demo.NEXT)
    assert named in {query.query_id for query in queries.samples("en").queries}


@pytest.mark.usefixtures("small_probe", "short_reasons")
def test_the_demo_runs_judges_and_shows_its_tables(
    tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "MODEL", str(tiny_gguf))
    db = tmp_path / "demo.duckdb"
    result = CliRunner().invoke(icl, ["demo", "--max-tokens", "3", "--db", str(db)])
    assert result.exit_code == 0, result.output
    places = [result.output.index(title) for title in ("Progress", "Speed", "Critical errors", "Table 1", "Next:")]
    assert places == sorted(places)
    cells = store.query(db, "select method, language, done, wanted from progress order by all").rows
    assert cells == [
        (method, language, 12, 12) for method in sorted(demo.METHODS) for language in sorted(demo.LANGUAGES)
    ]
    judged = "select count(*), list(distinct r.language) from verdicts join responses as r using (response_id)"
    assert store.query(db, judged).rows == [(36, ["en"])]
    again = CliRunner().invoke(icl, ["demo", "--max-tokens", "3", "--db", str(db)])
    assert again.exit_code == 0, again.output
    assert store.query(db, "select count(*) from raw.judgments").rows == [(36,)]
