"""`icl translate`: query sets in other languages."""

from __future__ import annotations

import getpass
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from icl_local.cli import console
from icl_local.cli.options import (
    AutoInt,
    CommaList,
    cluster_options,
    db_option,
    engine_options,
    format_option,
    open_cluster,
    prompt_dir_option,
)

if TYPE_CHECKING:
    from icl_local.translate import Item, Review, TranslateProgress

LINE_SECONDS = 60.0
KEYS = "[1-9] accept that one, [e] or e2 edit in $EDITOR, [s] skip, [u] undo, [q] quit"
_FILE = click.Path(dir_okay=False, path_type=Path)


def _language_option(command: Any) -> Any:
    return click.option("--lang", "language", required=True, help="Language of the translations.")(command)


def _reviewer_option(command: Any) -> Any:
    return click.option("--reviewer", help="Who decides; your login name by default.")(command)


@click.group("translate")
def command() -> None:
    """Query sets in other languages: candidates, checks, review. The final set: icl data build.

    Example: icl translate run --to es,fr --engine opus,openai:gpt-4o
    """


@command.command("run")
@click.option("--to", "targets", type=CommaList(), required=True, help="Languages to translate into.")
@click.option("--engine", "engines", type=CommaList(), required=True, help="opus[:FOLDER], openai:MODEL, local:GGUF.")
@click.option("--queries", "name", default="just-eval", show_default=True, help="FILE, samples or just-eval.")
@click.option("--from", "source", default="en", show_default=True, help="Language of the queries.")
@click.option("--dataset", help="Name of the query set, where the file's own is not wanted.")
@click.option("--limit", type=click.IntRange(min=1), help="The first N queries.")
@click.option("--concurrency", type=AutoInt(), default="auto", show_default=True, help="Requests under way at once.")
@click.option("--max-cost", type=click.FloatRange(min=0), help="USD that this command may not pass.")
@click.option("--prices", type=click.Path(dir_okay=False, exists=True, path_type=Path), help="Price table of yours.")
@engine_options
@cluster_options
@prompt_dir_option
@db_option
def run(
    targets: list[str],
    engines: list[str],
    name: str,
    source: str,
    dataset: str | None,
    limit: int | None,
    concurrency: int | None,
    max_cost: float | None,
    prices: Path | None,
    cluster: str | None,
    worker_cpus: int | None,
    prompt_dir: Path | None,
    db: Path,
    **engine: Any,
) -> int:
    """Make every candidate that is missing; a killed run goes on where it stopped.

    Example: icl translate run --to es,fr --engine opus

    Example: icl translate run --to pt --engine local:model.gguf --queries samples --prompt-dir my-prompts
    """
    from icl_local.engine import EngineOptions
    from icl_local.openai_client import Budget
    from icl_local.translate import LocalEngine, load_sources, open_engine, translate_missing

    sources = load_sources(name, language=source, dataset=dataset, overlay=prompt_dir)[:limit]
    budget = None if max_cost is None else Budget(max_cost)
    failed = 0
    for target in targets:
        for engine_name in engines:
            with console.bytes_progress() as on_download:
                opened = open_engine(
                    engine_name,
                    source=source,
                    target=target,
                    overlay=prompt_dir,
                    concurrency=concurrency,
                    budget=budget,
                    prices_file=prices,
                    options=EngineOptions(**engine),
                    on_download=on_download,
                )
            with _Bar(f"{opened.name} {source}-{target}") as bar, open_cluster(cluster, worker_cpus) as nodes:
                if nodes is not None and isinstance(opened, LocalEngine):
                    opened.open_worker = nodes.worker
                progress = translate_missing(
                    db, opened, sources, language=target, overlay=prompt_dir, on_progress=bar.show
                )
            console.say(f"{bar.label}: {_told(progress)}")
            failed += progress.failed
    if failed:
        console.say("the same command tries again what failed on the way")
    console.say(f"next: icl translate review --lang {targets[0]} --db {db}")
    return 1 if failed else 0


@command.command("review")
@_language_option
@_reviewer_option
@click.option("--dataset", help="Only this query set.")
@click.option("--again", is_flag=True, help="Also what was decided before.")
@db_option
def review(language: str, reviewer: str | None, dataset: str | None, again: bool, db: Path) -> None:
    """Decide in the terminal, one query after the other; what needs a person most comes first.

    Every decision is kept at once, with your name and the time.

    Example: icl translate review --lang es --reviewer ana
    """
    from icl_local.translate import Review

    with Review(db, language=language, reviewer=_who(reviewer), dataset=dataset, decided=again) as sitting:
        while (item := sitting.current) is not None:
            _show(item, sitting)
            if not _one_key(sitting, item):
                break
    console.say(f"{sitting.done} decided, {sitting.left} left; next: icl data build --lang {language} --db {db}")


