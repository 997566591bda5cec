"""`icl data`: query sets on this machine, and how to get the others."""

from __future__ import annotations

from pathlib import Path

import click

from icl_local.cli import console, options, values
from icl_local.wording import counted


@click.group("data")
def command() -> None:
    """List, fetch, build and check query sets.

    Example: icl data list
    """


@command.command("list")
@options.output_format
def list_sets(output_format: str) -> None:
    """List the query sets on this machine, and how to get the others.

    Example: icl data list --format csv
    """
    from icl_local.prompting import queries

    console.print_rows(queries.LISTED, queries.list_sets(), output_format=output_format)


@command.command("pull")
@click.argument("name", type=click.Choice(["just-eval", "just-eval-verdicts"]))
@click.option("--lang", "languages", type=values.LANGUAGES, default="en", help="en, es, fr, eu.")
@click.option("--out", type=values.FILE, help="File to write, for one language.  [default: just-eval.LANG.jsonl]")
@click.option(
    "--from",
    "clone",
    type=values.EXISTING_FOLDER,
    help="Verdicts: a clone of Re-Align/just-eval; without it git fetches the commit.",
)
@options.db
def pull(name: str, languages: list[str], out: Path | None, clone: Path | None, db: Path) -> None:
    """Fetch Just-Eval-Instruct, 1,000 queries, and its published translations from the hub.

    just-eval-verdicts are GPT-4's published verdicts on the answers of 15 systems, imported into the database: anchors
    for icl equate.

    Example: icl data pull just-eval --lang en,es,fr,eu
    """
    if name == "just-eval-verdicts":
        from icl_local.judging import pull_verdicts

        for source, done in pull_verdicts(db, clone):
            console.say(f"{source}: {done}")
        console.say("next: icl sample draw ANCHORS --judged-by just-eval:gpt-4-0314 --per-cell 100 --seed 1")
        return
    from icl_local.files import write_new
    from icl_local.prompting import just_eval

    if out is not None and len(languages) > 1:
        raise click.UsageError("--out names the file of one language; give one --lang, or leave --out out")
    for language in languages:
        with console.bytes_progress() as on_progress:
            found = just_eval.fetch(language, on_progress=on_progress)
        file = out or Path(f"{name}.{language}.jsonl")
        write_new(file, found.json_lines())
        click.echo(console.escape(file))
        console.say(f"{counted(len(found.items), 'query')} from {found.source}")
    console.say(f"next: icl run --lang {','.join(languages)} --queries {name} --model ...")


@command.command("build")
@click.option("--lang", "language", required=True, type=values.LANGUAGE, help="Language of the set.")
@click.option("--out", "-o", type=values.FILE, required=True, help="File to write, .jsonl.")
@click.option("--dataset", type=values.DATASET, help="Query set, if the database holds several.")
@click.option(
    "--unreviewed",
    type=click.Choice(["refuse", "leave-out", "machine"]),
    default="refuse",
    help="Treatment of queries without a decision.",
)
@options.db
def build(language: str, out: Path, dataset: str | None, unreviewed: str, db: Path) -> None:
    """Write the final query set of a language: the source's ids, and the origin of each text.

    Example: icl data build --lang es -o queries.es.jsonl
    """
    from icl_local.translate import build_set

    built = build_set(db, out, language=language, dataset=dataset, unreviewed=unreviewed)
    click.echo(console.escape(out))
    console.say(f"{counted(built.reviewed, 'reviewed text')}, {built.machine} of a machine, {built.left_out} left out")
    console.say(f"next: icl data check ENGLISH.jsonl {out}; icl run --lang {language} --queries {out} --model ...")


@command.command("check")
@click.argument("first", type=values.EXISTING_FILE)
@click.argument("second", type=values.EXISTING_FILE)
@options.output_format
def check(first: Path, second: Path, output_format: str) -> int:
    """Compare two languages' sets: missing ids, duplicates, identical text. Exit status 1 for any difference.

    Example: icl data check queries.en.jsonl queries.es.jsonl
    """
    from icl_local.translate import compare_sets

    found = compare_sets(first, second)
    if found or output_format != "text":
        rows = [(one.kind, one.query_id, one.detail) for one in found]
        console.print_rows(("finding", "id", "detail"), rows, output_format=output_format)
    console.say(counted(len(found), "finding") if found else f"{first.name} and {second.name} pair up")
    return 1 if found else 0
