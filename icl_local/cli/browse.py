"""`icl browse`: answers, tables and a run's progress in the browser, and a page to rate a sample."""

from __future__ import annotations

import contextlib
import webbrowser
from pathlib import Path

import click

from icl_local.cli import console, options, values


@click.command("browse")
@click.option("--rate", "sample", type=values.SAMPLE, help="Rate this sample, blind.")
@click.option("--rater", help="Your name, stored with each label: letters, digits, _ and -.")
@options.judge
@options.reading
@click.option("--responses", type=values.NATURAL, default=40_000, help="Largest number shown.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port on this machine; by default a free one.")
@click.option("--open/--no-open", "show", default=True, help="Open the page in the browser.")
@options.prompt_dir
@options.db
def command(
    sample: str | None,
    rater: str | None,
    judge: str | None,
    reading: str,
    responses: int,
    port: int,
    show: bool,
    prompt_dir: Path | None,
    db: Path,
) -> None:
    """Show answers, tables, figures and the current run in the browser; with --rate, ask for scores.

    The page is for this machine alone and ends with Ctrl-C. A label is on disk when the page says
    "Saved"; the same command continues where the rater stopped. The page of a rater names no model,
    method or score. Press ? there for its keys.

    Example: icl browse

    Example: icl browse --rate PILOT --rater ana
    """
    from icl_local import judging, results

    if (sample is None) != (rater is None):
        raise click.UsageError("--rate and --rater belong together")
    with contextlib.ExitStack() as stack:
        if sample is not None and rater is not None:
            rating = stack.enter_context(judging.open_rating(db, sample, rater, overlay=prompt_dir))
            server = judging.rating_page(rating, port=port)
        else:
            browser = results.Browser(db, judge=judge, reading=reading, max_responses=responses)
            server = results.PageServer(browser.routes(), {}, port=port)
            console.say(f"reading {db}")
            browser.page()
        stack.enter_context(server)
        click.echo(server.url)
        console.say("Ctrl-C ends the page")
        if show and not webbrowser.open(server.url):
            console.say("no browser here; open the address yourself", style="yellow")
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()
