"""Commands about query sets and methods: data, methods."""

from pathlib import Path
from typing import Any

import click

from icl_local import judging, prompting, results, running, translate
from icl_local.cli import console, options, progress, values
from icl_local.files import write_new
from icl_local.prompting import just_eval, queries
from icl_local.wording import counted, shell


@click.group("data")
def data() -> None:
    """List, fetch, build and check query sets.

    Example: icl data list
    """


@data.command("list")
@options.output_format
def list_sets() -> None:
    """List the query sets on this machine, and how to get the others.

    Example: icl data list --format csv
    """
    console.print_rows(queries.LISTED, queries.list_sets())


@data.command("pull")
@click.argument("name", type=click.Choice(["just-eval", "just-eval-verdicts"]))
@click.option("--lang", "languages", type=values.LANGUAGES, default="en", help="en, es, fr, eu.")
@options.out("File to write, for one language.  [default: just-eval.LANG.jsonl]", required=False)
@click.option(
    "--from",
    "clone",
    type=values.EXISTING_FOLDER,
    help="Verdicts: a clone of Re-Align/just-eval; without it git fetches the commit.",
)
@options.db
def pull(name: str, languages: list[str], out: Path | None, clone: Path | None, db: Path) -> None:
    """Fetch Just-Eval's 1,000 queries, also in Spanish, French or Basque.

    just-eval-verdicts are GPT-4's published verdicts on the answers of 15 systems, imported into the database: anchors
    for icl equate.

    Example: icl data pull just-eval --lang en,es,fr,eu
    """
    if name == "just-eval-verdicts":
        for source, done in judging.pull_verdicts(db, clone):
            console.say(f"{source}: {done}")
        console.say("next: icl sample draw ANCHORS --judged-by just-eval:gpt-4-0314 --per-cell 100 --seed 1")
        return
    if out is not None and len(languages) > 1:
        raise click.UsageError("-o names the file of one language; give one --lang, or leave -o out")
    for language in languages:
        with progress.Display() as display:
            found = just_eval.fetch(language, on_progress=display.on_download)
        file = out or Path(f"{name}.{language}.jsonl")
        write_new(file, found.json_lines())
        click.echo(console.escape(file))
        console.say(f"{counted(len(found.items), 'query')} from {found.source}")
    console.say(f"next: icl run --lang {','.join(languages)} --queries {shell(name)} --model ...")


@data.command("build")
@click.option("--lang", "language", required=True, type=values.LANGUAGE, help="Language of the set.")
@options.out("File to write, .jsonl.")
@click.option("--dataset", type=values.DATASET, help="Query set, if the database holds several.")
@click.option(
    "--unreviewed",
    type=click.Choice(["refuse", "leave-out", "machine"]),
    default="refuse",
    help="Handling of queries without a decision.",
)
@options.db
def build(language: str, out: Path, dataset: str | None, unreviewed: str, db: Path) -> None:
    """Write the final query set of a language after a review.

    The file has the ids of the source set and records the origin of each text.

    Example: icl data build --lang es -o queries.es.jsonl
    """
    built = translate.build_set(db, out, language=language, dataset=dataset, unreviewed=unreviewed)
    click.echo(console.escape(out))
    console.say(f"{counted(built.reviewed, 'reviewed text')}, {built.machine} of a machine, {built.left_out} left out")
    console.say(
        f"next: icl data check ENGLISH.jsonl {shell(out)}; icl run --lang {language} --queries {shell(out)} --model ..."
    )


@data.command("check")
@click.argument("first", type=values.QUERY_FILE)
@click.argument("second", type=values.QUERY_FILE, required=False)
@options.columns
@click.option("--lang", "language", type=values.LANGUAGE, default="en", help="Language of queries that name none.")
@options.output_format
def check(first: str, second: str | None, columns: dict[str, str] | None, language: str) -> int:
    """Count what a query set has, or compare the sets of two languages.

    A set is a file or hf:owner/name of the hub. Two are compared by missing ids, duplicates and identical texts. Exit
    status 1 for any difference, and for a set that cannot be used.

    Example: icl data check quiz.csv --map id=uid,instruction=question

    Example: icl data check queries.en.jsonl queries.es.jsonl
    """
    if second is None:
        found = running.load_set(first, untagged=language, columns=columns)
        console.print_found(results.Table("", queries.COUNTED, found.counts(), found.notes))
        return 0
    options.refuse_idle("two sets are compared as they are (check one at a time)", "columns", "language")
    differences = translate.compare_sets(first, second)
    if differences or not console.as_text():
        console.print_rows(("finding", "id", "detail"), differences)
    paired = f"{Path(first).name} and {Path(second).name} pair up"
    console.say(counted(len(differences), "finding") if differences else paired)
    return 1 if differences else 0


@click.command("methods")
@click.argument("names", metavar="[NAME]", required=False, type=values.METHODS)
@click.option("--lang", "language", default="en", type=values.LANGUAGE, help="Language of the query.")
@click.option("--model", type=values.MODEL, help="File or name whose tokens are counted.")
@click.option("--query", default="...", help="Text of the query, by which examples are retrieved.")
@options.pool
@options.prompt_dir
@options.output_format
def methods(names: list[str] | None, pool: tuple[str, ...], prompt_dir: Path | None, **given: Any) -> None:
    """Show a method's prompt, its examples and its tokens; without NAME the methods.

    Example: icl methods 'urial[k=1]' --lang es --model model.gguf
    """
    if names is None:
        known = [(one.name, one.kind, one.description) for one in prompting.methods(prompt_dir).values()]
        console.print_rows(("method", "kind", "description"), known)
        return
    parts = running.method_parts(names, pools=running.load_pools(pool), overlay=prompt_dir, **given)
    if not console.as_text():
        rows = [(one.method, one.part, one.tokens, len(one.text), one.text) for one in parts]
        console.print_rows(("method", "part", "tokens", "characters", "text"), rows)
        return
    for method in dict.fromkeys(one.method for one in parts):
        of_method = [one for one in parts if one.method == method]
        console.print_panels([(method, "".join(one.text for one in of_method), "")])
        counts = [(one.part, one.tokens, len(one.text)) for one in of_method]
        tokens = None if given["model"] is None else sum(one.tokens or 0 for one in of_method)
        counts.append(("all", tokens, sum(len(one.text) for one in of_method)))
        console.print_rows(("part", "tokens", "characters"), counts)
