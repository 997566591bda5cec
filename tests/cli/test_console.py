"""Tables, frames and lists on a narrow terminal."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import duckdb
import pytest
from click.testing import CliRunner

from icl_local.cli import console, icl, progress, read
from icl_local.results.tables import Table
from tests import synthetic
from tests.cli.terminal import Terminal

SCORED = Table(
    "Table 1. Scores in English",
    ("model", "method", "helpful", "engaging", "aspects_mean", "judged", "settings"),
    [
        ("SmolLM2 135M", "zero-shot", 1.25, 4.5, 2.25, "20/20", "max_tokens 20, penalty 1.1, KV f16"),
        ("SmolLM2 135M", "urial", 2.25, 1.5, 3.25, "20/20", "max_tokens 24, penalty 1.1, KV f16"),
    ],
    marks={(1, 2): "*"},
    notes=("No marks.",),
)


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic.build(tmp_path_factory.mktemp("narrow") / "study.duckdb", queries=20)


@pytest.mark.parametrize("width", [40, 50, 60, 80, 110])
def test_a_narrow_terminal_cuts_no_number_and_no_name(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    console.print_tables([SCORED])
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= width
    found = out.split()
    for word in ("SmolLM2", "135M", "zero-shot", "urial", "1.25", "4.50", "2.25*", "3.25", "20/20", "KV"):
        assert word in found
    assert ("-- 1 of 2" in out) == (width == 40)
    assert ("Settings s2: max_tokens 24, penalty 1.1, KV f16." in " ".join(found)) == (width < 110)


def test_a_whole_table_needs_no_cut_at_the_usual_width(studied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    out = CliRunner().invoke(icl, ["tables", "1", "2", "3", "--db", str(studied)]).output
    assert "-- 1 of" not in out
    numbers = re.findall(r"\d\S*…", out)
    assert numbers == []


def test_a_table_is_drawn_only_until_it_fits(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    drawings = []
    draw = console._drawn
    monkeypatch.setattr(console, "_drawn", lambda found, **how: drawings.append(found.columns) or draw(found, **how))
    names = ("model", "method", "language", "dataset", "quantization")
    rows = [(f"model {n}", "zero-shot", "en", "just-eval", "Q8_0") for n in range(3)]
    monkeypatch.setenv("COLUMNS", "80")
    console.print_rows(names, rows)
    assert drawings == [names]
    assert "Q8_0" in capsys.readouterr().out
    monkeypatch.setenv("COLUMNS", "36")
    drawings.clear()
    console.print_rows(names, rows)
    assert drawings == [names, names[:4], names[:3], names[:3]]  # the last one is printed
    assert "all rows: dataset just-eval, quantization Q8_0" in " ".join(capsys.readouterr().out.split())


def test_a_table_without_rows_has_its_title_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    console.print_tables([Table("Token shift by language", ("model", "n"), [], notes=("No rows yet.",))])
    assert capsys.readouterr().out == "Token shift by language\nNo rows yet.\n\n"


def test_the_width_of_a_pipe_is_that_of_columns_or_of_a_terminal(tmp_path: Path) -> None:
    master, terminal = os.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 95, 0, 0))

    def width(stderr: int = subprocess.DEVNULL, file: Path | None = None, **environment: str) -> int:
        command = [sys.executable, "-c", "from icl_local.cli import console; print(console.stdout().width)"]
        how: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stderr": stderr, "env": {**os.environ, **environment}}
        if file is None:
            return int(subprocess.run(command, stdout=subprocess.PIPE, check=True, **how).stdout)
        with file.open("w") as out:
            subprocess.run(command, stdout=out, check=True, **how)
        return int(file.read_text())

    assert width() == width(COLUMNS="0") == width(COLUMNS="wide") == console.PIPE_WIDTH
    assert width(terminal) == 95
    assert width(terminal, COLUMNS="70") == 70
    assert width(terminal, tmp_path / "file") == console.PIPE_WIDTH
    os.close(master)
    os.close(terminal)


def test_a_listed_error_is_its_cell_and_one_line_of_its_text(
    studied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    path = Path(shutil.copy(studied, tmp_path / "x.duckdb"))
    with duckdb.connect(str(path)) as con:
        con.execute("update raw.critical_errors set copies = 20000")
    out = CliRunner().invoke(icl, ["errors", "--list", "--error", "infinite_loop", "--db", str(path)]).stdout
    assert max(map(len, out.splitlines())) == 60
    errors = " ".join(out.split())
    assert "19 · Llama3.2 1B DPO · zero-shot · en · infinite_loop · 20,000 copies in 840 characters …" in errors
    assert [line for line in out.splitlines() if line.startswith("    ") and line.endswith("…")] != []


def test_a_long_answer_is_cut_unless_full(studied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "ANSWER_CHARACTERS", 20)
    short = CliRunner().invoke(icl, ["show", "7", "--db", str(studied)]).stdout
    full = CliRunner().invoke(icl, ["show", "7", "--full", "--db", str(studied)]).stdout
    assert "more characters; --full shows them]" in short
    assert "more characters" not in full
    assert len(full) > len(short)


@pytest.mark.parametrize("width", [44, 100])
def test_what_a_border_would_cut_is_a_line_inside(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    subtitle = "length · 1024 tokens · infinite_loop · infinite_loop_literal"
    console.print_panels([("SmolLM2 135M · Q4_1 · zero-shot", "An answer.", subtitle)])
    first, *inside, last = capsys.readouterr().out.splitlines()
    assert "SmolLM2 135M · Q4_1 · zero-shot" in first
    assert (subtitle in last) == (width == 100)
    assert (subtitle in " ".join(" ".join(inside).replace("│", "").split())) == (width == 44)


@pytest.mark.parametrize("width, cut", [(60, True), (80, True), (110, False)])
def test_a_narrow_bar_keeps_the_end_of_its_label(width: int, cut: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr("sys.stderr", screen := Terminal())
    console.stderr.cache_clear()
    with progress.Display() as display:
        for language in ("en", "es"):
            label = f"SmolLM2 135M · zero-shot · {language}"
            display.show(label, done=0, total=12)
            display.show(label, done=4, total=12, rate="123 tok/s", note="loops 1")
    console.stderr.cache_clear()
    drawn = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue()).strip().splitlines()[-2:]
    for language, line in zip(("en", "es"), drawn, strict=True):
        assert len(line) <= width - len("^C")
        assert f"shot · {language} ━" in line
        assert " 4/12 123 tok/s " in line
        assert ("SmolLM2 135M · zero-shot" in line) != cut


def test_text_that_an_ascii_terminal_lacks_is_escaped(studied: Path) -> None:
    ascii_only = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-m", "icl_local", "show", "7", "--db", str(studied)]
    done = subprocess.run(command, capture_output=True, env=ascii_only)
    assert done.returncode == 0, done.stderr
    assert b"EuroLLM 9B \\xb7 Q4_K_M \\xb7 urial" in done.stdout
