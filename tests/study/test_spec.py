"""Study files: the built-in ones, and errors that name file and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from icl_local.exceptions import ConfigError, UnknownName
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
        ("[[cells]]\nmodels = ['a']\nmethods = ['urial']", "languages is missing"),
        ("[[cells]]\nmodels = ['a']\nmethods = ['urla']\nlanguages = ['en']", "no method 'urla'"),
        ("color = 'red'", "unknown key 'color'"),
        ("[[cells]]\nmodel = ['a']", "unknown key 'model'"),
        ("[decoding]\ntemperature = 1", r"\[decoding\]: unknown key 'temperature'"),
        ("title = ", "not valid TOML"),
        ("[[judges]]\njudge = 3", "judge must be a text"),
    ],
)
def test_a_wrong_file_names_the_file_and_the_key(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "s.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as error:
        load_study(str(path))
    assert "s.toml" in str(error.value)
    assert "\n" not in str(error.value)


def test_queries_for_a_language_without_cells_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"--queries pt=...: the study demo has no cells in 'pt'"):
        load_study("demo", queries={"pt": "samples"})


def test_an_unknown_study_lists_those_there_are() -> None:
    with pytest.raises(UnknownName, match="demo, paper"):
        load_study("papre")
