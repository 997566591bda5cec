"""The command line as a whole: help that is quick, complete and true."""

from __future__ import annotations

import configparser
import json
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
from click.testing import CliRunner

from icl_local.cli import COMMANDS, GROUPS, MOVED, console, icl, main, one_line, progress, values
from icl_local.engine import ProbeStep
from icl_local.judging import JudgeProgress
from icl_local.running import Event
from icl_local.study import Outcome
from icl_local.study.spec import JudgeSpec
from tests.cli.terminal import Terminal

BEFORE = json.loads((Path(__file__).parent / "commands_before_the_move.json").read_text())
HEAVY = ("llama_cpp", "duckdb", "torch", "transformers", "matplotlib", "openai", "numpy", "rich", "ray")


def find(name: str) -> click.Command:
    """Return the command of a name with spaces, such as ``db snapshot``."""
    found: click.Command = icl
    for part in name.split():
        assert isinstance(found, click.Group)
        inner = found.get_command(click.Context(found), part)
        assert inner is not None, name
        found = inner
    return found


def every_command(group: click.Group = icl, prefix: str = "") -> list[str]:
    """Return the names of all commands in all groups, hidden ones left out."""
    names = []
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        assert command is not None
        if isinstance(command, click.Group):
            names += every_command(command, f"{prefix}{name} ")
        else:
            names.append(f"{prefix}{name}")
    return names


@pytest.mark.parametrize("name", every_command())
def test_every_command_has_help_with_an_example(name: str) -> None:
    result = CliRunner().invoke(icl, [*name.split(), "--help"])
    assert result.exit_code == 0, result.output
    assert f"icl {name}" in result.output.split("Example", 1)[1]


@pytest.mark.parametrize("name", every_command())
def test_the_help_of_every_command_begins_with_a_verb(name: str) -> None:
    first = str(find(name).help).split()[0]
    assert first not in ("A", "An", "The", "One", "What", "How", "Whether", "Which", "Query", "Models")


@pytest.mark.parametrize("name", every_command())
def test_every_option_has_a_line_of_help(name: str) -> None:
    for option in find(name).params:
        if isinstance(option, click.Option):
            assert option.help, f"{name}: {option.name}"
            assert option.help.split()[0] not in ("Of", "Whose", "What", "How"), f"{name}: {option.name}"


def test_a_group_of_the_help_has_at_most_eight_commands() -> None:
    assert list(GROUPS) == ["Start", "Run", "Trust", "Read", "Models", "Data", "Maintain"]
    assert all(1 <= len(commands) <= 8 for commands in GROUPS.values())
    shown = CliRunner().invoke(icl, ["--help"]).output
    assert [line for line in shown.splitlines() if line.rstrip(":") in GROUPS] == [f"{name}:" for name in GROUPS]
    assert not any(f"  {name} " in shown for name in MOVED)


@pytest.mark.parametrize("name", [name for name in COMMANDS if isinstance(find(name), click.Group)])
def test_a_list_of_commands_shows_their_first_lines_whole(name: str) -> None:
    shown = CliRunner().invoke(icl, [name, "--help"], terminal_width=80).output
    listed = shown.split("Commands:\n")[1].splitlines()
    assert listed
    assert [line for line in listed if line.endswith("...")] == []


