"""The written tables: bold, marks, every format, hostile text."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner

from icl_local.cli import icl
from icl_local.exceptions import UnknownName
from icl_local.results import other_tables, paper_tables
from icl_local.results.tables import Table, render
from tests import reference, synthetic
from tests.judge_rows import database, response_rows

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


def test_a_mark_belongs_to_the_judge_template_of_the_number_beside_it(tmp_path: Path) -> None:
    """The shown template has few depth scores, all 3; another asks for depth alone: 1 in zero-shot, 5 in others."""
    path = Path(shutil.copy(synthetic.small(), tmp_path / "study.duckdb"))
    with duckdb.connect(str(path)) as con:
        con.execute("insert into raw.judge_templates values ('depth', 'depth', 'en', 'Depth?', ['depth'])")
        con.execute(
            "insert into raw.judgments by name select judgment.* replace ('depth ' || judgment_id as judgment_id, "
            "'depth' as template_sha256, [if(method = 'zero-shot', 1, 5)] as scores, [false] as not_applicable) "
            "from raw.judgments as judgment join responses using (response_id) join raw.judge_templates as template "
            "using (template_sha256) where template.name = 'multi' and judgment.judge_id = 'judge-1'"
        )
        con.execute(
            "update raw.judgments set scores = scores[:3] || [case when hash(response_id) % 9 = 0 then 3 end] "
            "|| scores[5:] where template_sha256 in "
            "(select template_sha256 from raw.judge_templates where name = 'multi')"
        )
    with paper_tables.open_views(path) as views:
        table = paper_tables.build(views, "1")
        shown = {row["template"] for row in views.rows("paper_scores") if row["metric"] == "depth"}
        differences = views.rows("paired_differences")
    assert shown == {"multi", None}
    assert [row for row in differences if row["template"] == "depth" and row["p_holm"] < 1e-6]
    depth = table.columns.index("depth")
    assert {row[depth] for row in table.rows} == {3.0}
    assert not [place for place in table.marks if place[1] == depth]


def test_two_meanings_of_avg_have_two_names(complicated: Path) -> None:
    with paper_tables.open_views(complicated) as views:
        table = paper_tables.build(views, "1")
        own = {row["model"] + row["method"]: row["avg"] for row in views.rows("table_1")}
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    five = ("helpful", "clear", "factual", "depth", "engaging")
    scored = [row for row in rows if row["avg"] is not None]
    assert scored
    for row in scored:
        assert row["aspects_mean"] == pytest.approx(sum(row[name] for name in five) / 5)
        assert row["avg"] == own[row["model"] + row["method"]]
    assert any(abs(row["aspects_mean"] - row["avg"]) >= 0.005 for row in scored)
    assert any(note.startswith("avg: over the responses with all five") for note in table.notes)


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


def test_a_dpo_table_has_no_rows_without_any_variant(tmp_path: Path) -> None:
    db = database(tmp_path / "x.duckdb", response_rows(3), response_rows(3, method="zero-shot"))
    (table,) = paper_tables.build_tables(db, ("3",))
    assert table.rows == []
    assert "2 rows of models without a DPO variant left out; csv and json have them." in table.notes


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


def test_versus_paper_shows_the_cells_that_were_run_and_counts_the_others(
    complicated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with paper_tables.open_views(complicated) as views:
        rows = [row | {"ours": row["ours"] if row["method"] == "urial" else None} for row in views.rows("versus_paper")]
        monkeypatch.setattr(type(views), "rows", lambda self, view: rows)
        table = paper_tables.build(views, "1", versus=True)
    assert {row[1] for row in table.rows} == {"urial", ""}
    assert len(table.rows) == 8
    assert "8 cells of the paper without a row of yours left out; csv and json have them." in table.notes


def test_a_latex_caption_has_no_number_of_its_own() -> None:
    made = render(Table("Table 1. Scores", ("model",), [("m",)], notes=("Judge: j.",)), "latex")
    assert r"\caption{Scores. Judge: j.}" in made


def test_an_unknown_judge_is_reported_with_the_known_ones(complicated: Path) -> None:
    with (
        pytest.raises(UnknownName, match=r"no judge 'gpt-9' .*openai:synthetic-judge"),
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


TYPED = r"""
    1::tinyint, 123456789012345678901234567890::hugeint, 3600.00::decimal(9, 2), 0.1::double, 1e-7::double, true,
    null::int, 'a,"b"', 'line' || chr(10) || 'break', date '2026-11-24', time '01:02:03.5',
    timestamp '2026-11-24 01:02:03.25', timestamptz '2026-11-24 01:02:03.5+02', timestamp_s '2026-11-24 01:02:03',
    timestamp_ms '2026-11-24 01:02:03.125', time with time zone '01:02:03+02', interval '2 days 3 hours',
    interval '-3 hours', '\xAA\x00b'::blob, '1010'::bit, uuid '47183823-2574-4bfd-b411-99ed177d3e43', [1, null, 3],
    [1.5::decimal(3, 1), 2], {'a': 1, 'b': date '2026-01-01'}, map {'k': 1.5}, 'x'::enum ('x', 'y'), '{"a": 1}'::json,
    array[1, 2]::int[2], [timestamp '2026-11-24 01:02:03']
