"""Commands that show results: status, show, errors, tables, figures, bootstrap, report, shift, sql."""

from __future__ import annotations

import os
import sys
import webbrowser
from pathlib import Path
from typing import Any

import click

import icl_local
from icl_local import results, store
from icl_local.cli import console, options, values
from icl_local.results import answers, bootstrap, figures, paper_tables
from icl_local.store import Selection
from icl_local.vocabulary import ERRORS, FIGURES, TABLES
from icl_local.wording import counted, with_dpo

SHOWN_CHARACTERS = 600  # of a prompt, from its end
ANSWER_CHARACTERS = 2000  # shown of an answer, from its start
EXCERPT_CHARACTERS = 160
PUBLISHED_TABLES = tuple(name for name in TABLES if name not in ("metrics", "methods", "variance"))
SHORT_NAMES = {"language": "lang", "ci_low": "low", "ci_high": "high"}  # column names on a terminal
TEXT_ROWS = 200


@click.command("status")
@options.selection
@options.rows
def status(chosen: Selection, db: Path) -> None:
    """Show done and missing responses, cell by cell, and the speed.

    Rows that a killed run left in the spool are read first. Column long counts prompts that did not fit the context.
    Formats other than text have the cells only; every column is in the views progress and throughput.

    Example: icl status --db icl.duckdb
    """
    from icl_local import study  # which imports most rooms, for this command alone

    options.refuse_idle("the table is of whole cells", "split")
    with store.reader(db):  # all queries share its open file
        cells, speed, grids = store.selected(db, "status", chosen), store.named(db, "speed"), study.grids(db)
    for grid in grids if console.as_text() else ():
        console.print_found(grid, f"Study {grid.title}: done/wanted")
    console.print_found(cells, "Progress")
    if console.as_text() and speed.rows:
        console.print_rows(speed.columns, speed.rows[-20:], "Speed of the last processes")
    if console.as_text() and not cells.rows:
        console.say(f"{db} holds no responses yet; next: icl run --help")


@click.command("show")
@click.argument("query_id")
@options.selection
@click.option("--full", is_flag=True, help="Show whole prompts, not their last lines, and whole answers.")
@options.rows
def show(query_id: str, chosen: Selection, full: bool, db: Path) -> None:
    """Show one query with its prompts and the models' answers side by side.

    Example: icl show sample-07 --lang es
    """
    found = answers.find(db, query_id, chosen)
    if not console.as_text():
        rows = [query | one for query in found for one in query["answers"]]
        console.print_found(results.table_of("", answers.COLUMNS, rows))
        return
    for query in found:
        console.print_panels([(answers.query_title(query), query["instruction"], "")])
        made = query["answers"]
        prompts = dict.fromkeys((one["method"], one["prompt"]) for one in made if one["prompt"] is not None)
        panels = [(f"prompt · {method}", _end_of(prompt, full), "") for method, prompt in prompts]
        panels += [(answers.title(one), _start_of(one["text"], full), answers.subtitle(one)) for one in made]
        console.print_panels(panels)
        if not made:
            console.say("no answers yet; `icl run` makes them")


def _end_of(prompt: str, full: bool) -> str:
    hidden = 0 if full else max(0, len(prompt) - SHOWN_CHARACTERS)
    return (f"[{counted(hidden, 'character')} before; --full shows them]\n" if hidden else "") + prompt[hidden:]


def _start_of(answer: str, full: bool) -> str:
    hidden = 0 if full else max(0, len(answer) - ANSWER_CHARACTERS)
    shown = answer[: len(answer) - hidden]
    return shown + (f"\n[{counted(hidden, 'more character')}; --full shows them]" if hidden else "")