@pytest.mark.parametrize("name", BEFORE)
def test_every_command_and_option_of_before_still_parses(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list was made from the command line before commands were grouped: name, option, a value for it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FILE").write_text("")
    (tmp_path / "FOLDER").mkdir()
    command, before = find(name), BEFORE[name]
    values = before["options"]
    required = {option: values[option] for option in before["required"]}
    for option, value in values.items():
        given = [part for pair in {**required, option: value}.items() for part in pair if part is not None]
        context = command.make_context(name, [*given, *before["arguments"]])
        assert context.args == []
    assert CliRunner().invoke(icl, [*name.split(), "--help"]).exit_code == 0
    assert CliRunner().invoke(icl, [*name.split(), "--no-such-option"]).exit_code == 2


@pytest.mark.parametrize("name", [name for name in BEFORE if BEFORE[name]["status_without_arguments"] is not None])
def test_every_exit_status_of_before_is_kept(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ICL_DB", raising=False)
    with pytest.raises(SystemExit) as ended:
        main(name.split())
    assert (ended.value.code or 0) == BEFORE[name]["status_without_arguments"]


def test_an_old_name_does_the_same_and_notes_the_new_one(tmp_path: Path) -> None:
    db = str(tmp_path / "x.duckdb")
    old = CliRunner().invoke(icl, ["forget", "--where", "true", "--yes", "--db", db])
    new = CliRunner().invoke(icl, ["db", "forget", "--where", "true", "--yes", "--db", db])
    assert (type(old.exception), str(old.exception)) == (type(new.exception), str(new.exception))
    assert old.stderr == "note: this command is now `icl db forget`; the next version removes the old name\n"
    assert new.stderr == old.stdout == new.stdout == ""


@pytest.mark.parametrize("name", MOVED)
def test_the_help_of_an_old_name_is_that_of_the_new_one(name: str) -> None:
    old = CliRunner().invoke(icl, [name, "--help"])
    new = CliRunner().invoke(icl, [MOVED[name], name, "--help"])
    assert old.output == new.output.replace(f"Usage: icl {MOVED[name]} {name} ", f"Usage: icl {name} ")


def test_help_loads_nothing_heavy() -> None:
    script = (
        f"import sys\nfrom icl_local.cli import main\ntry:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        f"sys.exit(','.join(m for m in {HEAVY!r} if m in sys.modules) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("on_ctrl_c", [signal.default_int_handler, signal.SIG_IGN])
def test_sigterm_ends_a_command_as_ctrl_c_does(
    on_ctrl_c: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A command in the background of a script ignores Ctrl-C."""
    monkeypatch.setattr("icl_local.weights.registry.load_registry", lambda: signal.raise_signal(signal.SIGTERM))
    before, on_sigterm = signal.signal(signal.SIGINT, on_ctrl_c), signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as ended:
            main(["models", "list"])
    finally:
        signal.signal(signal.SIGINT, before)
    assert ended.value.code == 143
    assert capsys.readouterr().err.strip().startswith("interrupted; everything so far is kept")
    assert signal.getsignal(signal.SIGTERM) is on_sigterm


def test_an_unknown_command_is_a_usage_error() -> None:
    assert CliRunner().invoke(icl, ["runn"]).exit_code == 2


def test_an_error_message_cannot_move_the_cursor() -> None:
    assert one_line("bad \x1b[2J name\nnext") == "bad [2J name next"


def documented_commands() -> Iterator[tuple[str, str]]:
    """Yield file and command line of everything that begins with ``icl`` in the README and the documents, joined."""
    root = Path(__file__).parents[2]
    for path in (root / "README.md", *sorted((root / "docs").glob("*.md"))):
        text = re.sub(r"\n        (?=-)", " ", path.read_text(encoding="utf-8"))
        for line in re.findall(r"^(?:    )?(icl .*)$", text, flags=re.M) + re.findall(r"`(icl [^`\n]+)`", text):
            yield path.name, re.split(r"\s+#|\s{3,}", line)[0]


def test_every_command_and_option_in_the_documents_exists() -> None:
    unknown, n_options = [], 0
    for file, line in documented_commands():
        command: click.Command | None = icl
        for word in line.split()[1:]:
            if isinstance(command, click.Group) and not word.startswith("-") and word != "COMMAND":
                command = command.get_command(click.Context(command), word)
        known = ["--help"] if command is None else [o for p in command.params for o in (*p.opts, *p.secondary_opts)]
        options = re.findall(r"(?<!\S)--?[a-z][\w-]*", line)
        n_options += len(options)
        if command is None or not {*options} <= {"--help", *known}:
            unknown.append(f"{file}: {line}")
    assert unknown == []
    assert n_options > 100


def test_the_readme_lists_every_command() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    listed = readme.split("<!-- commands -->")[1].split("<!-- /commands -->")[0].strip().splitlines()
    rows = []
    for title, commands in GROUPS.items():
        for name, (_, line) in commands.items():
            command = find(name)
            inner = command.list_commands(click.Context(command)) if isinstance(command, click.Group) else []
            first = title if name == next(iter(commands)) else ""
            rows.append(f"| {first} | `icl {name}` {', '.join(inner)} | {line} |".replace("  ", " "))
    assert listed == rows


def test_every_package_is_installed() -> None:
    root = Path(__file__).parents[2]
    config = configparser.ConfigParser()
    config.read(root / "setup.cfg")
    listed = set(config["options"]["packages"].split())
    found = {".".join(p.parent.relative_to(root).parts) for p in (root / "icl_local").rglob("__init__.py")}
    assert listed == found | {"icl_local.prompts", "icl_local.models", "icl_local.db", "icl_local.contenders"}


def test_messages_appear_above_the_bars_that_are_being_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """rich moves the bars out of the way only for prints of the console that draws them."""

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr("sys.stderr", screen := Terminal())
    console.stderr.cache_clear()
    display = progress.Display(bars=True)
    assert display.bars is not None
    for name in ("one", "two", "three"):
        display.show(name, done=0, total=3)
    with display.bars.live._lock:  # nothing is drawn in between
        display.bars.refresh()
        before = len(screen.getvalue())
        console.say("a message")
    display.bars.stop()
    console.stderr.cache_clear()
    moved, _, _ = screen.getvalue()[before:].partition("a message")
    assert moved.count("\x1b[1A") == 2  # up over the bars, which are drawn again below


def test_every_bar_has_the_same_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr("sys.stderr", screen := Terminal())
    console.stderr.cache_clear()
    with progress.Display() as display:
        display.show("judge", done=0, total=3)
        display.show("judge", done=2, total=3, rate="$0.0010", note="2 ok")
        display.on_download("model.gguf", 1_000_000, 5_000_000)
    console.stderr.cache_clear()
    drawn = " ".join(screen.getvalue().split())
    assert re.search(r"judge .* 2/3 .*\$0.0010 .*elapsed .* left .* 2 ok", drawn)
    assert re.search(r"model.gguf .* 1.0/5.0 MB .*MB/s .*elapsed .* left ", drawn)


@pytest.mark.parametrize("width", [80, 120])
def test_bars_have_whole_times_and_room_for_the_echo_of_ctrl_c(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """An echo behind the last column would begin a line, and the next drawing would leave the top bar standing."""

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr("sys.stderr", screen := Terminal())
    console.stderr.cache_clear()
    label = "a-model-with-a-long-name · zero-shot · en"
    with progress.Display() as display:
        display.show(label, done=0, total=1000)
        display.show(label, done=234, total=1000, rate="123 tok/s", note="loops 12, code 3, 4 too long, and more")
    console.stderr.cache_clear()
    drawn = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue()).strip().splitlines()[-1]
    assert len(drawn) <= width - len("^C")
    assert re.search(r" 234/1,000 123 tok/s elapsed 0:00:00 left ", drawn)


def test_slow_rates_are_shown() -> None:
    assert [progress.token_rate(rate) for rate in (123.4, 9.96, 0.04)] == ["123 tok/s", "10.0 tok/s", "0.04 tok/s"]


def test_the_bar_of_a_probe_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    display = progress.Display(bars=True)
    assert display.bars is not None
    cell = SimpleNamespace(label="tiny · urial · en")
    with display:
        display.on_event(Event("planned", cell, 0, 12))  # type: ignore[arg-type]
        for done in (0, 3):
            display.on_event(Event("probe", cell, 0, 12, probe=ProbeStep(1, 4, done, 9)))  # type: ignore[arg-type]
    cell_bar, probe_bar = display.bars.tasks
    assert (cell_bar.completed, probe_bar.completed, probe_bar.total) == (0, 3, 9)
    assert probe_bar.fields["note"] == "candidate 1 of 4"


def test_a_table_wider_than_the_terminal_has_columns_of_one_value_below_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = ("model", "judge", "mean", "process", "n")
    rows = [("EuroLLM 9B", "openai:gpt-4o", 1.25, "done", n) for n in (7, 8)]
    monkeypatch.setenv("COLUMNS", "30")
    console.print_rows(columns, rows)
    out = capsys.readouterr().out
    assert " ".join(out.split()).endswith(
        "EuroLLM 9B openai:gpt-4o 7 EuroLLM 9B openai:gpt-4o 8 all rows: mean 1.25, process done"
    )
    monkeypatch.delenv("COLUMNS")
    console.print_rows(columns, rows)
    assert "all rows" not in capsys.readouterr().out


def test_small_numbers_and_lists_are_shown_as_in_the_papers_tables(capsys: pytest.CaptureFixture[str]) -> None:
    console.print_rows(("p", "tasks"), [(0.0001, ["math", "coding"])])
    assert "1.0e-04 math, coding" in " ".join(capsys.readouterr().out.split())


def test_a_study_says_what_its_judges_did(monkeypatch: pytest.MonkeyPatch) -> None:
    judged = {
        JudgeSpec("openai:m"): JudgeProgress("openai:m", 5, Counter(ok=4, refused=1)),
        JudgeSpec("openai:m", "rubric-first"): JudgeProgress("openai:m", 5, Counter(ok=5)),
    }
    monkeypatch.setattr("icl_local.study.run_study", lambda *_, **__: Outcome((), judged, ()))
    monkeypatch.setattr("icl_local.study.grids", lambda db: [])
    result = CliRunner().invoke(icl, ["study", "demo"])
    assert result.exit_code == 0, result.output
    assert "new judgments of openai:m: 4 ok, 1 refused" in result.stderr
    assert "new judgments of openai:m (rubric-first): 5 ok" in result.stderr


def test_without_a_terminal_progress_is_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    console.stderr.cache_clear()
    with progress.Display(line_seconds=0) as display:
        display.show("DPO", done=1, total=3, rate="12 tok/s")
        later = time.monotonic() + 60
        monkeypatch.setattr("time.monotonic", lambda: later)
        display.show("DPO", done=2, total=3)
    with progress.Display() as display:
        display.show("judge", done=1, total=3)
    console.stderr.cache_clear()
    assert capsys.readouterr().err == "DPO: 1 of 3, 12 tok/s\nDPO: 2 of 3, left 0:01:00\n"


@pytest.mark.parametrize("sizes", ["a", "0", "2,x"])
@pytest.mark.parametrize("command", [["machine", "probe", "--model", "m.gguf"], ["machine", "bench"]])
def test_batch_sizes_are_whole_numbers(command: list[str], sizes: str) -> None:
    result = CliRunner().invoke(icl, [*command, "--at-once", sizes])
    assert result.exit_code == 2
    assert "--at-once" in result.output


def test_a_comma_in_the_name_of_a_file_divides_no_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a,b.gguf").touch()
    assert values.MODELS.convert("a,b.gguf", None, None) == ["a,b.gguf"]
    assert values.MODELS.convert("a,c.gguf", None, None) == ["a", "c.gguf"]


def test_nearest_names_are_suggested(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Did you mean 'run'?" in CliRunner().invoke(icl, ["rnu"]).output
    assert "Did you mean 'db snapshot'?" in CliRunner().invoke(icl, ["snapshto"]).output
    assert "Did you mean 'merge'?" in CliRunner().invoke(icl, ["db", "merg"]).output
    for command in (["run", "--model", "m.gguf"], ["judge", "--judge", "local:x"], ["errors"], ["status"]):
        assert "did you mean es?" in CliRunner().invoke(icl, [*command, "--lang", "Spanish"]).output
