"""Options: their variables, ranges and spellings, and those that contradict each other or would do nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from icl_local.cli import icl, main


def _options(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Option]]:
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from _options(found, (*path, name))
    yield from ((path, option) for option in command.params if isinstance(option, click.Option))


def test_every_option_has_the_environment_variable_of_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the README says; the names after the parameters of Python, those of before, are read too."""
    owners: dict[str, set[tuple[tuple[str, ...], str]]] = {}
    spelled = 0
    for path, option in _options(icl):
        context = click.Context(icl, info_name="icl", auto_envvar_prefix="ICL")
        for name in path:
            context = click.Context(icl, info_name=name, parent=context)
        assert option.name is not None
        names = [name.strip("-") for name in option.opts if name.startswith("--")]
        shared = {"db": "ICL_DB", "prompt_dir": "ICL_PROMPT_DIR"}.get(option.name)
        documented = [shared] if shared else ["_".join(("icl", *path, name)) for name in names]
        for variable in (*documented, "_".join(("icl", *path, option.name))):
            with monkeypatch.context() as environment:
                environment.setenv(variable.upper().replace("-", "_"), "text")
                assert option.resolve_envvar_value(context) == "text", (path, variable)
            owners.setdefault(variable.upper().replace("-", "_"), set()).add((path, option.name))
        spelled += option.name not in [name.replace("-", "_") for name in names]
    assert spelled > 50
    assert [one for name, one in owners.items() if len(one) > 1 and name not in ("ICL_DB", "ICL_PROMPT_DIR")] == []


def test_a_variable_names_the_file_of_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []
    monkeypatch.setattr("icl_local.results.write_report", lambda db, path, **_: taken.append(path))
    monkeypatch.setenv("ICL_REPORT_OUTPUT", str(tmp_path / "page.html"))
    CliRunner().invoke(icl, ["report"])
    assert taken == [tmp_path / "page.html"]


def test_the_place_of_every_result_has_the_same_spellings() -> None:
    spellings = ["-o", "--out", "--output"]
    found = [(path, option.opts) for path, option in _options(icl) if {*spellings} & {*option.opts}]
    assert len(found) == 10
    assert [one for one in found if one[1] != spellings] == []


def test_every_number_has_a_range() -> None:
    """A seed is any whole number; every other number refuses what the command cannot use."""
    for path, option in _options(icl):
        if option.name in ("seed", "draw_seed"):
            continue
        assert not isinstance(option.type, type(click.INT) | type(click.FLOAT)) or isinstance(
            option.type, click.IntRange | click.FloatRange
        ), (path, option.opts)
        if isinstance(option.type, click.IntRange | click.FloatRange):
            assert option.type.min is not None, (path, option.opts)
            assert option.type.min >= 0, (path, option.opts)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["run", "m.gguf"], "unexpected argument 'm.gguf'; a model is given as --model FILE"),
        (["run", "--model", "m.gguf", "--limit", "-3"], "-3 is not in the range"),
        (["run", "--model", "m.gguf", "--limit", "3", "--sample", "3"], "give one of them"),
        (["run", "--model", "m.gguf", "--threads", "0"], "0 is not in the range"),
        (["judge", "--judge", "openai:m", "--wait"], "belong to --batch"),
        (["export", "--format", "csv", "--judge", "x", "-o", "f"], "add --what judgments"),
        (["tables", "--versus-paper", "--published"], "--published the paper's: choose one"),
        (["tables", "1", "--corrected", "--equated-to", "x"], "give one, without"),
        (["quantize", "smollm2-135n", "--out", "x", "--type", "q8_0"], "did you mean smollm2-135m?"),
    ],
)
def test_contradictions_and_impossible_numbers_are_refused(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(icl, arguments)
    assert result.exit_code != 0
    assert message in result.output + str(result.exception)


def test_a_variable_for_other_judges_and_formats_is_left_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ICL_JUDGE_TIMEOUT", "9")
    monkeypatch.setenv("ICL_EXPORT_ORGANIZATION", "lab")
    for command in (["judge", "--judge", "rules"], ["export", "--format", "csv", "-o", str(tmp_path / "x.csv")]):
        with pytest.raises(SystemExit) as ended:
            main([*command, "--db", str(tmp_path / "none.duckdb")])
        assert ended.value.code == 1
        assert "none.duckdb" in capsys.readouterr().err


SERVER = "openai:m@http://127.0.0.1:9/v1"
ONLY_API = [
    "--max-cost=1",
    "--timeout=9",
    "--max-tokens=9",
    "--reasoning-effort=low",
    "--concurrency=2",
    f"--prices={__file__}",
]
ONLY_LOCAL = ["--parallel=2", "--gpu-layers=0", "--threads=1", "--cluster=local", "--worker-cpus=1"]


@pytest.mark.parametrize(
    "command, options",
    [
        ("status", ["--split=multi"]),
        ("errors", ["--error=infinite_loop", "--split=multi"]),
        (
            "machine probe --model smollm2-135m --quick",
            ["--prompts=2", "--tokens=2", "--prefix-words=2", "--at-once=2", "--first", "--also-unified"],
        ),
        ("machine bench", ["--parallel=2"]),
        ("machine bench", ["--type=q8_0"]),
        ("machine bench --shape 1b", ["--model=smollm2-135m"]),
        ("judge --judge rules", ["--format=csv"]),
        ("score --model smollm2-135m --texts urial", ["--format=csv"]),
        ("browse", ["--prompt-dir=."]),
        (f"data check {__file__} {__file__}", ["--map=id=uid", "--lang=es"]),
        (
            "browse --rate PILOT --rater ana",
            [
                *[
                    "--judge=x",
                    "--reading=strict",
                    "--loops=literal",
                    "--dataset=x",
                    "--quantization=x",
                    "--settings=x",
                ],
                "--responses=3",
            ],
        ),
        ("judge --judge local:smollm2-135m", ONLY_API),
        (f"judge --judge {SERVER}", ONLY_LOCAL),
        (f"run --backend {SERVER} --queries samples", ["--gpu-layers=0", "--threads=1", "--cluster=local"]),
        ("run --model smollm2-135m --queries samples", ["--worker-cpus=1"]),
        ("judge --judge rules", [*ONLY_LOCAL, *ONLY_API, "--variant=rubric-first", "--template=just-eval=x"]),
        ("export --format csv -o x", ["--organization=lab"]),
    ],
)
def test_an_option_that_would_do_nothing_is_wrong_usage(
    command: str, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for given in [[option] for option in options] + [options]:
        with pytest.raises(SystemExit) as ended:
            main([*command.split(), *given])
        assert ended.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        left_out = re.fullmatch(r"error: .+; leave (.+) out", line)
        assert left_out is not None, line
        assert sorted(left_out[1].split(", ")) == sorted(option.split("=")[0] for option in given)
