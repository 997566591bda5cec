"""The three pages for a first use: every command line runs, in order, on the files that the page names."""

from __future__ import annotations

import functools
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

import icl_local as icl
from icl_local.cli import main
from tests.tiny_checkpoint import build_checkpoint
from tests.tiny_model import build_tiny_gguf, merges_of_prompts

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ("start-gguf.md", "start-checkpoint.md", "start-results.md")
SCREEN_LINES = 50


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ICL_MODELS_FILE", str(tmp_path / "models.toml"))
    run = icl.run

    @functools.wraps(run)  # with the defaults, which the command takes
    def short_run(db: Path, **options: Any) -> Any:
        return run(db, **{**options, "limit": 1, "max_tokens": 2, "probe": False, "verify": 0})

    monkeypatch.setattr(icl, "run", short_run)
    return tmp_path


def blocks(page: str, kind: str) -> list[str]:
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{kind}\n(.*?)^```$", text, flags=re.M | re.S)


def run_page(page: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Write the files that the page shows, run its commands, and return what they print."""
    text = (DOCS / page).read_text(encoding="utf-8")
    for name, content in re.findall(r"`([\w.-]+)`:\n\n```json\n(.*?)^```$", text, flags=re.M | re.S):
        Path(name).write_text(content, encoding="utf-8")
    lines = [line for block in blocks(page, "sh") for line in block.splitlines()]
    assert lines
    for line in lines:
        program, *arguments = shlex.split(line, comments=True)
        assert program == "icl"
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 0, f"{line}\n{capsys.readouterr().err}"
    return capsys.readouterr().out


def test_a_gguf_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build_tiny_gguf(folder / "my-model.gguf", chat_template=None, merges=merges_of_prompts())
    build_tiny_gguf(folder / "my-instruct.gguf", seed=1, merges=merges_of_prompts())
    shown = run_page("start-gguf.md", capsys)
    assert "Table 4" in shown
    assert icl.query("icl.duckdb", "select count(*) from responses where dataset = 'my-queries'").rows == [(1,)]


@pytest.mark.usefixtures("one_torch_thread")
def test_a_checkpoint(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build_checkpoint(folder / "my-checkpoint", scale=0.1)
    build_checkpoint(folder / "my-dpo-checkpoint", scale=0.1, seed=1)
    assert "Table 8" in run_page("start-checkpoint.md", capsys)


def test_results_of_another_tool(capsys: pytest.CaptureFixture[str]) -> None:
    run_page("start-results.md", capsys)
    found = icl.query("icl.duckdb", "select error, n_errors, n from error_rates order by error").rows
    assert ("infinite_loop", 1, 2) in found
    assert ("unintended_code", 0, 2) in found


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_one_screen_and_linked_from_the_readme(page: str) -> None:
    assert len((DOCS / page).read_text(encoding="utf-8").splitlines()) <= SCREEN_LINES
    assert f"(docs/{page})" in (DOCS.parent / "README.md").read_text(encoding="utf-8")
