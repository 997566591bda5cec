"""Values that the tab key completes, and how little is loaded for it."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from icl_local.cli import icl
from tests.cli.test_cli import HEAVY
from tests.judge_rows import database, response_rows


def completed(line: str) -> list[str]:
    """Return what a line may become; its last word is the one being typed."""
    *words, begun = line.split(" ")
    return [item.value for item in ShellComplete(icl, {}, "icl", "_ICL_COMPLETE").get_completions(words, begun)]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ICL_MODELS_FILE", str(tmp_path / "models.toml"))
    (tmp_path / "mine.gguf").touch()
    (tmp_path / "models.toml").write_text('[my-model.base]\ngguf = "mine.gguf"\n')
    return tmp_path


def test_models_are_those_of_the_registry_and_files() -> None:
    assert completed("run --model m") == ["mistral-7b-v0.3", "my-model", "mine.gguf"]
    assert completed("run --model smollm2-135m,mi") == ["smollm2-135m,mistral-7b-v0.3", "smollm2-135m,mine.gguf"]
    assert completed("models show my") == completed("models pull my") == ["my-model"]
    assert completed("machine probe --model llama-3.1") == ["llama-3.1-8b"]
    found = ShellComplete(icl, {}, "icl", "_ICL_COMPLETE").get_completions(["run", "--model"], "folder/")
    assert [(item.value, item.type) for item in found] == [("folder/", "file")]


def test_other_programs_models_are_completed_once_the_program_is_begun(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLAMA_CACHE", str(folder))
    (folder / "tiny.gguf").touch()
    assert "ollama:" in completed("run --model ")
    assert completed("run --model llama.c") == ["llama.cpp:mine.gguf", "llama.cpp:tiny.gguf"]
    assert completed("run --model my-model,llama.cpp:t") == ["my-model,llama.cpp:tiny.gguf"]
    assert completed("judge --judge local:llama.cpp:t") == ["local:llama.cpp:tiny.gguf"]


def test_methods_and_languages_are_the_built_in_ones_and_those_of_the_prompt_folder(folder: Path) -> None:
    (folder / "methods").mkdir()
    (folder / "methods" / "urban.toml").touch()
    assert completed("run --method ur") == ["urial"]
    assert completed("run --prompt-dir . --method zero-shot,ur") == ["zero-shot,urban", "zero-shot,urial"]
    assert completed("run --lang e") == ["en", "es", "eu"]
    assert completed("translate run --to es,e") == ["es,en", "es,eu"]


def test_names_of_the_database_are_completed_where_responses_are_selected(folder: Path) -> None:
    database(folder / "icl.duckdb", response_rows(1))
    stored = completed("errors --model ")
    assert len(stored) == 1
    assert completed(f"status --db icl.duckdb --model {stored[0][:3]}") == stored
    assert completed("errors --db none.duckdb --model ") == []
    assert completed("errors --lang ") == ["en"]
    assert completed("tables --judge ") == []
    assert completed("judge --judge local:smollm2-13") == ["local:smollm2-135m"]


def test_broken_files_complete_nothing(folder: Path) -> None:
    (folder / "models.toml").write_text("=")
    (folder / "icl.duckdb").write_text("no database")
    assert completed("models pull ") == completed("errors --model ") == []


def test_the_last_word_of_a_query_may_become_a_view() -> None:
    shell = ShellComplete(icl, {}, "icl", "_ICL_COMPLETE")
    found = shell.get_completions(["sql"], "select * from score_m")
    assert [item.value for item in found] == ["select * from score_means"]


def test_tables_figures_and_studies_have_their_names() -> None:
    assert completed("tables 1 se") == ["sentences"]
    assert completed("figures s") == ["size", "shift"]
    assert completed("study p") == ["paper"]


def shell_completes(line: str, then: str = "") -> tuple[list[str], list[str]]:
    """Return what a whole process, as a shell starts one for each press of the tab key, prints and loads."""
    code = f"""
import atexit, os, sys
os.environ.update(_ICL_COMPLETE="bash_complete", COMP_WORDS={line!r}, COMP_CWORD="{len(line.split(" ")) - 1}")
atexit.register(lambda: print(sorted(set(sys.modules) & set({HEAVY}))))
from icl_local.cli import COMMANDS, icl, main
{then}
main([])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    *found, heavy = done.stdout.splitlines()
    assert done.stderr == ""
    return found, ast.literal_eval(heavy)


def test_completing_a_name_loads_nothing_heavy() -> None:
    every_command = "[icl.get_command(None, name) for name in COMMANDS]"
    assert shell_completes("icl run --lang en --method ur", every_command) == (["plain,urial"], [])


def test_a_shell_completes_the_names_of_a_database(folder: Path) -> None:
    database(folder / "icl.duckdb", response_rows(1))
    found, _ = shell_completes("icl errors --lang ")
    assert found == ["plain,en"]


def test_only_a_shell_that_completes_leaves_out_what_calls_need(tmp_path: Path) -> None:
    code = "from icl_local.cli import main; main(['data', 'list'])"
    environment = {**os.environ, "_ICL_COMPLETE": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "samples" in done.stdout


def test_loaded_modules_stay_after_a_completion() -> None:
    before = "from icl_local import store, weights; import icl_local.cli.console as console"
    after = "assert [sys.modules[one.__name__] for one in (store, weights, console)] == [store, weights, console]"
    code = f"{before}; icl.get_command(None, 'run'); {after}"
    assert shell_completes("icl run --lang en --method ur", code)[0] == ["plain,urial"]
