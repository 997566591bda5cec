"""`icl data`: query sets, what is here and how to get the others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from icl_local.cli import console
from icl_local.cli.options import db_option, format_option

if TYPE_CHECKING:
    from icl_local.prompting import QuerySet


@click.group("data")
def command() -> None:
    """Query sets: what is here, and how to get the others.

    Example: icl data list
    """


@command.command("list")
@format_option
def list_sets(output_format: str) -> None:
    """Query sets that ship or were fetched, and how to get the others.

    Example: icl data list --format csv
    """
    from icl_local import resources
    from icl_local.prompting import queries
    from icl_local.weights import hub

    shipped = [name.removesuffix(".jsonl") for name in resources.names("prompts", "samples", suffix=".jsonl")]
    rows = [_row(queries.samples(language), "ships with icl-local: icl run --queries samples") for language in shipped]
    fetched = hub.cached_just_eval()
    if fetched is not None:
        rows.append(_row(queries.load_file(fetched, language="en"), str(fetched)))
    else:
        rows.append(("just-eval", "en", None, None, "not here; icl data pull just-eval"))
    rows.append(("just-eval", "other", None, None, "published nowhere; see icl translate --help"))
    console.print_rows(("dataset", "language", "queries", "safety", "where"), rows, output_format=output_format)


@command.command("pull")
@click.argument("name", type=click.Choice(["just-eval"]))
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("just-eval.en.jsonl"),
    show_default=True,
    help="File to write.",
)
def pull(name: str, out: Path) -> None:
    """Fetch Just-Eval-Instruct, 1,000 English queries, from the hub.

    Example: icl data pull just-eval --out queries.en.jsonl
    """
    from icl_local.prompting import queries
    from icl_local.weights import hub

    with console.bytes_progress() as on_progress:
        file = hub.fetch_just_eval(on_progress=on_progress)
    file.copy_to(out)
    found = queries.load_file(out, language="en")
    click.echo(console.escape(out))
    console.say(f"{len(found.queries)} queries from {file.source}; next: icl run --lang en --queries {out} --model ...")


@command.command("build")
@click.option("--lang", "language", required=True, help="Language of the set.")
@click.option(
    "--out", "-o", type=click.Path(dir_okay=False, path_type=Path), required=True, help="File to write, .jsonl."
)
@click.option("--dataset", help="Query set, if the database holds several.")
@click.option(
    "--unreviewed",
    type=click.Choice(["refuse", "leave-out", "machine"]),
    default="refuse",
    show_default=True,
    help="Treatment of queries without a decision.",
)
@db_option
def build(language: str, out: Path, dataset: str | None, unreviewed: str, db: Path) -> None:
    """Write the final set of a language, same ids, every text with where it comes from.

    Example: icl data build --lang es -o queries.es.jsonl
    """
    from icl_local.translate import build_set

    built = build_set(db, out, language=language, dataset=dataset, unreviewed=unreviewed)
    click.echo(console.escape(out))
    console.say(f"{built.reviewed} reviewed texts, {built.machine} of a machine, {built.left_out} left out")
    console.say(f"next: icl data check ENGLISH.jsonl {out}; icl run --lang {language} --queries {out} --model ...")


@command.command("check")
@click.argument("first", type=click.Path(dir_okay=False, exists=True, path_type=Path))
@click.argument("second", type=click.Path(dir_okay=False, exists=True, path_type=Path))
@format_option
def check(first: Path, second: Path, output_format: str) -> int:
    """Compare two languages' sets: missing ids, duplicates, identical text. Exit status 1 where something differs.

    Example: icl data check queries.en.jsonl queries.es.jsonl
    """
    from icl_local.translate import compare_sets

    found = compare_sets(first, second)
    if found or output_format != "text":
        rows = [(one.kind, one.query_id, one.detail) for one in found]
        console.print_rows(("finding", "id", "detail"), rows, output_format=output_format)
    console.say(f"{len(found)} findings" if found else f"{first.name} and {second.name} pair up")
    return 1 if found else 0


def _row(query_set: QuerySet, where: str) -> tuple[object, ...]:
    languages = ", ".join(sorted({query.language for query in query_set.queries}))
    n_safety = sum(query.split == "safety" for query in query_set.queries)
    return query_set.dataset, languages, len(query_set.queries), n_safety, where