@click.command("errors")
@click.option("--list", "listed", is_flag=True, help="Show the responses that have an error, not the table.")
@click.option("--error", type=click.Choice(ERRORS), help="Kind of error that --list shows.")
@click.option("--redetect", is_flag=True, help="Run the current detector on every response first.")
@options.only
@options.rows
def errors(db: Path, **given: Any) -> None:
    """Show critical errors in percent: loops under both readings, and unintended code.

    loop is the default reading; literal is any sequence repeated more than 5 times, also rules (-----) and table lines.
    code is the percentage of the n_code responses with a known task that contain code though the task is not coding.

    Example: icl errors --list --error infinite_loop --lang en
    """
    if not given["listed"]:
        options.drop_untyped(given, "error", "split")
    found = icl_local.errors(db, **given)
    if not given["listed"] or not console.as_text():
        console.print_found(found)
        return
    for note in found.notes:
        console.say(note)
    for row in found.dicts():
        times = f"{row['copies'] or 0:,.1f}".removesuffix(".0")
        copies = row["copies"] and f"{times} copies in {counted(row['span'], 'character')}"
        model = with_dpo(row["model"], row["dpo"])
        parts = (row["query_id"], model, row["method"], row["language"], row["error"], row["kind"], copies)
        console.print_lines(" · ".join(part for part in parts if part), _excerpt(row))
    console.say(f"{len(found):,} found; whole answers: icl show QUERY_ID")


def _excerpt(row: dict[str, Any]) -> str:
    start = max(0, int(row["start_char"] or 0) - 20)
    text = str(row["raw_text"])[start : start + EXCERPT_CHARACTERS]
    return ("…" if start else "") + text.replace("\n", "⏎")


@options.defaults_of(icl_local.table)
@click.command("tables")
@click.argument("names", nargs=-1, type=click.Choice(TABLES), metavar=f"[{'|'.join(TABLES)}]...")
@click.option("--versus-paper", "versus", is_flag=True, help="Show your figures beside the printed ones.")
@click.option("--published", is_flag=True, help="Show the paper's own cells, its sentences and its slips.")
@click.option("--corrected", is_flag=True, help="Scores corrected by human labels, see icl trust (tables 1, 2, 3).")
@click.option("--equated-to", type=values.STORED_JUDGE, help="Scores on this judge's scale: icl equate.")
@click.option("--reference", help="With --corrected: human, or the judge that stands for the labels.")
@options.shown
@options.rows
def tables(names: tuple[str, ...], db: Path, **given: Any) -> None:
    """Show the paper's tables, by default all: 1, 2, 3 are scores, 4, 6, 8 critical errors in percent.

    metrics: scores by rules (icl judge --judge rules). methods: effects of parameters. variance: how much of the
    variance comes from examples, their order, draws and verdicts. sentences: the figures in the paper's text, computed
    from your rows. audit: the slips in the paper's figures.

    csv and json have every column of the view behind a table, unrounded; text, markdown and latex have the paper's
    layout.

    Example: icl tables 1 3 --judge openai:gpt-4o --format latex
    """
    chosen = names or (
        PUBLISHED_TABLES
        if given["published"]
        else tuple(TABLES)[: 3 if given["corrected"] or given["equated_to"] else 6]
    )
    chosen = tuple(one for name in chosen for one in (("methods", "variance") if name == "methods" else (name,)))
    console.print_tables(results.build_tables(db, chosen, whole=console.whole(), **given))


@click.command("figures")
@click.argument("names", nargs=-1, type=click.Choice(FIGURES), metavar=f"[{'|'.join(FIGURES)}]...")
@options.out("Folder for the files.", "folder", type=values.FOLDER, required=False, default="figures")
@click.option("--published", is_flag=True, help="Draw the paper's own cells.")
@click.option("--theme", type=click.Choice(["light", "dark"]), default="light", help="Background.")
@options.shown
@options.db
def figures_(names: tuple[str, ...], folder: Path, theme: str, db: Path, **chosen: Any) -> None:
    """Draw the paper's figures from your rows, as PNG and SVG.

    2: languages. 3: DPO. 4: critical errors. size: scores by size. shift: token shift. decoding: loops, unintended
    code and other languages by temperature, where a cell has several.

    Example: icl figures 2 4 -o figures
    """
    with paper_tables.open_views(db, **chosen) as views:
        drawn = {name: figures.draw(views, name, theme=theme) for name in names or FIGURES}
    for name, figure in drawn.items():
        if figure is None:
            console.say(f"{FIGURES[name]}: no rows for it in {db} yet")
            continue
        for path in figures.Drawing(name, FIGURES[name], figure).save(folder):
            click.echo(path)


