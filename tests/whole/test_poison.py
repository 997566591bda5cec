"""Hostile texts from raw rows to every output: nothing on a terminal, in a spreadsheet, a page or LaTeX obeys them."""

from __future__ import annotations

import base64
import csv
import gzip
import io
import json
import re
import shutil
import stat
import subprocess
import unicodedata
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from icl_local.cli import icl
from tests.judge_rows import database, response_rows

POISON = {
    "ansi": "\x1b[2J\x1b[31mred\x1b]0;title\x07\x9b31m",
    "link": "\x1b]8;;https://evil.example\x1b\\click\x1b]8;;\x1b\\",
    "markup": "[bold]b[/bold] [link=https://evil.example]x[/link] [/] [",
    "bidi": "if admin\u202e \u2066// check\u2069 \u2066 \u200f\u061c",
    "nul": "before\0after",
    "formula": '=HYPERLINK("https://evil.example","x")',
    "late formula": "\t @SUM(1)",
    "page": "</pre></script><script>window.hacked=1</script><img src=x onerror=hacked()><a href='javascript:x'>",
    "latex": r"\input{/etc/passwd}\write18{touch hacked} $ & % # _ ^ ~ { }} \end{tabular} ^^5cinput",
    "erase": "over\rwrite\b\b\b \x0b\x0c\x85\u2028\u2029",
}
LONG_LINE = 10_000_000  # characters


@pytest.fixture(scope="module")
def poisoned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database where model, query, answer, evidence and judge's reason are hostile, one kind a query."""
    records = response_rows(len(POISON), model="M\x1b[31m[b]=1\u202e</script>\\input{x}")
    kinds = iter(POISON.items())
    out: list[tuple[str, dict[str, object]]] = []
    for table, row in records:
        if table == "queries":
            kind, text = next(kinds)
            out.append((table, {**row, "query_id": kind, "instruction": text}))
        elif table == "responses":
            out.append((table, {**row, "text": text, "raw_text": text}))
            key = row["response_id"]
            found = {"response_id": key, "error": "infinite_loop", "found": True, "detector_version": "9"}
            out.append(("critical_errors", {**found, "unit": text, "start_char": 0, "copies": 2.0, "span": 4}))
            judgment = {"judgment_id": f"j-{kind}", "attempt": 1}
            said = {"response_id": key, "judge_id": "judge", "template_sha256": "t", "repeat": 0, "status": "ok"}
            given = {"scores": [3.0], "not_applicable": [False], "reasons": [text]}
            out.append(("judgments", {**judgment, **said, **given, "raw_reply": text, "created_at": row["created_at"]}))
        else:
            out.append((table, row))
    judge = {"judge_id": "judge", "name": f"openai:{POISON['ansi']}", "backend": "openai", "model": POISON["markup"]}
    template = {"template_sha256": "t", "name": "multi", "text": POISON["page"], "metrics": ["depth"]}
    return database(
        tmp_path_factory.mktemp("poison") / "x.duckdb", [("judges", judge), ("judge_templates", template), *out]
    )


