"""`icl study`: a whole matrix of cells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from icl_local.cli import console, options, values
from icl_local.wording import counted


@click.command("study")
@click.argument("name", type=values.STUDY)
@click.option(
    "--plan", "only_plan", is_flag=True, help="Show tokens, hours and money, and what is missing; load nothing."
)
@click.option(
    "--queries", "sources", multiple=True, help="LANG=FILE: queries of a language, instead of the study's own."
)
@click.option("--sample", type=values.COUNT, help="Number of queries in each language, drawn over split and task.")
@click.option("--limit", type=values.COUNT, help="Number of queries in each language, taken from the start.")
@click.option("--judge/--no-judge", default=True, help="Run the study's judges at the end.")
@click.option("--probe/--no-probe", default=True, help="Look for settings in which batching changes nothing.")
@click.option("--work", type=values.FOLDER, default=Path("studies"), help="Folder of models that the study trains.")
@options.max_cost
@options.shard
@options.engine
@options.cluster
@options.rows
def study(
    name: str,
    only_plan: bool,
    sources: tuple[str, ...],
    sample: int | None,
    limit: int | None,
    output_format: str,
    db: Path,
    **given: Any,
) -> int:
    """Plan and run a whole matrix of models, methods and languages.

    NAME is paper, demo, or a .toml file with cells, DPO steps and judges.

    The same command continues a study that was killed; a part that fails does not stop the others.

    Example: icl study paper --plan

    Example: icl study demo --db demo.duckdb
    """
    from icl_local import study
    from icl_local.cli.dpo import interruptible
    from icl_local.cli.progress import Display
    from icl_local.engine import EngineOptions
    from icl_local.running import Shard

    if bad := [source for source in sources if "=" not in source]:
        raise click.UsageError(f"--queries takes LANG=FILE here, not {bad[0]}")
    queries = dict(source.split("=", 1) for source in sources)
    if len(queries) < len(sources):
        raise click.UsageError("--queries names a language twice; give one file for each")
    requested = study.load_study(name, queries=queries, sample=sample, limit=limit)
    given["shard"] = Shard.parse(given["shard"]) if given["shard"] else None
    engine = EngineOptions(**{name: given.pop(name) for name in ("parallel", "gpu_layers", "threads")})
    if only_plan:
        plan = study.plan_study(db, requested, shard=given["shard"], parallel=engine.parallel)
        title = "Plan (prompt, prefill, new: tokens)"
        console.print_rows(plan.columns, plan.rows(), output_format=output_format, title=title)
        for note in plan.notes():
            console.say(note)
        for reason in plan.to_make:
            console.say(f"missing: {reason}", style="yellow")
        return 0
    with Display() as display:
        given |= {"on_event": display.on_event, "on_note": display.on_note, "on_download": display.on_download}
        outcome = study.run_study(db, requested, options=engine, stopping=interruptible, **given)
    for title, columns, rows in study.grids(db):
        if title == requested.name:
            console.print_rows(columns, rows, output_format=output_format, title=f"Study {title}")
    for failure in outcome.failures:
        console.say(f"{failure.what}: {failure.reason}", style="red")
    console.say(f"{counted(outcome.n_new, 'new response')} in {db}; next: icl tables --db {db}")
    return int(bool(outcome.failures))
