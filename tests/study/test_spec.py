"""Study files: the built-in ones, and errors that name file and key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from icl_local import store, study
from icl_local.exceptions import ConfigError, UnknownName
from icl_local.running import load_queries
from icl_local.study.spec import StudyCell, load_study, names
from icl_local.weights import registry


def test_the_papers_study_is_its_29_cells() -> None:
    paper = load_study("paper")
    assert len(paper.cells) == 29
    medium = [c for c in paper.cells if c.model in ("llama-3.1-8b", "eurollm-9b")]
    assert len(medium) == 18
    assert len([c for c in paper.cells if c.dpo]) == 5
    assert StudyCell("llama-3.2-1b", "instruct", "en", dpo=True) not in paper.cells
    assert {(t.model, t.variant) for t in paper.trainings} == {
        ("llama-3.2-1b", "base"), ("eurollm-1.7b", "base"), ("eurollm-1.7b", "instruct"),
    }  # fmt: skip
    assert all(one.model in registry.load_registry() for one in paper.cells)
    assert names() == ["demo", "paper"]


@pytest.mark.parametrize(
    "text, message",
    [
        ("cells = 3", "cells must be a list"),
        ("[cells]\nmodels = ['a']", r"\[cells\] is one table of several: write \[\[cells\]\]"),
        ("[[cells]]\nmodels = ['a']\nmethods = ['urial']", "languages is missing"),
        ("[[cells]]\nmodels = ['a']\nmethods = ['urla']\nlanguages = ['en']", "no method 'urla'"),
        ("[[cells]]\nmodels = ['a']\nmethods = ['urial[kk=1]']\nlanguages = ['en']", "unknown key 'kk'"),
        (
            "[pools]\nmine = 'none.jsonl'\n[[cells]]\nmodels = ['a']\nmethods = ['urial']\nlanguages = ['en']",
            "none.jsonl: cannot be read",
        ),
        ("[[cells]]\nmodels = ['a']\nmethods = ['urial']\nlanguages = ['xx']", "no language 'xx'"),
        (
            "limit = 1\nsample = 2\n[[cells]]\nmodels = ['a']\nmethods = ['urial']\nlanguages = ['en']",
            "sample draws queries and limit takes the first ones",
        ),
        ("color = 'red'", "unknown key 'color'"),
        ("[[cells]]\nmodel = ['a']", "unknown key 'model'"),
        ("[decoding]\ntop_k = 1", r"\[decoding\]: unknown key 'top_k'"),
        ("title = ", "not valid TOML"),
        ("[[judges]]\njudge = 3", "judge must be a text"),
        ("[[judges]]\njudge = 'gpt-4'", r"\[\[judges\]\]: judge cannot be 'gpt-4'; write openai:MODEL, "),
        ("[[judges]]\njudge = 'local:'", "judge cannot be 'local:'"),
        ("[[judges]]\njudge = 'openai:m@host/v1'", "judge cannot be 'openai:m@...'"),
        ("[[judges]]\njudge = 'openai:m'\nvariant = 'rubric'", "no variant 'rubric'; there are published"),
        ("[[judges]]\njudge = 'rules'\nrepeats = 0", r"\[\[judges\]\]: repeats must be 1 or more, not 0"),
        ("[[judges]]\njudge = 'rules'\nrepeats = -2", "repeats must be 1 or more, not -2"),
        ("[queries]\nes = 3", r"\[queries.es\]: file must be a text"),
        ("[queries.es]\nfile = 'q.csv'\nmap = 'id=uid'", r"\[queries.es\]: map must be a table"),
        ("[queries.es]\nfile = 'q.csv'\ncolumns = {}", r"\[queries.es\]: unknown key 'columns'"),
        ("[queries.es]\nmap = {id = 'uid'}", r"\[queries.es\]: file is missing"),
    ],
)
def test_a_wrong_file_names_the_file_and_the_key(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "s.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as error:
        load_study(str(path))
    assert "s.toml" in str(error.value)
    assert "\n" not in str(error.value)


def test_methods_with_parameters_are_cells_by_their_shortest_names(tmp_path: Path, tiny_gguf: Path) -> None:
    items = [{"id": n, "instruction": f"Say {n}", "output": f"{n}."} for n in range(4)]
    (tmp_path / "demos.jsonl").write_text("\n".join(map(json.dumps, items)))
    methods = ["urial[k=2..3]", "urial[lang=en]", "zero-shot[pool=mine,k=1,seed=1|2]"]
    (tmp_path / "s.toml").write_text(
        "limit = 1\n[queries]\nen = 'samples'\nes = 'samples'\n[pools]\nmine = 'demos.jsonl'\n"
        f"[[cells]]\nmodels = ['{tiny_gguf}']\nmethods = {methods[:2]}\nlanguages = ['en', 'es']\n"
        f"[[cells]]\nmodels = ['{tiny_gguf}']\nmethods = {methods[2:]}\nlanguages = ['en']\n"
    )
    requested = load_study(str(tmp_path / "s.toml"))
    drawn = [f"zero-shot[k=1,seed={seed},pool=mine]" for seed in (1, 2)]
    assert [(one.method, one.language) for one in requested.cells] == [
        ("urial[k=2]", "en"), ("urial", "en"), ("urial[k=2]", "es"), ("urial", "es"), ("urial[lang=en]", "es"),
        *((name, "en") for name in drawn),
    ]  # fmt: skip
    done = study.run_study(tmp_path / "s.duckdb", requested, probe=False)
    assert (done.failures, sum(one.n_new + one.n_too_long for one in done.cells)) == ((), 7)
    assert len(store.query(tmp_path / "s.duckdb", "select method, language from cells where n_responses = 1").rows) == 7


def test_a_language_without_queries_is_reported_as_that(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text("[[cells]]\nmodels = ['a']\nmethods = ['urial']\nlanguages = ['eu']")
    sets = load_study(str(tmp_path / "s.toml")).query_sets()
    assert str(sets["eu"]).startswith("no queries in 'eu'; give them with --queries eu=FILE")
    with pytest.raises(ConfigError, match="--queries en= names no file; write en=FILE"):
        load_queries(["en"], ["en="])


def test_an_option_takes_the_place_of_either_part_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text("sample = 9\n[[cells]]\nmodels = ['a']\nmethods = ['urial']\nlanguages = ['en']")
    study = load_study(str(path), limit=2)
    assert (study.sample, study.limit) == (None, 2)
    with pytest.raises(ConfigError, match=r"s\.toml: sample draws queries and limit takes the first ones"):
        load_study(str(path), limit=2, sample=3)
    with pytest.raises(ConfigError, match=r"nowhere\.toml: cannot be read \(No such file or directory\); correct it"):
        load_study("nowhere.toml")


def test_queries_for_a_language_without_cells_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"--queries pt=...: the study demo has no cells in 'pt'"):
        load_study("demo", queries={"pt": "samples"})


def test_a_file_of_queries_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--queries en=.*nowhere.jsonl: no such file; "):
        load_study("demo", queries={"en": str(tmp_path / "nowhere.jsonl")})


def test_an_unknown_study_lists_those_there_are() -> None:
    with pytest.raises(UnknownName, match="demo, paper"):
        load_study("papre")
