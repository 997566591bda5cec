"""The command line as a whole: help that is quick, complete and true."""

from __future__ import annotations

import configparser
import io
import re
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from icl_local.cli import COMMANDS, console, icl, one_line, progress

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
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    listed = readme.split("<!-- commands -->")[1].split("<!-- /commands -->")[0].strip().splitlines()
    assert listed == [f"| `icl {name}` | {line} |" for name, (_, line) in COMMANDS.items()]


def test_every_package_is_installed() -> None:
    root = Path(__file__).parents[2]
    config = configparser.ConfigParser()
    config.read(root / "setup.cfg")
    listed = set(config["options"]["packages"].split())
    found = {".".join(p.parent.relative_to(root).parts) for p in (root / "icl_local").rglob("__init__.py")}
    assert listed == found | {"icl_local.prompts", "icl_local.models", "icl_local.db"}


def test_messages_appear_above_the_bars_that_are_being_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """rich moves the bars out of the way only for prints of the console that draws them."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr("sys.stderr", screen := Terminal())
    console.stderr.cache_clear()
    bars = console.Bars()
    for name in ("one", "two", "three"):
        bars.add(name, total=3)
    time.sleep(0.3)  # drawn at least once
    before = len(screen.getvalue())
    console.say("a message")
    bars.stop()
    console.stderr.cache_clear()
    moved, _, _ = screen.getvalue()[before:].partition("a message")
    assert moved.count("\x1b[1A") == 2  # up over the bars, which are drawn again below


def test_every_bar_has_the_same_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr("sys.stderr", screen := Terminal())
    console.stderr.cache_clear()
    with progress.Bar("judge") as bar:
        bar.show(done=0, total=3)
        bar.show(done=2, total=3, rate="$0.0010", note="2 ok")
    with console.bytes_progress() as on_bytes:
        on_bytes("model.gguf", 1_000_000, 5_000_000)
    console.stderr.cache_clear()
    drawn = " ".join(screen.getvalue().split())
    assert re.search(r"judge .* 2/3 .*\$0.0010 .*elapsed .* left .* 2 ok", drawn)
    assert re.search(r"model.gguf .* 1.0/5.0 MB .*MB/s .*elapsed .* left ", drawn)


def test_without_a_terminal_progress_is_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    console.stderr.cache_clear()
    with progress.Bar("DPO", line_seconds=0) as bar:
        bar.show(done=1, total=3, rate="12 tok/s")
    with progress.Bar("judge") as bar:
        bar.show(done=1, total=3)
    console.stderr.cache_clear()
    assert capsys.readouterr().err == "DPO: 1 of 3, 12 tok/s\n"


@pytest.mark.parametrize("sizes", ["a", "0", "2,x"])
@pytest.mark.parametrize("command", [["probe", "--model", "m.gguf"], ["bench"]])
def test_batch_sizes_are_whole_numbers(command: list[str], sizes: str) -> None:
    result = CliRunner().invoke(icl, [*command, "--at-once", sizes])
    assert result.exit_code == 2
    assert "--at-once" in result.output