@click.command("bootstrap")
@click.option("--samples", type=click.IntRange(min=100), default=10_000, help="Resamples of a mean.")
@click.option("--seed", type=values.NATURAL, default=0, help="Same seed, same rows.")
@click.option("--pairs", is_flag=True, help="Resample differences between cells that differ in one thing.")
@options.judge
@options.reading
@options.rows
def bootstrap_(samples: int, seed: int, pairs: bool, db: Path, **given: Any) -> None:
    """Compute percentile bootstrap intervals of every score mean and store them: view bootstrap_intervals.

    Queries of one text are drawn together. --pairs resamples paired differences: view bootstrap_differences.

    Example: icl bootstrap --samples 10000 --seed 1
    """
    count = bootstrap.run(db, samples=samples, seed=seed, pairs=pairs, **given)
    what, view = ("difference", "bootstrap_differences") if pairs else ("mean", "bootstrap_intervals")
    console.say(f"{counted(count, what)} resampled {counted(samples, 'time')}; icl sql 'from {view}'")
    found = bootstrap.intervals(db, samples=samples, seed=seed, pairs=pairs)
    columns = [SHORT_NAMES.get(name, name) for name in found.columns] if console.as_text() else found.columns
    console.print_rows(columns, found.rows)


@options.defaults_of(icl_local.report)
@click.command("report")
@options.out("File to write.", "path", required=False)
@options.shown
@click.option("--responses", type=values.NATURAL, help="Largest number of responses in the page.")
@click.option("--max-mb", type=click.FloatRange(min=1), help="Largest size in MB; texts that do not fit are left out.")
@click.option("--open", "show", is_flag=True, help="Open the page in the browser.")
@options.db
def report(path: Path, show: bool, db: Path, **given: Any) -> None:
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


@click.command("shift")
@click.option("--lang", type=values.LANGUAGES, default=(), help="Only these languages.")
@click.option(
    "--reading",
    type=click.Choice(["all", "own_top", "with_end"]),
    default="all",
    help="own_top: only tokens that were the writing model's first choice; with_end: the end token too.",
)
@click.option("--tokens", type=values.COUNT, default=10, help="Most shifted tokens that are shown.")
@options.rows
def shift(db: Path, **given: Any) -> None:
    """Show how many tokens of stored answers the base model would not have written.

    icl score makes the rows. docs/shift.md explains the tables; csv and json have every column of the views.

    Example: icl shift --lang es
    """
    console.print_tables(results.shift_tables(db, whole=console.whole(), **given))


@options.defaults_of(icl_local.query)
@click.command("sql")
@click.argument("query", required=False, type=values.QUERY)
@click.option("--schema", is_flag=True, help="List the views, those whose names hold QUERY if you give one.")
@click.option("--limit", type=values.COUNT, help=f"Largest number of rows; {TEXT_ROWS} for text.")
@click.option("--timeout", type=values.POSITIVE, help="Seconds that a query may take.")
@click.option("--unsafe", is_flag=True, help="Allow other files, other databases and extensions.")
@options.rows
def sql(query: str | None, schema: bool, limit: int | None, timeout: float, unsafe: bool, db: Path) -> None:
    """Run one select on the database; - reads it from standard input.

    The query cannot write, reach other files or load code, and a run may continue. Rows too wide for the
    terminal (without one, for COLUMNS or 180 characters) are shown with a line for each column.

    Example: icl sql "select model, method, count(*) from responses group by all" --format csv
    """
    params: list[object] = []
    if schema:
        query, params = store.sql_text("described_views"), [query or ""]
    elif query is None:
        raise click.UsageError("give a query, - to read one from standard input, or --schema")
    elif query == "-":
        query = sys.stdin.read()
    if unsafe:
        console.say("unsafe: this query may read and write other files, attach databases and load extensions")
    most = limit or (TEXT_ROWS if console.as_text() else None)

    def end() -> None:
        click.echo(f"error: the query took longer than {timeout:g} s and did not stop; ended this process", err=True)
        os._exit(1)  # the connection is read-only

    more = None if most is None else most + 1
    found = store.query(db, query, params, timeout=timeout, unsafe=unsafe, limit=more, on_stuck=end)
    rows = found.rows[:most]
    console.print_answer(found.columns, rows)
    if len(found.rows) > len(rows):
        console.say(f"only the first {counted(len(rows), 'row')}; --limit gives more")
