"""`icl judge`: score stored responses."""

from __future__ import annotations

import sys
import time
from collections import Counter
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
    shard_option,
)

if TYPE_CHECKING:
    from icl_local.judging import ApiJudge, Collected, JudgeProgress, LocalJudge
    from icl_local.running import Shard

LINE_SECONDS = 60.0
_FILE = click.Path(dir_okay=False, exists=True, path_type=Path)


@click.command("judge")
@click.option("--judge", "name", required=True, help="openai:MODEL[@URL], local:FILE.gguf or local:smollm2-135m.")
@click.option("--plan", "only_plan", is_flag=True, help="Say what is missing, its tokens and its price; ask nobody.")
@click.option("--batch", is_flag=True, help="Hand it to the Batch API: half the price, within a day.")
@click.option("--collect", is_flag=True, help="With --batch: only read what has come back.")
@click.option("--wait", is_flag=True, help="With --batch: look again until everything has come back.")
@click.option("--poll", type=click.FloatRange(min=1), default=60.0, show_default=True, help="Seconds between looks.")
@click.option("--max-cost", type=click.FloatRange(min=0), help="USD that this command may not pass.")
@click.option("--prices", "prices_file", type=_FILE, help="Price table that comes before the built-in one.")
@click.option("--repeat", type=click.IntRange(min=1), default=1, show_default=True, help="Verdicts a response.")
@click.option("--variant", default="published", show_default=True, help="published or rubric-first (for local judges).")
@click.option("--template", "sources", multiple=True, help="just-eval=PATH: its prompts, from a clone or judgments.")
@click.option("--model", "models", type=CommaList(), default=None, help="Only responses of these models.")
@click.option("--method", "methods", type=CommaList(), default=None, help="Only these methods.")
@click.option("--lang", "languages", type=CommaList(), default=None, help="Only these languages.")
@click.option("--split", "splits", type=CommaList(), default=None, help="Only multi or safety.")
@click.option("--limit", type=click.IntRange(min=1), help="The first N judgments that are missing.")
@click.option("--concurrency", type=AutoInt(), default="auto", show_default=True, help="Requests under way at once.")
@click.option("--timeout", type=click.FloatRange(min=1), default=300.0, show_default=True, help="Seconds a request.")
@click.option("--max-tokens", type=int, default=1024, show_default=True, help="Limit of an API judge's verdict.")
@click.option("--reasoning-effort", help="Sent to an API judge that reasons, for example none or low.")
@shard_option
@engine_options
@cluster_options
@prompt_dir_option
@format_option
@db_option
def command(
    name: str,
    only_plan: bool,
    batch: bool,
    collect: bool,
    wait: bool,
    poll: float,
    max_cost: float | None,
    repeat: int,
    variant: str,
    sources: tuple[str, ...],
    models: list[str] | None,
    methods: list[str] | None,
    languages: list[str] | None,
    splits: list[str] | None,
    limit: int | None,
    shard: Shard | None,
    cluster: str | None,
    worker_cpus: int | None,
    overlay: Path | None,
    output_format: str,
    db: Path,
    **settings: Any,
) -> int:
    """Score stored responses with an LLM judge.

    What is judged is kept, what failed on the way is tried again: give the same command again. An API judge reads
    OPENAI_API_KEY and OPENAI_BASE_URL; a local judge needs neither network nor money.

    Example: icl judge --judge local:smollm2-135m --limit 20

    Example: icl judge --judge openai:gpt-6-luna --lang en --plan
    """
    from icl_local.judging import LocalJudge, Selection, open_judge, open_templates

    if (collect or wait) and not batch:
        raise click.UsageError("--collect and --wait belong to --batch")
    with console.bytes_progress() as on_download:
        judge = open_judge(name, max_cost=max_cost, needs_key=not only_plan, on_download=on_download, **settings)
    wanted = {
        "templates": open_templates(variant, overlay=overlay, sources=sources),
        "repeats": repeat,
        "selection": Selection(models or (), methods or (), languages or (), splits or (), limit, shard),
    }
    if only_plan:
        _show_plan(db, judge, wanted, batch=batch, output_format=output_format)
    elif batch:
        _by_batch(db, judge, wanted, max_cost=max_cost, only_collect=collect, poll=poll if wait else None)
    else:
        with open_cluster(cluster, worker_cpus) as nodes:
            if nodes is not None and isinstance(judge, LocalJudge):
                judge.open_worker = nodes.worker
            _now(db, judge, wanted)
    return 0


