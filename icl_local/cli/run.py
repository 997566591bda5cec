"""`icl run`: generate what is missing."""

from __future__ import annotations

from pathlib import Path

import click

from icl_local.cli import console
from icl_local.cli.options import (
    CommaList,
    db_option,
    decoding_options,
    engine_options,
    prompt_dir_option,
)


@click.command("run")
@click.option(
    "--model", "models", type=CommaList(), required=True, help="GGUF file, registry name or hf:owner/repo/file."
)
@click.option("--dpo", is_flag=True, help="The DPO-trained variant of a registry model.")
@click.option("--method", "methods", type=CommaList(), default="zero-shot", show_default=True)
@click.option("--lang", "languages", type=CommaList(), default="en", show_default=True)
@click.option("--queries", "sources", multiple=True, help="FILE, LANG=FILE or `samples`; once a language.")
@click.option("--dataset", help="Name of the query set, where the file's own is not wanted.")
@click.option("--sample", type=int, help="That many queries, drawn over split and task.")
@click.option("--limit", type=int, help="The first N queries.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of --sample.")
@click.option("--probe/--no-probe", default=True, help="Look for settings in which batching changes nothing.")
@decoding_options
@engine_options
@prompt_dir_option
@db_option
def command(
    models: list[str],
    dpo: bool,
    methods: list[str],
    languages: list[str],
    sources: tuple[str, ...],
    dataset: str | None,
    sample: int | None,
    limit: int | None,
    seed: int,
    probe: bool,
    overlay: Path | None,
    db: Path,
    **settings: object,
) -> int:
    """Generate what is missing: models x methods x languages.

    A killed run goes on where it stopped: give the same command again.

    Example: icl run --model model.gguf --method zero-shot,urial --lang en --queries queries.jsonl
    """
    from icl_local import cells, run
    from icl_local.cli.progress import RunProgress

    sets = cells.load_queries(
        languages, sources, dataset=dataset, sample=sample, limit=limit, seed=seed, overlay=overlay
    )
    with console.bytes_progress() as on_download:
        planned = cells.plan_cells(models, methods, sets, dpo=dpo, overlay=overlay, on_download=on_download)
    decoding, options = cells.split_settings(settings)
    with RunProgress() as progress:
        results = run.run(
            db,
            planned,
            decoding=decoding,
            options=options,
            probe=probe,
            seed=seed,
            overlay=overlay,
            on_event=progress.on_event,
        )
    made = sum(result.n_new for result in results)
    console.say(f"{made} new responses in {db}; next: icl errors --db {db}")
    return run.exit_status(results)
