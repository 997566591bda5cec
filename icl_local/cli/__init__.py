"""The command line: a file for each subject, loaded only when one of its commands is called.

``icl --help`` and the completion of names import click and nothing heavier. An expected error (IclError) is one line on
stderr and exit 1; usage errors exit 2; Ctrl-C exits 130 and SIGTERM 143, with everything so far kept.
"""

import copy
import importlib
import io
import os
import pkgutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from types import FrameType, ModuleType
from typing import Any

import click

import icl_local
from icl_local import __version__
from icl_local.exceptions import IclError, WrongUsage

INTERRUPTED = 130  # exit status after Ctrl-C
Commands = dict[str, tuple[str, str]]  # command -> module of icl_local.cli that holds it, and its line of help

GROUPS: dict[str, Commands] = {
    "Start": {
        "demo": ("demo", "Run every step on a small embedded model, in minutes."),
    },
    "Run": {
        "run": ("run", "Generate the missing responses: models x methods x languages."),
        "judge": ("judge", "Score stored responses with an LLM judge or by rules."),
        "score": ("run", "Score how probable stored answers or references are."),
        "shift": ("read", "Show how far answers are from what the base model would write."),
        "verify": ("run", "Decode stored responses again, one at a time, and compare."),
        "study": ("study", "Plan and run a whole matrix of models, methods and languages."),
    },
    "Trust": {
        "sample": ("judge", "Draw random samples of answers for people to label."),
        "browse": ("judge", "Read answers in the browser, follow a run, and rate a sample."),
        "trust": ("judge", "Compare a judge with human labels and correct its means."),
        "equate": ("judge", "Map one judge's scores to the scale of another."),
    },
    "Read": {
        "status": ("read", "Show what is done and what is missing."),
        "show": ("read", "Show one query with its prompts and answers side by side."),
        "errors": ("read", "Show infinite loops and unintended code."),
        "tables": ("read", "Show the paper's tables from your rows."),
        "figures": ("read", "Draw the paper's figures from your rows, PNG and SVG."),
        "bootstrap": ("read", "Compute seeded bootstrap intervals of every score mean."),
        "report": ("read", "Write one HTML page with tables, figures and responses."),
        "sql": ("read", "Query the database, read-only."),
    },
    "Models": {
        "models": ("models", "List, describe, register and fetch models."),
        "dpo": ("study", "Train a base model with DPO."),
        "convert": ("models", "Convert a Hugging Face checkpoint to GGUF, with proof."),
        "quantize": ("models", "Write a GGUF file in another type."),
    },
    "Data": {
        "methods": ("data", "Show a method's prompt, its examples and its tokens."),
        "data": ("data", "List, fetch, build and check query sets."),
        "translate": ("translate", "Translate query sets and review the translations."),
        "import": ("exchange", "Read other tools' outputs and judgments."),
        "export": ("exchange", "Write responses and judgments for other tools."),
    },
    "Maintain": {
        "db": ("maintain", "Copy, merge, clean and check the database."),
        "machine": ("maintain", "Find exact settings for this machine and measure its speed."),
    },
}
COMMANDS: Commands = {name: spec for commands in GROUPS.values() for name, spec in commands.items()}
# command of version 0.1 -> the group it belongs to now
MOVED = {"snapshot": "db", "merge": "db", "forget": "db", "doctor": "db", "probe": "machine", "bench": "machine"}


