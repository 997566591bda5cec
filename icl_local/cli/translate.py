"""`icl translate`: query sets in other languages."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Any

import click

from icl_local.cli import console, options, progress, values
from icl_local.translate import Review, ReviewItem, review_status, sheet, translate_queries, write_sheet
from icl_local.wording import counted, shell

KEYS = "[1-9] accept that one, [e] or e2 edit in $EDITOR, [s] skip, [u] undo, [q] quit"

# of the texts to review
_pending = options.together(
    click.option("--lang", "language", required=True, type=values.LANGUAGE, help="Language of the translations."),
    click.option("--dataset", type=values.DATASET, help="Only this query set."),
    click.option("--again", "decided", is_flag=True, help="Include texts with a decision."),
)
_reviewer_option = click.option("--reviewer", help="Name of the reviewer; your login name by default.")


@click.group("translate")
def translate() -> None:
    """Translate query sets and review the translations.

    `icl data build` writes the final set.

    Example: icl translate run --to es,fr --engine opus,openai:gpt-4o
    """


@translate.command("run")
@click.option("--to", type=values.LANGUAGES, required=True, help="Languages to translate into.")
@click.option("--engine", type=values.Names(), required=True, help="opus[:FOLDER], openai:MODEL, local:GGUF.")
@click.option("--queries", default="just-eval", help="FILE, samples or just-eval.")
@click.option("--from", "source", default="en", help="Language of the queries.")
@options.dataset_name
@click.option("--limit", type=values.COUNT, help="Only the first N queries.")
@options.concurrency
@options.max_cost
@options.prices
@options.engine
@options.cluster
@options.prompt_dir
@options.db
def run(db: Path, **given: Any) -> int:
    """Translate the queries that have no candidate of the engine yet.

    The same command continues one that was killed.

    Example: icl translate run --to es,fr --engine opus

    Example: icl translate run --to pt --engine local:model.gguf --queries samples --prompt-dir my-prompts
    """
    with progress.Display() as display:
        runs = translate_queries(db, **given, on_progress=display.on_progress, on_download=display.on_download)
    failed = any(run.failed for run in runs)
    if failed:
        console.say("the same command retries the candidates that failed")
    console.say(f"next: icl translate review --lang {given['to'][0]} --db {shell(db)}")
    return int(failed)


@translate.command("review")
@_pending
@_reviewer_option
@options.db
def review(reviewer: str | None, db: Path, **pending: Any) -> None:
    """Review translations in the terminal, one query after the other.

    The query with the most doubtful translation comes first. Every decision is stored at once, with your name and
    the time.

    Example: icl translate review --lang es --reviewer ana
    """
    shown = None
    with Review(db, reviewer=_who(reviewer), **pending) as session:
        while (item := session.current) is not None:
            if item is not shown:
                _show(item, session)
                shown = item
            key = click.prompt(KEYS, default="1" if not item.candidates[0].flags else None, err=True).strip().lower()
            if key == "q":
                break
            if message := session.press(key, edit=lambda text: click.edit(text, extension=".txt")):
                console.say(message)
    hint = f"next: icl data build --lang {pending['language']} --db {shell(db)}"
    console.say(f"{session.done} decided, {session.left} left; {hint}")


@translate.command("export")
@_pending
@options.out("File to write, .csv or .jsonl.")
@options.db
def export(out: Path, db: Path, **pending: Any) -> None:
    """Write a file to review without the terminal.

    Edit `text`, or write ok or skip as `decision`.

    Example: icl translate export --lang fr -o review.fr.csv
    """
    lines = write_sheet(db, out, **pending)
    click.echo(console.escape(out))
    console.say(f"{counted(lines, 'query')}; edit the file, then: icl translate import {shell(out)} --db {shell(db)}")


@translate.command("import")
@click.argument("file", type=values.EXISTING_FILE)
@_reviewer_option
@options.db
def import_(file: Path, reviewer: str | None, db: Path) -> None:
    """Read the decisions of an edited file.

    Reading it twice changes nothing.

    Example: icl translate import review.fr.csv --reviewer luc
    """
    found = sheet.read_sheet(db, file, reviewer=_who(reviewer))
    counts = ", ".join(f"{found[outcome]} {outcome}" for outcome in sheet.OUTCOMES[:-1])
    console.say(f"{counts}, {found['undecided']} left undecided")


@translate.command("status")
@click.option("--engines", is_flag=True, help="Show engines: flagged candidates, similarity to the final texts.")
@click.option("--dataset", type=values.DATASET, help="Only this query set.")
@options.rows
def status(engines: bool, dataset: str | None, db: Path) -> None:
    """Show the progress of the review, or the quality of each engine.

    Example: icl translate status --engines
    """
    console.print_found(review_status(db, dataset=dataset, engines=engines))


def _who(reviewer: str | None) -> str:
    try:
        return reviewer or getpass.getuser()
    except (KeyError, OSError):
        raise click.UsageError("name the reviewer with --reviewer") from None


def _show(item: ReviewItem, session: Review) -> None:
    console.say(f"\n{item.dataset} {item.query_id} ({item.status}), {session.left} left", style="bold")
    panels = [(f"source, {item.query_id}", item.source_text, "")]
    if item.final_text is not None:
        panels.append(("final", item.final_text, str(item.reviewer)))
    for number, candidate in enumerate(item.candidates, 1):
        panels.append((f"{number}: {candidate.engine}", candidate.text, ", ".join(candidate.flags)))
    console.print_panels(panels)
