"""Commands that read and write files of other tools: import, export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from icl_local import exchange, judging, running
from icl_local.cli import console, options, values
from icl_local.exceptions import InputError
from icl_local.exchange import every_eval_ever, export, merge
from icl_local.prompting import json_items
from icl_local.store import Selection, Store
from icl_local.vocabulary import EXPORTS
from icl_local.wording import counted


@click.command("import")
@click.argument("file", type=click.Path(exists=True, path_type=Path))
@click.option("--model", help="Model of the outputs; each item's `model` or `generator` by default.")
@click.option("--method", help="Method that made them; each item's own by default, else imported.")
@click.option("--lang", "--language", "language", help="Language of the outputs; each item's own by default, else en.")
@click.option("--queries", type=values.QUERY_FILE, help="File of the queries that they answer, with tasks.")
@options.db
def import_(
    file: Path, model: str | None, method: str | None, language: str | None, queries: str | None, db: Path
) -> None:
    """Read other tools' outputs and judgments: just-eval's and AlpacaEval's JSON, or `icl export`'s Parquet folder.

    Outputs get the same error tables as your own responses. They are matched to known queries by their text.

    Example: icl import outputs/Mistral-7B.json --queries queries.en.jsonl
    """
    if file.is_dir():
        with Store(db) as target:
            console.say(f"{counted(sum(merge.merge(target, file).added.values()), 'new row')} from {file}")
        return
    if file.suffix.lower() in (".parquet", ".csv", ".tsv"):
        raise InputError(
            f"{file}: outputs are read from JSON or JSON Lines (docs/exchange.md), and the rows of "
            "icl export from the folder that --format parquet --what all writes"
        )
    items = json_items.read_file(file)
    known = running.load_set(queries, language=language, untagged="en") if queries else None
    with Store(db) as target:
        origin: dict[str, Any] = {"source": file.name, "language": language}
        done: exchange.Imported | judging.ImportedVerdicts
        if exchange.holds_judgments(items):
            done = judging.import_judgments(target, items, **origin)
        else:
            done = exchange.import_outputs(target, items, **origin, model=model, method=method, known=known)
    console.say(str(done))
    if done.assumed_english:
        texts = counted(done.assumed_english, "text names", "texts name")
        remedy = "if they are not, remove them with icl db forget and import them with --lang"
        console.say(f"{texts} no language: taken as English; {remedy}")
    if isinstance(done, exchange.Imported) and done.unmatched:
        console.say(
            f"no query is known here for {counted(done.unmatched, 'output')}, so unintended code is not counted there; "
            "give their set with --queries FILE"
        )


@click.command("export")
@click.option("--format", "form", type=click.Choice(EXPORTS), required=True, help="Format of the files.")
@click.option(
    "--what",
    type=click.Choice(["responses", "judgments", "all"]),
    default="responses",
    help="all: every table, as a folder of Parquet files that `icl db merge` reads.",
)
@click.option("--organization", default="unknown", help="Organization that ran it, for every-eval-ever.")
@options.selection
@click.option("--judge", multiple=True, type=values.STORED_JUDGE, help="Only verdicts of this judge.")
@options.out("File; a folder for several cells.", type=click.Path(path_type=Path))
@options.db
def export_(form: str, what: str, organization: str, out: Path, db: Path, chosen: Selection) -> None:
    """Write responses and judgments for other tools.

    Example: icl export --format just-eval --model "Llama3.1 8B" --method urial --lang es -o outputs.json
    """
    if form != "every-eval-ever":
        options.refuse_idle("only every-eval-ever names an organization", "organization")
    if chosen.judge and what != "judgments":
        raise click.UsageError("--judge selects verdicts; add --what judgments")
    if form == "every-eval-ever":
        if what != "responses" or chosen.split:
            raise click.UsageError("every-eval-ever holds results, not rows; leave --what and --split out")
        done = every_eval_ever.export_records(db, out, chosen=chosen, organization=organization)
    elif what == "all":
        if form != "parquet" or chosen:
            raise click.UsageError("--what all writes every row as --format parquet; leave the other options out")
        done = export.export_tables(db, out)
    else:
        done = export.export_rows(db, out, what=what, form=form, chosen=chosen)
    console.say(
        f"{counted(done.rows, 'row')} to {', '.join(map(str, done.files[:3]))}{', ...' if len(done.files) > 3 else ''}"
    )
    if done.left_out:
        console.say(f"left out: {counted(done.left_out, 'response')} without an answer (prompt too long, error)")
    if done.lost:
        console.say(done.lost)
