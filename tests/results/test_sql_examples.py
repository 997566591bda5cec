"""The ten questions of docs/sql.md, run as they stand: by icl sql, DuckDB's own client, and Python."""

from __future__ import annotations

import csv
import functools
import io
import re
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner

from icl_local.cli import icl
from tests import synthetic

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENT = (ROOT / "docs" / "sql.md").read_text(encoding="utf-8")
QUESTIONS = re.findall(r"^## (\d+\. .*?)\n```sql\n(.*?)```", DOCUMENT, flags=re.M | re.S)


@functools.cache
def in_python(study: Path, query: str) -> list[tuple[object, ...]]:
    with duckdb.connect(str(study), read_only=True) as con:
        return con.execute(query).fetchall()


def test_there_are_ten_questions_and_the_readme_leads_to_each() -> None:
    assert [name.split(".")[0] for name, _ in QUESTIONS] == [str(number) for number in range(1, 11)]
    listed = re.findall(r"^(\d+\.) \[(.*?)\]\(docs/sql\.md#(.*?)\)$", README, flags=re.M)
    assert [f"{number} {question}" for number, question, _ in listed] == [name for name, _ in QUESTIONS]
    for number, question, anchor in listed:  # as GitHub makes them
        assert anchor == re.sub(r"[^\w\- ]", "", f"{number} {question}".lower()).replace(" ", "-")


def test_the_readmes_own_queries_run(study: Path) -> None:
    queries = re.findall(r'^icl sql "(.*)"', README, flags=re.M)
    assert len(queries) >= 3
    for query in queries:
        assert in_python(study, query), query


@pytest.mark.parametrize("query", [query for _, query in QUESTIONS], ids=[name for name, _ in QUESTIONS])
def test_a_question_has_an_answer_in_icl_sql_and_python(study: Path, query: str) -> None:
    result = CliRunner().invoke(icl, ["sql", query, "--format", "csv", "--db", str(study)])
    assert result.exit_code == 0, result.output
    rows = list(csv.reader(io.StringIO(result.stdout)))
    wanted = in_python(study, query)
    assert len(rows) - 1 == len(wanted) > 0


def rounded(row: tuple[object, ...]) -> str:
    return str([f"{value:.6f}" if isinstance(value, float) else value for value in row])


def test_questions_of_scores_keep_judges_apart(study: Path, tmp_path: Path) -> None:
    """A second judge that gives one point less changes no row of the first."""
    path = Path(shutil.copy(study, tmp_path / "two.duckdb"))
    with duckdb.connect(str(path)) as con:
        con.execute("""
            insert into raw.judges by name
            select 'ana' as judge_id, 'human:ana' as name, 'human' as backend, 'ana' as model;
            insert into raw.judgments by name
            select * replace (
                judgment_id || ' ana' as judgment_id, 'ana' as judge_id,
                list_transform(scores, lambda score: greatest(1, score - 1)) as scores
            )
            from raw.judgments where status = 'ok';
        """)
    for name, query in QUESTIONS:
        unlimited = re.sub(r"\nlimit \d+", "", query)
        before, judged = ({rounded(row) for row in in_python(db, unlimited)} for db in (study, path))
        assert before <= judged, name


@pytest.fixture(scope="module")
def client() -> str:
    found = shutil.which("duckdb", path=str(Path(sys.executable).parent)) or shutil.which("duckdb")
    if found is None:
        pytest.skip("no duckdb command line client (pip install duckdb-cli)")
    return found


def test_the_questions_have_answers_in_duckdbs_own_client(study: Path, client: str) -> None:
    script = "".join(f".print --\n{query.strip()};\n" for _, query in QUESTIONS)
    command = [client, "-readonly", "-csv", str(study)]
    done = subprocess.run(command, input=script, capture_output=True, text=True, timeout=600)
    assert done.stderr == ""
    answers = done.stdout.split("--\n")[1:]
    assert len(answers) == len(QUESTIONS)
    for (name, query), answer in zip(QUESTIONS, answers, strict=True):
        assert len(list(csv.reader(io.StringIO(answer)))) - 1 == len(in_python(study, query)), name


def test_every_view_reads_in_duckdbs_own_client(client: str) -> None:
    path = synthetic.small()
    listed = "select view_name from duckdb_views() where schema_name = 'main' and not internal"
    views = [str(name) for (name,) in in_python(path, listed)]
    script = "".join(f"select count(*) from (select * from main.{name});\n" for name in views)
    command = [client, "-readonly", "-csv", "-noheader", str(path)]
    done = subprocess.run(command, input=script, capture_output=True, text=True, timeout=600)
    assert done.stderr == ""
    assert len(done.stdout.split()) == len(views) > 40


def test_the_variables_choose_judge_reading_and_origin(study: Path) -> None:
    with duckdb.connect(str(study), read_only=True) as con:
        ours = con.execute("select count(*), any_value(judge) from table_1").fetchone()
        strict = con.execute("select sum(factual) from table_1").fetchone()
        con.execute("set variable icl_reading = 'just_eval'")
        counted = con.execute("select sum(factual) from table_1").fetchone()
        con.execute("set variable icl_origin = 'published'")
        printed = con.execute("select count(*), any_value(judge) from table_1").fetchone()
    assert ours == (12, "openai:synthetic-judge")
    assert printed == (12, "gpt-4-1106-preview")
    assert strict is not None
    assert counted is not None
    assert strict < counted
