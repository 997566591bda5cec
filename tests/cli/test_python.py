"""The front door of the package: what a script or a notebook calls."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pandas as pd
import pytest

import icl_local as icl
from icl_local.cli import COMMANDS
from icl_local.cli import icl as command_line
from icl_local.exceptions import ConfigError, IclError, MissingExtra, UnknownName

HEAVY = ("llama_cpp", "duckdb", "rich", "click", "numpy", "torch", "jinja2", "matplotlib", "openai", "pandas")
COMMAND_OF = {
    "run": "run",
    "judge": "judge",
    "table": "tables",
    "errors": "errors",
    "query": "sql",
    "report": "report",
    "trust": "trust",
}


def test_importing_the_package_loads_nothing_heavy() -> None:
    script = f"import sys, icl_local; sys.exit(','.join(m for m in {HEAVY!r} if m in sys.modules) or 0)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    script = "import sys, icl_local; print(*(name for name in sys.modules if name.startswith('icl_local.')))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.split() == []


def option_defaults(command: str) -> dict[str, Any]:
    """Return the value of every option of a command that is given none, by parameter name."""
    found = command_line.get_command(click.Context(command_line), command)
    assert found is not None
    required = [f"--{o.name}=x" for o in found.params if isinstance(o, click.Option) and o.required]
    return found.make_context(command, required).params


@pytest.mark.parametrize("name", [name for name in COMMAND_OF if name in icl.__all__])
def test_the_defaults_are_those_of_the_command_line(name: str) -> None:
    options = option_defaults(COMMAND_OF[name])
    parameters = inspect.signature(getattr(icl, name)).parameters
    shared = [parameter for parameter in parameters if parameter in options and parameter != "limit"]
    assert len(shared) >= 2
    for parameter in shared:
        default, option = parameters[parameter].default, options[parameter]
        if default is inspect.Parameter.empty:
            continue
        if isinstance(default, str) and isinstance(option, list):
            option = ",".join(option)
        elif isinstance(option, list | tuple):
            option = tuple(option)
        elif isinstance(default, str) and isinstance(option, Path):
            default = Path(default)
        assert option == default, parameter


def test_a_query_is_rows_frames_and_records(study: Path) -> None:
    found = icl.query(str(study), "select i, i / 2 as half, ['a', null] as names from range(3) as t(i)")
    assert found.columns == ("i", "half", "names")
    assert found.types == ("BIGINT", "DOUBLE", "VARCHAR[]")
    assert found.rows[1] == (1, 0.5, ["a", None])
    assert found.dicts()[2] == {"i": 2, "half": 1.0, "names": ["a", None]}
    assert found.df()["half"].tolist() == [0.0, 0.5, 1.0]
    assert found.arrow().column_names == ["i", "half", "names"]
    assert str(found).splitlines()[0].split() == ["i", "half", "names"]
    with pytest.raises(IclError):
        icl.query(study, "delete from raw.responses")
    assert icl.query(study, "select ? as x", ["it's"]).rows == [("it's",)]


def test_a_frame_of_no_rows_has_its_columns(study: Path) -> None:
    found = icl.query(study, "select model, method from responses where false")
    assert list(found.df().columns) == found.arrow().column_names == ["model", "method"]
    assert str(found) == "model  method"


def test_a_query_becomes_a_polars_frame(study: Path) -> None:
    pytest.importorskip("polars")  # the extra frames, which the suite installs
    assert icl.query(study, "select 1 as x, null as y union all select 2, 'a' order by x").pl().shape == (2, 2)


@pytest.mark.parametrize("method, package", [("df", "pandas"), ("pl", "polars"), ("arrow", "pyarrow")])
def test_a_missing_package_is_named_with_its_command(
    study: Path, method: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = icl.query(study, "select 1 as x")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=rf"{package} is not installed; run: pip install 'icl-local\[frames\]'"):
        getattr(found, method)()


def test_a_table_equals_the_view_and_reads_in_a_notebook(study: Path) -> None:
    found = icl.table(study, 1)
    assert found.title == "Table 1. Scores in English"
    assert {"model", "method", "helpful", "avg"} <= set(found.columns)
    assert isinstance(found.df(), pd.DataFrame)
    assert len(found.df()) == len(found) == 12
    assert any("Judge" in note for note in found.notes)
    html = found._repr_html_()
    assert html.count("<tr>") == 13
    assert "<b>" in html
    assert "Table 1" in str(found)
    assert len(icl.table(study, 1, whole=True).columns) > len(found.columns)
    assert icl.table(study, "audit", published=True).rows


def test_hostile_text_is_inert_in_a_table(study: Path) -> None:
    found = icl.query(study, "select '<script>x</script>' || chr(27) || '[31m' as t")
    assert "<script>" not in found._repr_html_()
    assert "\x1b" not in found._repr_html_() + str(found)


def test_what_does_not_exist_is_an_expected_error(study: Path, tmp_path: Path) -> None:
    for call in (
        lambda: icl.table(study, 7),
        lambda: icl.table(study, 1, judge="nobody"),
        lambda: icl.table(study, 1, versus_paper=True, published=True),
        lambda: icl.table(study, 1, reading="loose"),  # type: ignore[arg-type]
        lambda: icl.errors(tmp_path / "none.duckdb"),
        lambda: icl.figure(study, "9"),
    ):
        with pytest.raises(IclError) as raised:
            call()
        assert isinstance(raised.value, ConfigError | UnknownName) or "does not exist" in str(raised.value)


def test_errors_take_one_name_or_several(study: Path) -> None:
    every = icl.errors(study)
    one = icl.errors(study, method="urial", lang="en")
    two = icl.errors(study, method=["urial", "zero-shot"], lang="en")
    assert 0 < len(one) < len(two) < len(every)
    assert {row["method"] for row in two.dicts()} == {"urial", "zero-shot"}
    listed = icl.errors(study, listed=True, error="infinite_loop", lang=["es"])
    assert {(row["error"], row["language"]) for row in listed.dicts()} == {("infinite_loop", "es")}


def test_a_figure_is_shown_and_saved(study: Path, tmp_path: Path) -> None:
    drawn = icl.figure(study, 4)
    assert drawn._repr_svg_().startswith("<svg")
    assert [path.name for path in drawn.save(tmp_path)] == ["figure_4.png", "figure_4.svg"]
    assert repr(drawn) == "Drawing(name='4', title='Figure 4. Critical errors')"


def test_a_report_says_where_it_is_and_what_it_holds(complicated: Path, tmp_path: Path) -> None:
    made = icl.report(complicated, str(tmp_path / "r.html"), responses=100)
    assert made.path == tmp_path / "r.html"
    assert made.path.stat().st_size == made.bytes
    assert 0 < made.responses <= 100 < made.responses_stored


def test_every_function_of_the_front_door_is_documented() -> None:
    assert COMMAND_OF.keys() >= set(icl.__all__) - {"__version__", "figure"}
    assert set(COMMAND_OF.values()) <= COMMANDS.keys()
    for name in set(icl.__all__) - {"__version__"}:
        function = getattr(icl, name)
        assert function.__doc__
        assert all(p.annotation is not inspect.Parameter.empty for p in inspect.signature(function).parameters.values())


USER_SCRIPT = """\
import icl_local as icl