@command.command("export")
@_language_option
@click.option("--out", "-o", type=_FILE, required=True, help="File to write, .csv or .jsonl.")
@click.option("--dataset", help="Only this query set.")
@click.option("--again", is_flag=True, help="Also what was decided before.")
@db_option
def export(language: str, out: Path, dataset: str | None, again: bool, db: Path) -> None:
    """Write what is to be reviewed as a file; edit `text`, or write ok or skip as `decision`.

    Example: icl translate export --lang fr -o review.fr.csv
    """
    from icl_local.translate import write_sheet

    lines = write_sheet(db, out, language=language, dataset=dataset, decided=again)
    click.echo(console.escape(out))
    console.say(f"{lines} queries; edit the file, then: icl translate import {out} --db {db}")


@command.command("import")
@click.argument("file", type=click.Path(dir_okay=False, exists=True, path_type=Path))
@_reviewer_option
@db_option
def import_(file: Path, reviewer: str | None, db: Path) -> None:
    """Read the decisions of an edited file; reading it twice changes nothing.

    Example: icl translate import review.fr.csv --reviewer luc
    """
    from icl_local.translate import read_sheet

    found = read_sheet(db, file, reviewer=_who(reviewer))
    console.say(
        f"{found.accepted} accepted, {found.edited} edited, {found.skipped} skipped, {found.known} known already, "
        f"{found.undecided} left undecided"
    )


@command.command("status")
@click.option("--engines", is_flag=True, help="The engines: flagged candidates, and how near to the final texts.")
@click.option("--dataset", help="Only this query set.")
@format_option
@db_option
def status(engines: bool, dataset: str | None, output_format: str, db: Path) -> None:
    """How far the review is, and with --engines how good each engine was.

    Example: icl translate status --engines
    """
    from icl_local import store
    from icl_local.translate import score_missing

    if engines:
        score_missing(db)
        found = store.named(db, "translation_engines", [dataset])
    else:
        found = store.named(db, "translation_status", [dataset])
    console.print_rows(found.columns, found.rows, output_format=output_format)


def _who(reviewer: str | None) -> str:
    try:
        return reviewer or getpass.getuser()
    except (KeyError, OSError):
        raise click.UsageError("say who you are with --reviewer") from None


def _show(item: Item, sitting: Review) -> None:
    console.say(f"\n{item.dataset} {item.query_id} ({item.status}), {sitting.left} left", style="bold")
    panels = [(f"source, {item.query_id}", item.source_text, "")]
    if item.final_text is not None:
        panels.append(("final", item.final_text, str(item.reviewer)))
    for number, candidate in enumerate(item.candidates, 1):
        panels.append((f"{number}: {candidate.engine}", candidate.text, ", ".join(candidate.flags)))
    console.print_panels(panels)


def _one_key(sitting: Review, item: Item) -> bool:
    """Ask until something was decided; False to stop."""
    from icl_local.exceptions import ConfigError

    while True:
        key = click.prompt(KEYS, default="1" if not item.candidates[0].flags else None, err=True).strip().lower()
        try:
            if key == "q":
                return False
            if key == "s":
                sitting.skip()
            elif key == "u":
                if not sitting.undo():
                    console.say("nothing to undo in this sitting")
                    continue
            elif key.isdecimal():
                sitting.accept(int(key))
            elif key.startswith("e") and (key[1:] or "1").isdecimal():
                number = int(key[1:] or "1")
                edited = click.edit(sitting.candidate(number).text, extension=".txt")
                if edited is None:
                    console.say("not saved, nothing changed")
                    continue
                sitting.edit(edited.rstrip("\n"), number)
            else:
                console.say(f"{key!r} is no key here")
                continue
        except ConfigError as error:
            console.say(str(error))
            continue
        return True


def _told(progress: TranslateProgress) -> str:
    cost = "" if progress.cost_usd is None else f", ${progress.cost_usd:.4f}"
    failed = f", {progress.failed} failed on the way" if progress.failed else ""
    return f"{progress.made} new, {progress.flagged} of them flagged, {progress.before} were there{failed}{cost}"


class _Bar:
    """One bar on a terminal, a line a minute elsewhere."""

    def __init__(self, label: str) -> None:
        self.label = label
        self._bars = console.Bars() if sys.stderr.isatty() else None
        self._task: int | None = None
        self._said_at = time.monotonic()

    def __enter__(self) -> _Bar:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def show(self, progress: TranslateProgress) -> None:
        """Draw the counts."""
        done = progress.before + progress.made + progress.failed
        if self._bars is not None:
            if self._task is None:
                self._task = self._bars.add(self.label, total=progress.wanted, done=done)
                self._bars.begin(self._task)
            self._bars.update(self._task, done=done, note=f"{progress.flagged} flagged")
        elif time.monotonic() - self._said_at >= LINE_SECONDS:
            self._said_at = time.monotonic()
            console.say(f"{self.label}: {done} of {progress.wanted}, {progress.flagged} flagged")
