"""`icl study`: a whole matrix of cells."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from icl_local.cli import console
from icl_local.cli.options import (
    cluster_options,
    db_option,
    engine_options,
    format_option,
    open_cluster,
    shard_option,
)

if TYPE_CHECKING:
    from icl_local.running import Shard
    from icl_local.study import StudyPlan


@click.command("study")
@click.argument("name")
@click.option("--plan", "only_plan", is_flag=True, help="Say what it will take and what is missing; load nothing.")
@click.option("--queries", "sources", multiple=True, help="LANG=FILE: queries of a language, over the study's own.")
@click.option("--sample", type=int, help="That many queries a language, drawn over split and task.")
@click.option("--limit", type=int, help="The first N queries a language.")
@click.option("--judge/--no-judge", default=True, help="Ask the study's judges at the end.")
@click.option("--probe/--no-probe", default=True, help="Look for settings in which batching changes nothing.")
@click.option(
    "--work", type=click.Path(file_okay=False, path_type=Path), default=Path("studies"), show_default=True,
    help="Folder of models that the study trains.",
)  # fmt: skip
@shard_option
@engine_options
@cluster_options
@format_option
@db_option
def command(
    name: str,
    only_plan: bool,
    sources: tuple[str, ...],
    sample: int | None,
    limit: int | None,
    judge: bool,
    probe: bool,
    work: Path,
    shard: Shard | None,
    cluster: str | None,
    worker_cpus: int | None,
    output_format: str,
    db: Path,
    **engine: Any,
) -> int:
    """A whole matrix of cells, DPO steps and judges: NAME (paper, demo) or a .toml file.

    A killed study goes on where it stopped; a part that fails does not stop the others. `icl status` shows its grid.

    Example: icl study paper --plan

    Example: icl study demo --db demo.duckdb
    """
    from icl_local import study
    from icl_local.cli.progress import RunProgress
    from icl_local.engine import EngineOptions
    from icl_local.study import load_study

    if bad := [source for source in sources if "=" not in source]:
        raise click.UsageError(f"--queries takes LANG=FILE here, not {bad[0]}")
    wanted = load_study(name, queries=dict(source.split("=", 1) for source in sources), sample=sample, limit=limit)
    if only_plan:
        from icl_local.study import plan_study

        _print_plan(plan_study(db, wanted, shard=shard, parallel=engine.get("parallel")), output_format)
        return 0
    with RunProgress() as progress, open_cluster(cluster, worker_cpus) as nodes:
        outcome = study.run_study(
            db,
            wanted,
            options=EngineOptions(**engine),
            shard=shard,
            probe=probe,
            judge=judge,
            work=work,
            open_engines=nodes and nodes.engines,
            open_worker=nodes and nodes.worker,
            on_event=progress.on_event,
            on_note=console.say,
        )
    for title, columns, rows in study.grids(db):
        if title == wanted.name:
            console.print_rows(columns, rows, output_format=output_format, title=f"Study {title}")
    for failure in outcome.failures:
        console.say(f"{failure.what}: {failure.reason}", style="red")
    console.say(f"{outcome.n_new} new responses in {db}; next: icl tables --db {db}")
    return int(bool(outcome.failures))


def _print_plan(plan: StudyPlan, output_format: str) -> None:
    columns = ("model", "method", "lang", "queries", "done", "prompt", "prefill", "new", "hours", "GB", "state")
    rows: list[tuple[object, ...]] = [
        (
            f"{cell.wanted.model}{' DPO' if cell.wanted.dpo else ''}",
            cell.wanted.method,
            cell.wanted.language,
            cell.n_queries,
            cell.n_done,
            _number(cell.prompt_tokens, cell.exact_tokens),
            _number(cell.prefilled_tokens, cell.exact_tokens),
            _number(cell.new_tokens, seen=cell.seen_outputs),
            round(cell.seconds / 3600, 2),
            round(cell.memory_bytes / 1e9, 1),
            "missing" if cell.missing else "ready",
        )
        for cell in plan.cells
    ]
    counts = [(cell.prompt_tokens, cell.prefilled_tokens, cell.new_tokens) for cell in plan.cells]
    sums = [sum(column) for column in zip(*counts, strict=True)]
    most = max(cell.memory_bytes for cell in plan.cells)
    n_queries, n_done = sum(cell.n_queries for cell in plan.cells), sum(cell.n_done for cell in plan.cells)
    ready = sum(not cell.missing for cell in plan.cells)
    all_cells = ("all", f"{len(plan.cells)} cells", "", n_queries, n_done, *(f"{n:,}" for n in sums))
    rows.append((*all_cells, round(plan.seconds / 3600, 2), round(most / 1e9, 1), f"{ready} ready"))
    console.print_rows(columns, rows, output_format=output_format, title="Plan (prompt, prefill, new: tokens)")
    for judge in plan.judges:
        money = "" if judge.usd is None else f", ${judge.usd:.2f}"
        console.say(
            f"judge {judge.judge}: {judge.judgments:,} judgments, ~{judge.prompt_tokens:,} + "
            f"~{judge.completion_tokens:,} tokens{money} ({judge.note})"
        )
    console.say("~ a guess, ≈ from answers in this database; tokens without a mark are the file's own tokenizer's")
    console.say(f"hours: {plan.speed}")
    fits = "" if most <= plan.available_memory else "; too much for this machine: take a smaller quantization"
    console.say(f"memory: {most / 1e9:.1f} GB at most of {plan.available_memory / 1e9:.1f} GB free{fits}")
    console.say(f"disk: about {plan.disk_bytes / 1e9:.1f} GB, files to get or make included")
    for reason in plan.to_make:
        console.say(f"missing: {reason}", style="yellow")


def _number(count: int, exact: bool = False, *, seen: bool = False) -> str:
    return f"{'' if exact else '~' if not seen else '≈'}{count:,}"