class LazyGroup(click.Group):
    """The group of all commands; a command's module is imported only to run it or to show its help."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in MOVED:
            return _moved(cmd_name, MOVED[cmd_name])
        return _command(cmd_name) if cmd_name in COMMANDS else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.NoSuchCommand:
            known = [*COMMANDS, *(f"{group} {name}" for name, group in MOVED.items())]
            raise click.NoSuchCommand(args[0], possibilities=known, ctx=ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, COMMANDS))
        for title, commands in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), line) for name, (_, line) in commands.items()])


class _Unused(ModuleType):
    """A module without anything in it, from which everything can be imported."""

    def __getattr__(self, name: str) -> None:
        return None


def _command(name: str) -> click.Command:
    """Return a command: the one of that name in its module."""
    asked_by_shell = os.environ.get("_ICL_COMPLETE")  # at each press of the tab key
    with _without_rooms() if asked_by_shell else nullcontext():
        module = importlib.import_module(f"icl_local.cli.{COMMANDS[name][0]}")
    (command,) = (one for one in vars(module).values() if isinstance(one, click.Command) and one.name == name)
    _name_variables(command, "ICL", name)
    return command


@contextmanager
def _without_rooms() -> Iterator[None]:
    """Let modules of commands import what only a call uses, all rooms among it, without loading it."""
    rooms = [room.name for room in pkgutil.iter_modules(icl_local.__path__) if room.ispkg and room.name != "cli"]
    unused = {f"icl_local.{name}": _Unused(name) for name in (*rooms, "cli.console", "cli.progress")}
    loaded = {name: sys.modules[name] for name in unused if name in sys.modules}
    sys.modules.update(unused)
    try:
        yield
    finally:
        for name in unused:
            del sys.modules[name]
        sys.modules.update(loaded)


def _name_variables(command: click.Command, *path: str) -> None:
    """Name variables after the spelling of options, as ICL_RUN_LANG; click reads those after the parameter too."""
    for option in command.params:
        if isinstance(option, click.Option) and option.envvar is None:
            long = [spelling for spelling in option.opts if spelling.startswith("--")]
            option.envvar = ["_".join((*path, name.strip("-"))).replace("-", "_").upper() for name in long]
    for name, inner in command.commands.items() if isinstance(command, click.Group) else ():
        _name_variables(inner, *path, name)


def _moved(name: str, group: str) -> click.Command:
    """Return the command of an old name, which prints the new name on stderr and does the same."""
    command = copy.copy(_command(group).commands[name])  # type: ignore[attr-defined]
    run = command.callback

    def callback(*args: Any, **given: Any) -> Any:
        click.echo(f"note: this command is now `icl {group} {name}`; the next version removes the old name", err=True)
        return run(*args, **given)

    command.callback, command.hidden = callback, True
    return command  # type: ignore[no-any-return]


@click.group(
    cls=LazyGroup,
    context_settings={
        "auto_envvar_prefix": "ICL",
        "help_option_names": ["-h", "--help"],
        "max_content_width": 110,
        "show_default": True,
    },
)
@click.version_option(__version__, prog_name="icl")
@click.option("--debug", is_flag=True, help="Show the traceback of an error (ICL_DEBUG=1).")
def icl(debug: bool) -> None:
    """How well do language models follow instructions without instruction tuning?

    Start with `icl demo`. Then, with a model of your own: icl run --model FILE.gguf --method urial --queries samples
    """


def main(argv: Sequence[str] | None = None) -> None:
    """Run the `icl` script; exit with 0, 1, 2, 130 or 143."""
    args = list(sys.argv[1:] if argv is None else argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr: an ASCII terminal lacks some characters
    with _stopping_on_sigterm() as terminated:
        status = _run(args)
    sys.exit(128 + signal.SIGTERM if status == INTERRUPTED and terminated() else status)


def _run(args: list[str]) -> int:
    """Run a command, print its error, and return its exit status."""
    try:
        status: Any = icl.main(args=args, prog_name="icl", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted; everything so far is kept, the same command resumes", err=True)
        return INTERRUPTED
    except IclError as error:
        if os.environ.get("ICL_DEBUG") or "--debug" in args:
            raise
        click.echo(f"error: {one_line(str(error))}", err=True)
        return 2 if isinstance(error, WrongUsage) else 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status if isinstance(status, int) else 0


@contextmanager
def _stopping_on_sigterm() -> Iterator[Callable[[], bool]]:
    """Make SIGTERM do what Ctrl-C does; yield a function that returns whether it came."""
    seen: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        seen.append(number)
        on_ctrl_c = signal.getsignal(signal.SIGINT)
        if callable(on_ctrl_c):
            on_ctrl_c(signal.SIGINT, frame)
        else:  # a command in the background of a script ignores Ctrl-C
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield lambda: bool(seen)
    finally:
        signal.signal(signal.SIGTERM, before)


def one_line(message: str) -> str:
    """Return the message on one line, without control characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in message).split())
