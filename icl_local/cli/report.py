"""`icl report`: one HTML page of a whole study."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Any

import click

import icl_local
from icl_local.cli import console, options, values
from icl_local.wording import counted


@options.defaults_of(icl_local.report)
@click.command("report")
@click.option("-o", "--output", "path", type=values.FILE, help="File to write.")
@options.judge
@options.reading
@click.option("--responses", type=values.NATURAL, help="Largest number of responses in the page.")
@click.option("--max-mb", type=click.FloatRange(min=1), help="Largest size in MB; texts that do not fit are left out.")
@click.option("--open", "show", is_flag=True, help="Open the page in the browser.")
@options.db
def command(path: Path, show: bool, db: Path, **given: Any) -> None:
    """Write tables, figures and responses as one HTML page that opens without a network.

    Example: icl report -o report.html
    """
    made = icl_local.report(db, path, **given)
    console.say(f"{made.bytes / 1e6:.1f} MB, {made.responses:,} of {counted(made.responses_stored, 'response')}")
    if made.texts < made.responses:
        left_out = made.responses - made.texts
        console.say(f"the texts of {left_out:,} are left out to stay under {given['max_mb']:g} MB (--max-mb)")
    click.echo(made.path)
    if show and not webbrowser.open(made.path.resolve().as_uri()):
        console.say("no browser here; open the file yourself", style="yellow")
