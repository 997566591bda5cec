"""Options that several commands share, each defined once."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

FORMATS = ("text", "csv", "json", "markdown", "latex")
_ONLY = {
    "model": "Only this model, by the name that `icl status` shows.",
    "method": "Only this method.",
    "lang": "Only this language.",
    "split": "Only this split.",
    "dataset": "Only this query set.",
}


def defaults_of(function: Callable[..., Any]) -> Callable[[click.Command], click.Command]:
    """Give each option of a command the default of the parameter of ``function`` that has its name."""
    parameters = inspect.signature(function).parameters

    def apply(command: click.Command) -> click.Command:
        for option in command.params:
            value = parameters[option.name].default if option.name in parameters else None
            given = value is not None and value is not False and value is not inspect.Parameter.empty
            if isinstance(option, click.Option) and given:
                option.default = str(value) if isinstance(value, Path) else value
                option.show_default = value != () and not isinstance(value, bool)
        return command

    return apply


def db_option(command: F) -> F:
    """``--db``: the database file, ICL_DB, icl.duckdb in this folder by default."""
    return click.option(
        "--db",
        type=click.Path(dir_okay=False, path_type=Path),
        default=Path("icl.duckdb"),
        show_default=True,
        envvar="ICL_DB",
        help="Database file (ICL_DB).",
    )(command)


def format_option(command: F) -> F:
    """``--format``: text for people, csv/json/markdown/latex for programs and papers."""
    return click.option(
        "--format",
        "output_format",
        type=click.Choice(FORMATS),
        default="text",
        show_default=True,
        help="Format of the rows on stdout.",
    )(command)


def output_option(name: str, *, default: str | None = None, folder: bool = False) -> Callable[[F], F]:
    """``-o``, ``--output``: the file (or folder) to write, as parameter ``name``."""
    return click.option(
        "-o",
        "--output",
        name,
        type=click.Path(dir_okay=folder, file_okay=not folder, path_type=Path),
        default=default,
        show_default=default is not None,
        help="Folder for the files." if folder else "File to write.",
    )


def only_options(*names: str, multiple: bool = False) -> Callable[[F], F]:
    """Options that select rows, such as ``--model``: one value each, or several with ``multiple``."""

    def apply(command: F) -> F:
        for name in reversed(names):
            kind = click.Choice(["multi", "safety"]) if name == "split" else None
            command = click.option(f"--{name}", type=kind, multiple=multiple, help=_ONLY[name])(command)
        return command

    return apply


def judge_option(command: F) -> F:
    """``--judge``: whose scores are shown."""
    return click.option("--judge", help="Judge whose scores are used; by default the one with most.")(command)


def reading_option(command: F) -> F:
    """``--reading``: how N/A counts."""
    return click.option(
        "--reading",
        type=click.Choice(["strict", "just_eval"]),
        default="strict",
        show_default=True,
        help="N/A left out, or counted as 5 as just-eval does.",
    )(command)


class CommaList(click.ParamType):  # type: ignore[type-arg]
    """Names separated by commas: ``en,es,fr``."""

    name = "a,b,c"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[str]:
        if isinstance(value, list | tuple):
            return list(value)
        names = [part.strip() for part in str(value).split(",") if part.strip()]
        if not names:
            self.fail("give at least one name", param, ctx)
        return list(dict.fromkeys(names))


class SizeList(click.ParamType):  # type: ignore[type-arg]
    """Whole numbers from 1 on, separated by commas: ``2,8,16``."""

    name = "N,N,N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[int]:
        if isinstance(value, list):
            return value
        size: Any = click.IntRange(min=1)
        return [int(size.convert(part, param, ctx)) for part in CommaList().convert(value, param, ctx)]


class AutoInt(click.ParamType):  # type: ignore[type-arg]
    """``auto`` (None) or a whole number."""

    name = "auto|N"

    def __init__(self, *, least: int = 1) -> None:
        self._least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        if value is None or value == "auto":
            return None
        try:
            number = int(value)
        except ValueError:
            self.fail(f"{value!r} is neither auto nor a whole number", param, ctx)
        if number < self._least:
            self.fail(f"must be at least {self._least}", param, ctx)
        return number


def engine_options(command: F) -> F:
    """``--parallel``, ``--gpu-layers``, ``--threads``: they change the speed and not the text."""
    for option in reversed(
        [
            click.option(
                "--parallel", type=AutoInt(), default="auto", show_default=True, help="Sequences decoded at once."
            ),
            click.option(
                "--gpu-layers",
                type=AutoInt(least=0),
                default="auto",
                show_default=True,
                help="Model layers on the GPU.",
            ),
            click.option("--threads", type=int, help="CPU threads; the physical cores by default."),
        ]
    ):
        command = option(command)
    return command


def decoding_options(command: F) -> F:
    """Decoding settings that change the text; the study's values by default."""
    for option in reversed(
        [
            click.option("--max-tokens", type=int, help="Largest number of new tokens of an answer."),
            click.option("--repetition-penalty", type=float, help="Repetition penalty, as Transformers applies it."),
            click.option("--kv-type", type=click.Choice(["f16", "f32"]), help="KV cache; f32 for F32 files, else f16."),
            click.option("--date", help="Date (YYYY-MM-DD) for chat templates that print today's."),
            click.option("--stop-on-loop", is_flag=True, help="End an answer once it loops; recorded as such."),
        ]
    ):
        command = option(command)
    return command


def prompt_dir_option(command: F) -> F:
    """``--prompt-dir``: prompt files that come before the built-in ones."""
    return click.option(
        "--prompt-dir",
        type=click.Path(file_okay=False, exists=True, path_type=Path),
        envvar="ICL_PROMPT_DIR",
        help="Folder of prompt files that replace the built-in ones (ICL_PROMPT_DIR).",
    )(command)


class ShardType(click.ParamType):  # type: ignore[type-arg]
    """``i/n``."""

    name = "i/n"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from icl_local.exceptions import ConfigError
        from icl_local.running import Shard

        if isinstance(value, Shard):
            return value
        try:
            return Shard.parse(str(value))
        except ConfigError as error:
            self.fail(str(error), param, ctx)


def shard_option(command: F) -> F:
    """``--shard``: a part of the work, for several machines whose databases are merged."""
    return click.option(
        "--shard", type=ShardType(), help="Part i of n, one for each of n machines; then icl db merge."
    )(command)


def backend_option(command: F) -> F:
    """``--backend``: a server instead of a file."""
    return click.option("--backend", help="Server instead of a file, openai:MODEL@URL: llama-server, Ollama, vLLM.")(
        command
    )


def cluster_options(command: F) -> F:
    """``--cluster`` and ``--worker-cpus``: workers on the nodes of a Ray cluster."""
    command = click.option(
        "--worker-cpus", type=click.IntRange(min=1), help="CPUs of a worker on a cluster; all of its node by default."
    )(command)
    return click.option("--cluster", help="Ray cluster: auto, local, HOST:PORT or ray://HOST:PORT.")(command)


def open_cluster(address: str | None, worker_cpus: int | None) -> Any:
    """Connect to a cluster for the time of a context (icl_local.running.open_cluster)."""
    from icl_local import running

    return running.open_cluster(address, worker_cpus=worker_cpus)
