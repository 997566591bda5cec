"""Values that a shell completes: names of models, methods, languages, views, and what a database holds.

A shell starts a process for each press of the tab key, so each list reads as little as it can.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from icl_local import resources

COMMA = re.compile(r",(?![^\[\]]*\])")  # not inside brackets
Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def models(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the registry's and other programs' names and .gguf files that follow; the shell lists other files."""
    before, _, begun = incomplete.rpartition(",")
    names = _registered() + _held(begun) + [str(file) for file in sorted(Path(os.path.dirname(begun)).glob("*.gguf"))]
    return _beginning(incomplete, names) or ([] if before else [CompletionItem(incomplete, type="file")])


def registered(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the registry's names that follow."""
    return _beginning(incomplete, _registered())


def methods(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the methods that follow, those of --prompt-dir among them; in brackets the parameters."""
    if incomplete.rfind("[") > incomplete.rfind("]"):
        from icl_local.prompting import PARAMETERS

        before = incomplete[: max(incomplete.rfind("["), incomplete.rfind(",")) + 1]
        return _completed(before, incomplete[len(before) :], [f"{key}=" for key in PARAMETERS])
    return _beginning(incomplete, _prompt_files(ctx, "methods"))


def languages(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the codes of languages that follow, those of --prompt-dir among them."""
    return _beginning(incomplete, _prompt_files(ctx, "languages"))


def stored(kind: str) -> Complete:
    """Return the completion of the names of a kind (see db/queries/stored_names.sql) in the command's database."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return _beginning(incomplete, _stored(ctx, kind))

    return complete


def judges(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the judges of the database and the local models that follow."""
    models = _registered() + _held(incomplete.removeprefix("local:"))
    return _beginning(incomplete, [*_stored(ctx, "judge"), *(f"local:{name}" for name in models), "openai:"])


def views(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the query with the views that its last word may become."""
    before, space, _ = incomplete.rpartition(" ")
    names = (name.removesuffix(".sql") for name in resources.names("db", "views", suffix=".sql"))
    return _completed(before + space, incomplete.removeprefix(before + space), names)


def studies(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the built-in studies that follow; the shell lists files."""
    names = (name.removesuffix(".toml") for name in resources.names("models", "studies", suffix=".toml"))
    return _completed("", incomplete, names) or [CompletionItem(incomplete, type="file")]


def _beginning(incomplete: str, names: Iterable[str]) -> list[CompletionItem]:
    """Return the names that the last one of a list with commas may become."""
    before, comma, begun = incomplete.rpartition(",")
    given = before.split(",")
    return _completed(before + comma, begun, (name for name in names if name not in given))


def _completed(before: str, begun: str, names: Iterable[str]) -> list[CompletionItem]:
    return [CompletionItem(before + name) for name in dict.fromkeys(names) if name.startswith(begun)]


def _registered() -> list[str]:
    from icl_local.exceptions import IclError
    from icl_local.weights import registry

    try:
        return list(registry.load_registry())
    except IclError:  # the command itself says what is wrong
        return []


def _held(begun: str) -> list[str]:
    """Return the models of the programs that ``begun`` may name; without a letter only the programs."""
    from icl_local.weights import found

    if not begun:
        return [f"{program}:" for program in found.PROGRAMS]
    programs = [program for program in found.PROGRAMS if program.startswith(begun.partition(":")[0])]
    return [one.name for program in programs for one in found.found_models(program)]


def _prompt_files(ctx: click.Context, folder: str) -> list[str]:
    overlay = ctx.params.get("prompt_dir")
    return [name.removesuffix(".toml") for name in resources.names("prompts", folder, suffix=".toml", overlay=overlay)]


def _stored(ctx: click.Context, kind: str) -> list[str]:
    from icl_local import store
    from icl_local.exceptions import IclError

    db = ctx.params.get("db") or Path("icl.duckdb")
    try:
        return [name for of, name, _ in store.named(db, "stored_names").rows if of == kind] if db.is_file() else []
    except IclError:
        return []