"""


@pytest.mark.parametrize("output_format", ["csv", "json"])
def test_every_type_is_read_back_as_it_was(tmp_path: Path, output_format: str) -> None:
    con = duckdb.connect()
    result = con.execute(f"select {TYPED}")
    columns = [f"c{i}" for i in range(len(result.description or []))]
    types = [str(column[1]) for column in result.description or []]
    rows = result.fetchall()
    (tmp_path / "ours").write_text(render(Table("", tuple(columns), rows), output_format))
    con.execute(f"copy (select * from (select {TYPED}) t({', '.join(columns)})) to '{tmp_path / 'theirs'}' "
                f"(format {output_format}{', array true' if output_format == 'json' else ''})")  # fmt: skip

    def cast(column: str, kind: str) -> str:
        nested = kind.endswith("]") or kind.startswith(("STRUCT", "MAP"))
        return f"{column}::json::{kind}" if nested else f"{column}::{kind}"

    texts = ", ".join(f"{column}: 'varchar'" for column in columns)
    read = f"select {', '.join(map(cast, columns, types))} from read_{output_format}('{{}}', columns = {{{{{texts}}}}})"
    assert con.execute(read.format(tmp_path / "ours")).fetchall() == rows
    if output_format == "json":  # a type that DuckDB writes as a number or a truth value is one here too
        ours, theirs = (json.loads((tmp_path / name).read_text())[0].values() for name in ("ours", "theirs"))
        for mine, other in zip(ours, theirs, strict=True):
            assert type(mine) in {int, float, bool} if type(other) in {int, float, bool} else mine is not True


def test_decimals_and_times_are_shown_in_markdown_and_latex() -> None:
    con = duckdb.connect()
    rows = con.execute(
        "select 3600.5::decimal(9, 2), timestamptz '2026-11-24 01:02:03+00', date '2026-01-02'"
    ).fetchall()
    table = Table("", ("d", "t", "day"), rows)
    assert "| 3600.50 | 2026-11-24 01:02:03+00:00 | 2026-01-02 |" in render(table, "markdown")
    assert "3600.50 & 2026-11-24 01:02:03+00:00 & 2026-01-02" in render(table, "latex")


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


def test_metrics_of_two_settings_are_told_apart() -> None:
    row = {
        **{"dataset": "d", "language": "en", "model": "m", "method": "urial", "dpo": False, "quantization": "F32"},
        **{"judge": "rules", "judge_id": "j", "template_sha256": "t", "metric": "choice", "n": 2, "differs": False},
    }
    rows = [{**row, "cell_id": one, "setup": one, "mean": mean} for one, mean in (("a", 1.0), ("b", 0.0))]
    assert other_tables.metrics("Metrics", rows).dicts() == [
        {"model": "m", "method": "urial", "setup": "a", "choice": 1.0, "n": 2},
        {"model": "m", "method": "urial", "setup": "b", "choice": 0.0, "n": 2},
    ]
