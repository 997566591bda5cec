"""Options that several commands share, each defined once."""

import functools
import inspect
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from icl_local import exceptions
from icl_local.cli import values
from icl_local.store import Selection
from icl_local.vocabulary import LOOPS, READINGS

F = TypeVar("F", bound=Callable[..., Any])

_FORMAT = "icl_local.format"  # key in the running command's context
_ONLY = {
    "model": "Only these models: names that `icl status` shows, registry names or file names.",
    "method": "Only these methods.",
    "lang": "Only these languages.",
    "dataset": "Only these query sets.",
    "split": "Only multi or safety.",
    "quantization": "Only these GGUF types.",
}


def defaults_of(function: Callable[..., Any]) -> Callable[[click.Command], click.Command]:
    """Give each option of a command the default of the parameter of ``function`` that has its name."""
    parameters = inspect.signature(function).parameters

    def apply(command: click.Command) -> click.Command:
        for option in command.params:
            value = parameters[option.name].default if option.name in parameters else None
            if value is not None and value is not False and value is not inspect.Parameter.empty:
                option.default = value
        return command

    return apply


def asked_format() -> str:
    """Return the --format of the running command, text if it has none."""
    context = click.get_current_context(silent=True)
    return str(context.meta.get(_FORMAT, "text")) if context else "text"


def typed(name: str) -> bool:
    """Return whether the running command's option of that parameter was typed: not a default, nor the environment's."""
    return click.get_current_context().get_parameter_source(name) is ParameterSource.COMMANDLINE


def refuse_idle(reason: str, *names: str) -> None:
    """Refuse options of the running command, named by their parameters, that were typed and would do nothing."""
    command = click.get_current_context().command
    exceptions.refuse_idle(reason, {one.opts[0]: typed(one.name) for one in command.params if one.name in names})


def drop_untyped(given: dict[str, Any], *names: str) -> None:
    """Set options that were not typed to None: the environment's do not fit every command line."""
    given |= {name: None for name in names if not typed(name)}


def together(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Return one decorator that adds ``options`` in their order."""
    return lambda command: functools.reduce(lambda made, option: option(made), reversed(options), command)


def only(command: F) -> F:
    """Add the options that select responses: model, method, language, data set, split, GGUF type."""
    for name, description in reversed(_ONLY.items()):
        known = values.stored("language" if name == "lang" else name)
        kind = values.Languages(known) if name == "lang" else values.Names(known)
        command = click.option(f"--{name}", type=kind, multiple=True, callback=_flat, help=description)(command)
    return command


def selection(command: F) -> F:
    """Add the options of ``only``; pass them, with the judge of a command that has one, as ``chosen``: a Selection."""

    @functools.wraps(command)
    def collected(*args: Any, **given: Any) -> Any:
        names = {name: given.pop(name) for name in (*_ONLY, "judge") if name in given}
        return command(*args, chosen=Selection(language=names.pop("lang"), **names), **given)

    return only(collected)  # type: ignore[return-value]


def _flat(ctx: click.Context, param: click.Parameter, value: Sequence[list[str]]) -> tuple[str, ...]:
    return tuple(itertools.chain.from_iterable(value))


def _remember_format(ctx: click.Context, param: click.Parameter, value: str) -> None:
    ctx.meta[_FORMAT] = value


def out(what: str, name: str = "out", **more: Any) -> Callable[[F], F]:
    """Return the option of the place of a result: -o, --out or --output, passed as ``name``; ``what`` is its help.

    It is a file and required, if ``more``, other parameters of click.option, say nothing else.
    """
    return click.option("-o", "--out", "--output", name, help=what, **{"type": values.FILE, "required": True, **more})


db = click.option("--db", type=values.FILE, default=Path("icl.duckdb"), envvar="ICL_DB", help="Database file (ICL_DB).")
output_format = click.option(
    "--format",
    "output_format",
    type=click.Choice(["text", "csv", "json", "markdown", "latex"]),
    default="text",
    expose_value=False,
    callback=_remember_format,
    help="Format of the rows on stdout.",
)
rows = together(output_format, db)  # rows of the database, printed
judge = click.option("--judge", type=values.STORED_JUDGE, help="Judge to use; by default the one with most scores.")
reading = click.option(
    "--reading",
    type=click.Choice(READINGS),
    default="strict",
    help="strict: leave N/A out; just_eval: count it as 5; expected: use a local judge's probabilities.",
)
# what tables, figures and the report show
shown = together(
    judge,
    reading,
    click.option(
        "--loops", type=click.Choice(LOOPS), default="strict", help="Reading of a loop; the paper's is literal."
    ),
    click.option("--dataset", type=values.DATASET, help="Show the cells of this query set where several qualify."),
    click.option("--quantization", type=values.QUANTIZATION, help="Show the cells of this GGUF type."),
    click.option("--settings", help="Show the cells of these settings (first characters of settings_id)."),
)
dataset_name = click.option("--dataset", type=values.DATASET, help="Name of the query set, instead of the file's own.")
max_cost = click.option("--max-cost", type=values.NOT_NEGATIVE, help="Most this command may cost, in USD.")
prices = click.option("--prices", type=values.EXISTING_FILE, help="Price table, read before the built-in one.")
threads = click.option("--threads", type=values.COUNT, help="CPU threads; the physical cores by default.")
gpu_layers = click.option("--gpu-layers", type=values.Auto(min=0), default="auto", help="Model layers on the GPU.")
# they change the speed and not the text
engine = together(
    click.option("--parallel", type=values.Auto(min=1), default="auto", help="Sequences decoded at once."),
    gpu_layers,
    threads,
)
prompt_dir = click.option(
    "--prompt-dir",
    type=values.EXISTING_FOLDER,
    envvar="ICL_PROMPT_DIR",
    help="Folder of prompt files that replace the built-in ones (ICL_PROMPT_DIR).",
)
columns = click.option(
    "--map",
    "columns",
    type=values.Columns(),
    help="Fields that a file has under other names: id=uid,instruction=question.",
)
pool = click.option(
    "--pool", multiple=True, help="NAME=FILE of queries with `output`: examples for methods with pool=NAME."
)
concurrency = click.option("--concurrency", type=values.Auto(min=1), default="auto", help="Requests at the same time.")
shard = click.option("--shard", metavar="i/n", help="Part i of n, for one of n machines; then icl db merge.")
cluster = together(
    click.option("--cluster", help="Ray cluster: auto, local, HOST:PORT or ray://HOST:PORT."),
    click.option("--worker-cpus", type=values.COUNT, help="CPUs of a worker on a cluster; all of its node by default."),
)
