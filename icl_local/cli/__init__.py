"""The command line: one file a command, each loaded only when it is called.

``icl --help`` imports click and nothing heavier. A told error (IclError) is one line on stderr and exit 1;
usage errors exit 2; Ctrl-C exits 130 with everything so far kept.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from icl_local import __version__
from icl_local.exceptions import IclError

# command -> module of icl_local.cli that holds it, and the line shown by `icl --help`
COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("demo", "The whole way on a small embedded model, in minutes."),
    "run": ("run", "Generate what is missing: models x methods x languages."),
    "show": ("show", "One query: its prompts and answers side by side."),
    "judge": ("judge", "Score stored responses with an LLM judge."),
    "status": ("status", "What is done and what is missing."),
    "tables": ("tables", "The paper's tables from your rows."),
    "figures": ("figures", "The paper's figures from your rows, PNG and SVG."),
    "bootstrap": ("bootstrap", "Seeded bootstrap intervals of every score mean."),
    "errors": ("errors", "Infinite loops and unintended code."),
    "sql": ("sql", "Ask the database, read-only."),
    "report": ("report", "One HTML page with tables, figures and responses."),
    "snapshot": ("snapshot", "A consistent copy of the database."),
    "study": ("study", "A whole matrix of cells, planned before it runs."),
    "models": ("models", "Models this machine can run."),
    "data": ("data", "Query sets: list, fetch, build, check."),
    "import": ("import_", "Read other tools' outputs and judgments."),
    "export": ("export", "Write responses and judgments for other tools."),
    "merge": ("merge", "Bring the rows of another database into this one."),
    "forget": ("forget", "Remove rows by a condition, for good."),
    "translate": ("translate", "Query sets in other languages."),
    "dpo": ("dpo", "Train a base model with DPO."),
    "convert": ("convert", "A Hugging Face checkpoint to GGUF, with proof."),
    "quantize": ("quantize", "A GGUF file in another type."),
    "probe": ("probe", "Which fast settings change nothing on this machine."),
    "bench": ("bench", "Speed against what you would use instead."),
    "doctor": ("doctor", "What is installed, what is missing, what is damaged."),
}


class LazyGroup(click.Group):
    """A group that lists its commands from COMMANDS and imports one only to run it or show its help."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"icl_local.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(
    cls=LazyGroup,
    context_settings={"auto_envvar_prefix": "ICL", "help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(__version__, prog_name="icl")
@click.option("--debug", is_flag=True, help="Show the traceback of an error (ICL_DEBUG=1).")
@click.pass_context
def icl(ctx: click.Context, debug: bool) -> None:
    """How well do language models follow instructions without instruction tuning?

    Start with `icl demo`, then: icl run --model FILE.gguf --method urial --lang en --queries queries.jsonl
    """
    ctx.obj = {"debug": debug}


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of the `icl` script; exits with 0, 1, 2 or 130."""
    args = list(sys.argv[1:] if argv is None else argv)
    try:
        status: Any = icl.main(args=args, prog_name="icl", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted; everything so far is kept, the same command resumes", err=True)
        sys.exit(130)
    except IclError as error:
        if os.environ.get("ICL_DEBUG") or "--debug" in args:
            raise
        click.echo(f"error: {one_line(str(error))}", err=True)
        sys.exit(1)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    sys.exit(status if isinstance(status, int) else 0)


def one_line(message: str) -> str:
    """The message with control characters and line breaks made harmless."""
    return " ".join("".join(c if c.isprintable() else " " for c in message).split())
