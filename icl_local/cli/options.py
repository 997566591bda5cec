"""Options that several commands share, each defined once."""

from __future__ import annotations

import functools
import inspect
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from icl_local.cli import completion

COUNT = click.IntRange(min=1)
EXISTING_FILE = click.Path(dir_okay=False, exists=True, path_type=Path)
NEW_FILE = click.Path(dir_okay=False, path_type=Path)
F = TypeVar("F", bound=Callable[..., Any])

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
            given = value is not None and value is not False and value is not inspect.Parameter.empty
            if isinstance(option, click.Option) and given:
                option.default = str(value) if isinstance(value, Path) else value
                option.show_default = value != () and not isinstance(value, bool)
        return command

    return apply


def _together(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Return one decorator that adds ``options`` in their order."""

    def apply(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return apply


def only_options(command: F) -> F:
    """``--model``, ``--method``, ``--lang``, ``--dataset``, ``--split``, ``--quantization``: which responses."""
    for name, description in reversed(_ONLY.items()):
        command = click.option(
            f"--{name}",
            type=LanguageList() if name == "lang" else CommaList(),
            multiple=True,
            callback=_flat,
            shell_complete=completion.stored("language" if name == "lang" else name),
            help=description,
        )(command)
    return command


def selection_options(command: F) -> F:
    """``only_options`` as one parameter, ``chosen``: a Selection."""

    @functools.wraps(command)
    def collected(*args: Any, **options: Any) -> Any:
        from icl_local.store import Selection

        names = {name: options.pop(name) for name in _ONLY}
        return command(*args, chosen=Selection(language=names.pop("lang"), **names), **options)

    return only_options(collected)  # type: ignore[return-value]


def _flat(ctx: click.Context, param: click.Parameter, value: Sequence[list[str]]) -> tuple[str, ...]:
    return tuple(itertools.chain.from_iterable(value))


db_option = click.option(
    "--db",
    type=NEW_FILE,
    default=Path("icl.duckdb"),
    show_default=True,
    envvar="ICL_DB",
    help="Database file (ICL_DB).",
)
format_option = click.option(
    "--format",
    "output_format",
    type=click.Choice(["text", "csv", "json", "markdown", "latex"]),
    default="text",
    show_default=True,
    help="Format of the rows on stdout.",
)
judge_option = click.option(
    "--judge",
    shell_complete=completion.stored("judge"),
    help="Judge whose scores are used; by default the one with most.",
)
reading_option = click.option(
    "--reading",
    type=click.Choice(["strict", "just_eval", "expected"]),
    default="strict",
    show_default=True,
    help="N/A left out, or counted as 5 as just-eval does; expected: a local judge's probabilities.",
)


class CommaList(click.ParamType):  # type: ignore[type-arg]
    """Names separated by commas: ``en,es,fr``; commas in brackets belong to a name."""

    name = "a,b,c"
    envvar_list_splitter = ","

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[str]:
        if isinstance(value, list | tuple):
            return list(value)
        names = [part.strip() for part in completion.COMMA.split(str(value)) if part.strip()]
        if not names:
            self.fail("give at least one name", param, ctx)
        return list(dict.fromkeys(names))


class ColumnMap(CommaList):
    """Fields that a file has under other names: ``id=uid,instruction=question.text``."""

    name = "field=column,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, Mapping):
            return value
        pairs = [part.partition("=") for part in super().convert(value, param, ctx)]
        if bad := [field for field, _, column in pairs if not field or not column]:
            self.fail(f"{bad[0]!r} names no column; write FIELD=COLUMN", param, ctx)
        return {field: column for field, _, column in pairs}


class LanguageList(CommaList):
    """Codes of languages; suggests the code of a language that is given by its name."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[str]:
        given = super().convert(value, param, ctx)
        for name in given:
            if len(name) > 3 and (code := _code_of(name)) is not None:
                self.fail(f"{name!r} is a language's name; did you mean {code}?", param, ctx)
        return given


def _code_of(name: str) -> str | None:
    """Return the code of the language with this name, None if there is none."""
    from icl_local import prompting

    known = prompting.languages().items()
    return next(
        (code for code, one in known if name.casefold() in (one.name.casefold(), one.own_name.casefold())), None
    )


class SizeList(CommaList):
    """Whole numbers from 1 on, separated by commas: ``2,8,16``."""

    name = "N,N,N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[Any]:
        size: Any = COUNT
        return [size.convert(part, param, ctx) for part in super().convert(value, param, ctx)]


class AutoInt(click.IntRange):
    """``auto`` (None) or a whole number."""

    name = "auto|N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return None if value == "auto" else super().convert(value, param, ctx)


# they change the speed and not the text
engine_options = _together(
    click.option(
        "--parallel", type=AutoInt(min=1), default="auto", show_default=True, help="Sequences decoded at once."
    ),
    click.option(
        "--gpu-layers", type=AutoInt(min=0), default="auto", show_default=True, help="Model layers on the GPU."
    ),
    click.option("--threads", type=COUNT, help="CPU threads; the physical cores by default."),
)
prompt_dir_option = click.option(
    "--prompt-dir",
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    envvar="ICL_PROMPT_DIR",
    help="Folder of prompt files that replace the built-in ones (ICL_PROMPT_DIR).",
)
pool_option = click.option(
    "--pool", multiple=True, help="NAME=FILE of queries with `output`: examples for methods with pool=NAME."
)
concurrency_option = click.option(
    "--concurrency", type=AutoInt(min=1), default="auto", show_default=True, help="Requests at the same time."
)
shard_option = click.option(
    "--shard", metavar="i/n", help="Part i of n, one for each of n machines, then icl db merge."
)
cluster_options = _together(
    click.option("--cluster", help="Ray cluster: auto, local, HOST:PORT or ray://HOST:PORT."),
    click.option("--worker-cpus", type=COUNT, help="CPUs of a worker on a cluster; all of its node by default."),
)