def _show_plan(
    db: Path, judge: ApiJudge | LocalJudge, wanted: dict[str, Any], *, batch: bool, output_format: str
) -> None:
    from icl_local.judging import COLUMNS, ApiJudge, preview

    price = judge.client.price if isinstance(judge, ApiJudge) else None
    plan, lines = preview(db, judge, price=price, batch=batch, **wanted)
    console.print_rows(COLUMNS, [line.cells() for line in lines], output_format=output_format, title=judge.name)
    console.say(
        f"there already: {_counts(plan.ended)}" + (f"; in batches: {plan.in_batches}" if plan.in_batches else "")
    )
    if price is not None:
        ends = f"; the model is shut down on {price.shutdown}" if price.shutdown else ""
        console.say(f"prices of {price.as_of}: ${price.input:g} in, ${price.output:g} out per million tokens{ends}")
    elif isinstance(judge, ApiJudge):
        console.say("no price is stated for this model at this server; state one with --prices")


def _now(db: Path, judge: ApiJudge | LocalJudge, wanted: dict[str, Any]) -> None:
    from icl_local.judging import judge_missing

    with JudgeBar(judge.name) as bar:
        try:
            judge_missing(db, judge, on_progress=bar.show, **wanted)
        finally:
            if bar.last is not None:
                console.say(_told(bar.last))
    if bar.last is not None and bar.last.missing:
        console.say("the same command tries again what failed on the way")


def _by_batch(
    db: Path,
    judge: ApiJudge | LocalJudge,
    wanted: dict[str, Any],
    *,
    max_cost: float | None,
    only_collect: bool,
    poll: float | None,
) -> None:
    from icl_local.judging import ApiJudge, batch

    if not isinstance(judge, ApiJudge):
        raise click.UsageError("--batch is for openai: judges")
    if not only_collect:
        progress = batch.submit(db, judge, max_cost=max_cost, **wanted)
        console.say(f"{_told(progress)}; {progress.in_batches} with the Batch API")
    if poll is not None:
        batch.wait(db, judge, poll_seconds=poll, on_look=_show_collected)
    elif only_collect:
        _show_collected(batch.collect(db, judge))
    else:
        console.say("the same command with --collect reads the answers later")


def _show_collected(collected: Collected) -> None:
    console.say(f"collected: {_counts(collected.statuses)}")
    for name, state, done, total in collected.running:
        console.say(f"{name}: {state}, {done} of {total}")


def _told(progress: JudgeProgress) -> str:
    cost = "" if progress.cost_usd is None else f", ${progress.cost_usd:.4f}"
    tokens = f"{progress.prompt_tokens} + {progress.completion_tokens} tokens"
    return (
        f"{progress.wanted} judgments were missing, {progress.before} were there: {_counts(progress.statuses)} "
        f"({progress.attempts} attempts, {tokens}{cost})"
    )


def _counts(statuses: Counter[str]) -> str:
    return ", ".join(f"{count} {status}" for status, count in sorted(statuses.items())) or "nothing"


class JudgeBar:
    """One bar on a terminal, a line a minute elsewhere."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._bars = console.Bars() if sys.stderr.isatty() else None
        self._task: int | None = None
        self.last: JudgeProgress | None = None
        self._said_at = time.monotonic()

    def __enter__(self) -> JudgeBar:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def show(self, progress: JudgeProgress) -> None:
        """Draw the counts; ``last`` keeps them."""
        self.last = progress
        if self._bars is not None:
            if self._task is None:
                self._task = self._bars.add(self._name, total=progress.wanted)
                self._bars.begin(self._task)
            cost = None if progress.cost_usd is None else f"${progress.cost_usd:.4f}"
            self._bars.update(self._task, done=progress.ended, rate=cost, note=_counts(progress.statuses))
        elif time.monotonic() - self._said_at >= LINE_SECONDS:
            self._said_at = time.monotonic()
            console.say(f"{progress.ended} of {progress.wanted}: {_counts(progress.statuses)}")
