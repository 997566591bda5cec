"""Types of options and arguments: how a value is read, and how the tab key completes it.

A shell starts a process for each press of the tab key, so each list of names reads as little as it can.
"""

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from icl_local import resources
from icl_local.exceptions import IclError

Known = Callable[[click.Context, str], Iterable[str]]  # returns names for the beginning of one

COUNT = click.IntRange(min=1)
NATURAL = click.IntRange(min=0)
NOT_NEGATIVE = click.FloatRange(min=0)
POSITIVE = click.FloatRange(min=0, min_open=True)
FILE = click.Path(dir_okay=False, path_type=Path)
EXISTING_FILE = click.Path(dir_okay=False, exists=True, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)
EXISTING_FOLDER = click.Path(file_okay=False, exists=True, path_type=Path)
_COMMA = re.compile(r",(?![^\[\]]*\])")  # not inside brackets


class QueryFile(click.Path):
    """An existing file, or a data set of the hub: ``hf:owner/name``."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if str(value).startswith("hf:") else super().convert(value, param, ctx)


class Name(click.ParamType):  # type: ignore[type-arg]
    """A name that may be one of ``known``; with ``files`` the shell lists files too."""

    name = "text"

    def __init__(self, known: Known = lambda ctx, begun: (), *, files: bool = False) -> None:
        self._known = known
        self._files = files

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        try:
            names = dict.fromkeys(name for name in self._known(ctx, incomplete) if name.startswith(incomplete))
        except IclError:  # the command itself says what is wrong
            names = {}
        others = [CompletionItem(incomplete, type="file")] if self._files else []
        return [CompletionItem(name) for name in names] or others


class Names(Name):
    """Names separated by commas: ``en,es,fr``; commas in brackets, and in the name of a file, belong to a name."""

    name = "a,b,c"
    envvar_list_splitter = ","

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, list | tuple):
            return list(value)
        parts = [value] if os.path.isfile(value) else _COMMA.split(str(value))
        names = [part.strip() for part in parts if part.strip()]
        if not names:
            self.fail("give at least one name", param, ctx)
        return list(dict.fromkeys(names))

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        close = "]" * (incomplete.rfind("[") > incomplete.rfind("]"))
        *given, begun = _COMMA.split(incomplete + close)
        found = super().shell_complete(ctx, param, begun.removesuffix(close))
        if not given:
            return found
        names = [item.value for item in found if item.type == "plain" and item.value not in given]
        return [CompletionItem(",".join([*given, name])) for name in names]


class Languages(Names):
    """Codes of languages; suggests the code of a language that is given by its name."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        given = super().convert(value, param, ctx)
        for name in (name.casefold() for name in given if len(name) > 3):
            from icl_local import prompting

            for code, language in prompting.languages().items():
                if name in (language.name.casefold(), language.own_name.casefold()):
                    self.fail(f"{name!r} is a language's name; did you mean {code}?", param, ctx)
        return given


class Columns(Names):
    """Fields that a file has under other names: ``id=uid,instruction=question.text``."""

    name = "field=column,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        pairs = [part.partition("=") for part in super().convert(value, param, ctx)]
        if bad := [field for field, _, column in pairs if not field or not column]:
            self.fail(f"{bad[0]!r} names no column; write FIELD=COLUMN", param, ctx)
        return {field: column for field, _, column in pairs}


class Sizes(Names):
    """Whole numbers from 1 on, separated by commas: ``2,8,16``."""

    name = "N,N,N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        size: Any = COUNT
        return [size.convert(part, param, ctx) for part in super().convert(value, param, ctx)]


class Auto(click.IntRange):
    """``auto`` (None) or a whole number."""

    name = "auto|N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return None if value == "auto" else super().convert(value, param, ctx)


def _registered(ctx: click.Context, begun: str) -> list[str]:
    from icl_local.weights import registry

    return list(registry.load_registry())


def _local(ctx: click.Context, begun: str) -> list[str]:
    """Return the registry's names and those of the programs that ``begun`` may name; without a letter the programs."""
    from icl_local.weights import found

    if not begun:
        return [*_registered(ctx, begun), *(f"{program}:" for program in found.PROGRAMS)]
    programs = [program for program in found.PROGRAMS if program.startswith(begun.partition(":")[0])]
    return [*_registered(ctx, begun), *(one.name for program in programs for one in found.found_models(program))]


def _models(ctx: click.Context, begun: str) -> list[str]:
    return [*_local(ctx, begun), *(str(file) for file in sorted(Path(os.path.dirname(begun)).glob("*.gguf")))]


def _judges(ctx: click.Context, begun: str) -> list[str]:
    local = (f"local:{name}" for name in _local(ctx, begun.removeprefix("local:")))
    return [*stored("judge")(ctx, begun), *local, "openai:"]


def _methods(ctx: click.Context, begun: str) -> list[str]:
    """Return the methods, those of --prompt-dir among them; in brackets the parameters."""
    if begun.rfind("[") <= begun.rfind("]"):
        return list(_files("prompts", "methods")(ctx, begun))
    from icl_local.prompting import PARAMETERS

    before = begun[: max(begun.rfind("["), begun.rfind(",")) + 1]
    return [f"{before}{key}=" for key in PARAMETERS]


def _files(folder: str, under: str) -> Known:
    """Return a function that lists the installed TOML files, and those of --prompt-dir."""

    def names(ctx: click.Context, begun: str) -> list[str]:
        return resources.names(folder, under, suffix=".toml", overlay=ctx.params.get("prompt_dir"))

    return names


def _views(ctx: click.Context, begun: str) -> list[str]:
    """Return the query with each view in the place of its last word."""
    before = begun[: begun.rfind(" ") + 1]
    return [before + name for name in resources.names("db", "views", suffix=".sql")]


def stored(kind: str) -> Known:
    """Return a function that lists the names of a kind (db/queries/stored_names.sql) in the command's database."""

    def names(ctx: click.Context, begun: str) -> list[str]:
        from icl_local import store

        db = ctx.params.get("db") or Path("icl.duckdb")
        return [name for of, name, _ in store.named(db, "stored_names").rows if of == kind] if db.is_file() else []

    return names


MODEL, MODELS = Name(_models, files=True), Names(_models, files=True)
REGISTERED = Name(_registered)
METHOD, METHODS = Name(_methods), Names(_methods)
LANGUAGE, LANGUAGES = Name(_files("prompts", "languages")), Languages(_files("prompts", "languages"))
JUDGE = Name(_judges)
QUERY_FILE = QueryFile(dir_okay=False, exists=True)
STORED_JUDGE = Name(stored("judge"))
SAMPLE = Name(stored("sample"))
DATASET = Name(stored("dataset"))
QUANTIZATION = Name(stored("quantization"))
STUDY = Name(_files("models", "studies"), files=True)
QUERY = Name(_views)