def call(*arguments: object) -> Result:
    result = CliRunner().invoke(icl, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result


def obeyed(text: str) -> list[str]:
    """Characters that a terminal or an editor acts on."""
    return sorted({c for c in text if c not in "\n\t" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")})


ON_A_TERMINAL = [
    *(("show", kind) for kind in POISON),
    ("sql", "select * from responses"),
    ("sql", 'select text, raw_text as "\x1b[31m" from responses'),
    ("errors",),
    ("errors", "--list"),
    ("status",),
    *(("tables", name) for name in "123468"),
    ("judge", "--judge", "openai:m", "--plan"),
]


@pytest.mark.parametrize("arguments", ON_A_TERMINAL, ids=lambda arguments: " ".join(arguments[:2])[:24])
@pytest.mark.parametrize("form", ["text", "markdown", "json"])
def test_a_terminal_obeys_nothing(poisoned: Path, arguments: tuple[str, ...], form: str) -> None:
    result = call(*arguments, "--format", form, "--db", poisoned)
    assert obeyed(result.stdout + result.stderr) == []


@pytest.mark.parametrize("kind", POISON)
def test_what_was_said_is_still_shown(poisoned: Path, kind: str) -> None:
    """Inert is not empty: json gives the text back, the terminal shows its visible part."""
    (shown,) = json.loads(call("show", kind, "--format", "json", "--db", poisoned).stdout)
    assert shown["text"] == POISON[kind].replace("\0", "\N{REPLACEMENT CHARACTER}")
    visible = re.findall(r"[A-Za-z]{5,}", POISON[kind])
    shown = re.sub(r"[\s│]+", "", call("show", kind, "--db", poisoned).stdout)
    assert [word for word in visible if word not in shown] == []


def cells(text: str) -> list[str]:
    return [cell for row in csv.reader(io.StringIO(text)) for cell in row]


@pytest.mark.parametrize("what", ["export", "export judgments", "sql", "errors", "tables", "show"])
def test_no_csv_cell_is_a_formula(poisoned: Path, tmp_path: Path, what: str) -> None:
    out = tmp_path / "x.csv"
    match what:
        case "export":
            call("export", "--format", "csv", "-o", out, "--db", poisoned)
        case "export judgments":
            call("export", "--format", "csv", "--what", "judgments", "-o", out, "--db", poisoned)
        case "sql":
            out.write_text(call("sql", "from responses", "--format", "csv", "--db", poisoned).stdout)
        case "errors":
            out.write_text(call("errors", "--list", "--format", "csv", "--db", poisoned).stdout)
        case "show":
            out.write_text(call("show", "formula", "--format", "csv", "--db", poisoned).stdout)
        case _:
            out.write_text(call("tables", "1", "--format", "csv", "--db", poisoned).stdout)
    text = out.read_text(encoding="utf-8")
    assert obeyed(text) == []
    assert "M\\u001b" in text
    assert [cell for cell in cells(text) if cell.lstrip().startswith(("=", "+", "@"))] == []


@pytest.mark.parametrize("command", [("errors", "--list"), ("sql", "select model, query_id, text from responses")])
def test_latex_has_no_command_of_a_model(poisoned: Path, command: tuple[str, ...], tmp_path: Path) -> None:
    text = call(*command, "--format", "latex", "--db", poisoned).stdout
    assert obeyed(text) == []
    assert not re.search(r"\\(input|write|end\{tabular\}[^\n])", text)
    assert "^^" not in text
    known = {
        "usepackage",
        "begin",
        "end",
        "toprule",
        "midrule",
        "bottomrule",
        "caption",
        "centering",
        "hline",
        "label",
        "small",
    }
    named = set(re.findall(r"\\([A-Za-z]+)", text)) - known
    assert {name for name in named if not name.startswith("text")} <= {
        "dots",
        "times",
        "pm",
        "cdot",
        "S",
        "footnotesize",
    }
    if not (engine := shutil.which("pdflatex")):
        return
    source = "\\documentclass{article}\\usepackage{booktabs,longtable}\\usepackage[T1]{fontenc}\\begin{document}\n"
    (tmp_path / "x.tex").write_text(f"{source}{text}\\end{{document}}\n")
    subprocess.run([engine, "-interaction=batchmode", "-no-shell-escape", "x.tex"], cwd=tmp_path, check=True)


class Tags(HTMLParser):
    """Counts scripts and images; collects attributes that run or reach out."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts, self.running = 0, list[tuple[str, str | None]]()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        names = dict(attributes)
        self.scripts += tag == "script" and "type" not in names
        for name, value in attributes:
            if name.startswith("on") or (
                not name.startswith("xmlns") and (value or "").lower().startswith(("javascript:", "http:", "//"))
            ):
                self.running.append((name, value))


def test_a_page_runs_nothing_and_holds_every_text(poisoned: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.html"
    call("report", "-o", out, "--db", poisoned)
    page = out.read_text(encoding="utf-8")
    tags = Tags()
    tags.feed(page)
    assert tags.scripts == 1
    assert tags.running == []
    assert "hacked" not in page
    packed = re.findall(r'class="texts">([^<]*)<', page)
    texts = [item["text"] for part in packed for item in json.loads(gzip.decompress(base64.b64decode(part)))]
    assert sorted(texts) == sorted(text.replace("\0", "\N{REPLACEMENT CHARACTER}") for text in POISON.values())


def test_what_holds_answers_is_its_owners_alone(poisoned: Path, tmp_path: Path) -> None:
    call("export", "--format", "csv", "-o", tmp_path / "x.csv", "--db", poisoned)
    call("export", "--format", "just-eval", "-o", tmp_path / "x.json", "--db", poisoned)
    call("export", "--format", "alpaca-eval", "-o", tmp_path / "a.json", "--db", poisoned)
    call("export", "--format", "parquet", "-o", tmp_path / "x.parquet", "--db", poisoned)
    call("export", "--format", "parquet", "--what", "all", "-o", tmp_path / "all", "--db", poisoned)
    call("db", "snapshot", "-o", tmp_path / "x.duckdb", "--db", poisoned)
    call("report", "-o", tmp_path / "x.html", "--db", poisoned)
    files = [file for file in tmp_path.rglob("*") if file.is_file() and file.name != "x.html"]  # made to be shared
    assert len(files) > 10
    assert [file.name for file in files if stat.S_IMODE(file.stat().st_mode) & 0o077] == []


@pytest.mark.soak
def test_a_line_of_ten_megabytes_ends_no_command(tmp_path: Path) -> None:
    records = response_rows(1)
    for table, row in records:
        if table == "responses":
            row["text"] = row["raw_text"] = "\x1b[31m" + "x" * LONG_LINE
    db = database(tmp_path / "x.duckdb", records)
    asked = "select response_id, text from responses"
    (row,) = json.loads(call("sql", asked, "--format", "json", "--db", db).stdout)
    assert len(row["text"]) == LONG_LINE + 5
    for arguments in (("sql", asked), ("show", "0"), ("errors", "--list"), ("errors", "--redetect"), ("status",)):
        assert obeyed(call(*arguments, "--db", db).output) == []
    call("export", "--format", "csv", "-o", tmp_path / "x.csv", "--db", db)
    assert (tmp_path / "x.csv").stat().st_size > LONG_LINE
    call("report", "-o", tmp_path / "x.html", "--max-mb", 1, "--db", db)
    assert (tmp_path / "x.html").stat().st_size < 3_000_000
