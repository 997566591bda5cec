"""The written tables: bold, marks, every format, hostile text."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from icl_local.cli import icl
from icl_local.exceptions import UnknownName
from icl_local.results import paper_tables
from icl_local.results.tables import Table, render
from tests import reference

# Layout


def test_best_is_bold_and_marks_stand_where_the_paired_interval_excludes_zero(study: Path) -> None:
    with paper_tables.open_views(study) as views:
        table = paper_tables.build(views, "1")
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    column = table.columns.index("avg")
    for model in {row["model"] for row in rows}:
        places = [y for y, row in enumerate(rows) if row["model"] == model]
        best = max(places, key=lambda y: rows[y]["avg"])
        assert (best, column) in table.bold
        assert sum((y, column) in table.bold for y in places) == 1
        zero_shot = next(y for y in places if rows[y]["method"] == "zero-shot")
        assert (zero_shot, column) not in table.marks
    differences = reference.view(study, "paired_differences")
    for y, row in enumerate(rows):
        found = differences[
            (differences["differs_in"] == "method") & (differences["a"] == "zero-shot")
            & (differences["b"] == row["method"]) & (differences["model"] == row["model"])
            & (differences["language"] == "en") & (differences["dpo"] == False)  # noqa: E712
            & (differences["metric"] == "safety") & (differences["reading"] == "strict")
        ]  # fmt: skip
        significant = bool(((found["ci_low"] > 0) | (found["ci_high"] < 0)).any())
        assert ((y, table.columns.index("safe")) in table.marks) == significant


def test_lowest_error_is_bold_and_equal_rows_have_none() -> None:
    rows = [{"model": "m", "e": 1.0}, {"model": "m", "e": 0.5}, {"model": "n", "e": 2.0}, {"model": "n", "e": 2.0}]
    group = [row["model"] for row in rows]
    bold = paper_tables._best(rows, group, ["model", "e"], {"e": "e"}, lowest=True)
    assert bold == {(1, 1)}


def test_dpo_tables_leave_out_models_without_a_variant_and_say_so(complicated: Path) -> None:
    with paper_tables.open_views(complicated) as views:
        table, whole = paper_tables.build(views, "3"), paper_tables.build(views, "3", whole=True)
    assert len(table.rows) == 11
    assert len(whole.rows) == 29
    assert any("18 rows" in note for note in table.notes)


@pytest.mark.parametrize("output_format", ["text", "csv", "json", "markdown", "latex"])
def test_the_tables_command_writes_every_format(complicated: Path, output_format: str) -> None:
    result = CliRunner().invoke(icl, ["tables", "1", "8", "--db", str(complicated), "--format", output_format])
    assert result.exit_code == 0, result.output
    assert "Llama3.1 8B" in result.output


def test_published_needs_no_database_and_names_the_slips(tmp_path: Path) -> None:
    result = CliRunner().invoke(icl, ["tables", "--published", "--db", str(tmp_path / "none.duckdb")])
    assert result.exit_code == 0, result.output
    assert "2981" in result.output
    assert "printed as EuroLLM 8B" in result.output
    assert "2981.00†" in result.output
    assert not list(tmp_path.iterdir())


def test_versus_paper_marks_differences_beyond_both_errors(complicated: Path) -> None:
    with paper_tables.open_views(complicated) as views:
        table = paper_tables.build(views, "1", versus=True)
        outside = [
            row for row in views.rows("versus_paper")
            if row["paper_table"] == "table_1" and row["compatible"] is False
        ]  # fmt: skip
    assert len(table.rows) == 24
    assert len(table.marks) == len(outside) > 0


def test_an_unknown_judge_is_reported_with_the_known_ones(complicated: Path) -> None:
    with (
        pytest.raises(UnknownName, match=r"no judge gpt-9 .*openai:synthetic-judge"),
        paper_tables.open_views(complicated, judge="gpt-9"),
    ):
        pass


def test_an_empty_database_has_empty_tables(empty_database: Path) -> None:
    result = CliRunner().invoke(icl, ["tables", "--db", str(empty_database)])
    assert result.exit_code == 0, result.output
    assert result.output.count("No rows yet.") == 6
    result = CliRunner().invoke(icl, ["tables", "4", "--format", "csv", "--db", str(empty_database)])
    assert result.output == "model,method,infinite_loop,unintended_code,n,n_known_task,quantization,settings_id\n"


# Rendering

HOSTILE = Table(
    "50 % & more_",
    ("name", "x"),
    [
        ("=HYPERLINK(1)", 1.5),
        ("  @sum", -2.25),
        ("[a] * $ # \\ ~ ^ { } | < > \" '", None),
        ("\x1b[31mred\u202e 中 é", 0.0001),
        ("a\nb", 3),
    ],
    ("100 %",),
    frozenset({(0, 1)}),
    {(1, 1): "*"},
    frozenset({2}),
)


def test_csv_cells_are_not_formulas_and_numbers_stay_numbers() -> None:
    rows = list(csv.reader(io.StringIO(render(HOSTILE, "csv"))))
    assert rows[0] == ["name", "x"]
    assert [row[0][0] for row in rows[1:3]] == ["'", "'"]
    assert [row[1] for row in rows[1:]] == ["1.5", "-2.25", "", "0.0001", "3"]
    assert "\x1b" not in rows[4][0]


def test_json_holds_every_value_and_no_control_character() -> None:
    text = render(HOSTILE, "json")
    assert [row["x"] for row in json.loads(text)] == [1.5, -2.25, None, 0.0001, 3]
    assert text.isascii()
    twice = Table("", ("a", "a"), [(1, 2)])
    assert list(json.loads(render(twice, "json"))[0].values()) == [1, 2]
    assert json.loads(render(Table("", ("a",), [(float("nan"),)]), "json")) == [{"a": None}]


def test_markdown_rows_keep_their_cells() -> None:
    lines = render(HOSTILE, "markdown").splitlines()
    assert lines[3] == "|---|---:|"
    assert lines[4] == "| =HYPERLINK(1) | **1.50** |"
    assert lines[5].endswith(r"-2.25\* |")
    body = [line for line in lines if line.startswith("| ")]
    assert len(body) == 6
    assert all(line.replace(r"\|", "").count("|") == 3 for line in body)


def test_latex_compiles(tmp_path: Path, complicated: Path) -> None:
    with paper_tables.open_views(complicated) as views:
        body = render(HOSTILE, "latex") + "".join(render(paper_tables.build(views, n), "latex") for n in ("1", "8"))
    assert r"\textbf{1.50}" in body
    assert r"\texttt{U+4E2D}" in body
    compiler = shutil.which("pdflatex")
    if compiler is None:
        pytest.skip("no pdflatex on this machine (Debian: texlive-latex-recommended)")
    head = "\\documentclass{article}\n\\usepackage[T1]{fontenc}\n\\usepackage{booktabs}\n\\begin{document}\n"
    (tmp_path / "t.tex").write_text(head + body + "\\end{document}\n", encoding="utf-8")
    command = [compiler, "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "t.pdf").stat().st_size > 1000
