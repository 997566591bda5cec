"""Options that several commands share, each defined once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

FORMATS = ("text", "csv", "json", "markdown", "latex")


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
        help="How rows are written to stdout.",
    )(command)