made = icl.run("study.duckdb", model="smollm2-135m", method=["zero-shot", "urial"], queries={"en": "samples"}, limit=2)
judged = icl.judge("study.duckdb", judge="local:smollm2-135m", progress=None)
columns: tuple[str, ...] = icl.table("study.duckdb", 1).columns
n: int = made.n_new + icl.report("study.duckdb", "r.html").responses
"""
WRONG_SCRIPT = (
    'import icl_local as icl\n\nicl.run("study.duckdb", max_tokens="many")\nicl.table("x", reading="loose")\n'
)


def test_a_users_script_passes_mypy_strict(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    root = Path(__file__).parents[2]
    assert (root / "icl_local" / "py.typed").exists()
    assert "icl_local = py.typed" in (root / "setup.cfg").read_text()
    (tmp_path / "right.py").write_text(USER_SCRIPT)
    (tmp_path / "wrong.py").write_text(WRONG_SCRIPT)
    # strict as the project is, since with other options mypy would begin without its cache
    assert "strict = true" in (root / "pyproject.toml").read_text()
    command = [sys.executable, "-m", "mypy", str(tmp_path / "right.py"), str(tmp_path / "wrong.py")]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert [line.split(": error: ")[0].rsplit("/")[-1] for line in done.stdout.splitlines() if "error:" in line] == [
        "wrong.py:3",
        "wrong.py:4",
    ], done.stdout + done.stderr
