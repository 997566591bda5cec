"""The parts of a method's prompt and their tokens."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from icl_local.cli import icl
from icl_local.cli.run import run as command
from icl_local.engine import tokenize
from icl_local.prompting import Query, Recipe
from icl_local.running import method_parts


def test_the_parts_are_the_prompt_and_their_tokens_are_its_tokens(tiny_gguf: Path) -> None:
    parts = method_parts(["urial[k=1..2]"], "es", query="¿Qué?", model=str(tiny_gguf))
    two = [one for one in parts if one.method == "urial[k=2]"]
    assert [one.part for one in two] == ["before", "example 2", "example 3", "query"]
    text = Recipe("urial[k=2]", "es").prompt(Query("s", "1", "es", "¿Qué?", "multi")).text
    assert "".join(one.text for one in two) == text
    assert sum(one.tokens or 0 for one in two) == len(tokenize(tiny_gguf, [text])[0])


def test_the_command_shows_what_a_query_retrieves_and_lists_methods(tmp_path: Path) -> None:
    pool = tmp_path / "pool.jsonl"
    items = [{"id": n, "instruction": f"About {n}", "output": f"It is {n}."} for n in ("rivers", "bread")]
    pool.write_text("\n".join(map(json.dumps, items)))
    arguments = ["methods", "zero-shot[pool=p,k=1,retrieve=bm25]", "--pool", f"p={pool}", "--query", "What is bread?"]
    shown = CliRunner().invoke(icl, arguments).output
    assert "About bread" in shown
    assert "example bread" in shown
    assert "rivers" not in shown
    parts = json.loads(CliRunner().invoke(icl, [*arguments, "--format", "json"]).output)
    assert [(one["part"], one["tokens"]) for one in parts] == [("example bread", None), ("query", None)]
    listed = json.loads(CliRunner().invoke(icl, ["methods", "--format", "json"]).output)
    assert [one["method"] for one in listed] == ["instruct", "urial", "zero-shot"]


@pytest.mark.parametrize(("begun", "completed"), [
    ("uri", ["urial"]), ("urial,urial[o", ["urial,urial[order=", "urial,urial[own="]),
    ("urial[k=1,se", ["urial[k=1,seed="]), ("urial[k=1],z", ["urial[k=1],zero-shot"]),
])  # fmt: skip
def test_a_shell_completes_parameters(begun: str, completed: list[str]) -> None:
    (option,) = (one for one in command.params if one.name == "method")
    with click.Context(command) as ctx:
        assert [one.value for one in option.shell_complete(ctx, begun)] == completed
