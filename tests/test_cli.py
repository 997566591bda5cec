"""The command line as a whole: help that is quick, complete and true."""

from __future__ import annotations

import configparser
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from icl_local.cli import COMMANDS, icl, one_line

HEAVY = ("llama_cpp", "duckdb", "torch", "transformers", "matplotlib", "openai", "numpy", "rich", "ray")


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_help_with_an_example(name: str) -> None:
    result = CliRunner().invoke(icl, [name, "--help"])
    assert result.exit_code == 0, result.output
    command = icl.get_command(click.Context(icl), name)
    assert command is not None
    if not isinstance(command, click.Group):
        assert f"icl {name}" in result.output.split("Example", 1)[1]


def test_help_loads_nothing_heavy() -> None:
    script = (
        f"import sys\nfrom icl_local.cli import main\ntry:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        f"sys.exit(','.join(m for m in {HEAVY!r} if m in sys.modules) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in COMMANDS)


def test_an_unknown_command_is_a_usage_error() -> None:
    assert CliRunner().invoke(icl, ["runn"]).exit_code == 2


def test_an_error_message_cannot_move_the_cursor() -> None:
    assert one_line("bad \x1b[2J name\nnext") == "bad [2J name next"


def test_the_readme_lists_every_command() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    listed = readme.split("<!-- commands -->")[1].split("<!-- /commands -->")[0].strip().splitlines()
    assert listed == [f"| `icl {name}` | {line} |" for name, (_, line) in COMMANDS.items()]


def test_every_package_is_installed() -> None:
    root = Path(__file__).parents[1]
    config = configparser.ConfigParser()
    config.read(root / "setup.cfg")
    listed = set(config["options"]["packages"].split())
    found = {".".join(p.parent.relative_to(root).parts) for p in (root / "icl_local").rglob("__init__.py")}
    assert listed == found | {"icl_local.prompts", "icl_local.models", "icl_local.db"}
