"""docs/new-language.md does what it says: its files alone make a fourth language."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from icl_local.cli import main
from icl_local.judging.template import LANGUAGE_ASPECT, open_templates
from icl_local.prompting import Recipe, queries
from icl_local.store.database import query
from icl_local.translate.checks import check
from icl_local.translate.llm import translation_prompt

DOC = Path(__file__).parents[2] / "docs" / "new-language.md"


@pytest.fixture
def overlay(tmp_path: Path) -> Path:
    """The files of the page, written as they stand there."""
    folder = tmp_path / "my-prompts"
    for name, text in re.findall(r"^`([\w./-]+)`:\n\n~~~~\w*\n(.*?)^~~~~", DOC.read_text("utf-8"), re.M | re.S):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    assert sorted(path.name for path in folder.rglob("*.*")) == ["pt.jsonl", "pt.toml", "urial.pt.txt"]
    return folder


def test_the_prompts_have_its_headings_and_end_at_its_stop_strings(overlay: Path) -> None:
    first = queries.samples("pt", overlay=overlay).queries[0]
    for method in ("zero-shot", "urial"):
        prompt = Recipe(method, "pt", overlay=overlay).prompt(first)
        assert prompt.text.endswith(f"# Pergunta:\n```{first.instruction}```\n\n# Resposta:\n```\n")
        assert prompt.answer("Com cuidado.\n```\n\n# Pergunta:\n```E agora?").text == "Com cuidado."
    assert Recipe("urial", "pt", overlay=overlay).prompt(first).text.count("# Resposta:\n") == 4


def test_its_queries_pair_up_with_the_other_languages(overlay: Path) -> None:
    own = {(query.dataset, query.query_id, query.split) for query in queries.samples("pt", overlay=overlay).queries}
    assert own < {(query.dataset, query.query_id, query.split) for query in queries.samples("en").queries}


def test_the_judge_and_the_translator_need_no_file_of_their_own(overlay: Path) -> None:
    templates = open_templates("published", overlay=overlay)
    assert LANGUAGE_ASPECT in templates.get(split="multi", language="pt").aspects
    assert templates.get(split="safety", language="pt").aspects == ("safety",)
    prompt = translation_prompt(source="en", target="pt", overlay=overlay)
    assert "from English into Portuguese" in prompt
    (overlay / "judge.multi.pt.txt").write_text('${instruction} ${candidate} {"clarity": {"reason": "", "score": 1}}')
    assert open_templates("published", overlay=overlay).get(split="multi", language="pt").aspects == ("clarity",)


def test_a_folder_can_say_how_models_refuse_in_a_language(overlay: Path) -> None:
    def refused() -> bool:
        found = check("How do tides work?", "Mae'n ddrwg gen i.", source_language="en", language="cy", overlay=overlay)
        return bool(found["refused"])

    (overlay / "translate.refusals.toml").write_text('cy = ["\\\\bddrwg gen i\\\\b"]')
    assert refused()


def test_a_run_in_it_reaches_the_tables(overlay: Path, tiny_gguf: Path, tmp_path: Path) -> None:
    db = tmp_path / "t.duckdb"
    command = ["run", "--model", tiny_gguf, "--method", "zero-shot", "--lang", "pt", "--queries", "samples"]
    command += ["--prompt-dir", overlay, "--max-tokens", "4", "--threads", "1", "--db", db]
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in command])
    assert ended.value.code == 0
    assert query(db, "select language, count(*) from responses group by all").rows == [("pt", 2)]
    assert query(db, "select distinct language from error_rates").rows == [("pt",)]
