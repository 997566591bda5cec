"""`icl run`: generate what is missing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from icl_local.cli import console
from icl_local.cli.options import (
    CommaList,
    backend_option,
    cluster_options,
    db_option,
    decoding_options,
    engine_options,
    open_cluster,
    prompt_dir_option,
    shard_option,
)

if TYPE_CHECKING:
    from icl_local.running import Shard


@click.command("run")
@click.option(
    "--model", "models", type=CommaList(), default=None, help="GGUF file, registry name or hf:owner/repo/file."
)
@backend_option
@click.option("--dpo", is_flag=True, help="The DPO-trained variant of a registry model.")
@click.option("--method", "methods", type=CommaList(), default="zero-shot", show_default=True)
@click.option("--lang", "languages", type=CommaList(), default="en", show_default=True)
@click.option("--queries", "sources", multiple=True, help="FILE, LANG=FILE or `samples`; once a language.")
@click.option("--dataset", help="Name of the query set, where the file's own is not wanted.")
@click.option("--sample", type=int, help="That many queries, drawn over split and task.")
@click.option("--limit", type=int, help="The first N queries.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of --sample.")
@shard_option
@click.option("--probe/--no-probe", default=True, help="Look for settings in which batching changes nothing.")
@decoding_options
@engine_options
@cluster_options
@prompt_dir_option
@db_option
def command(
    models: list[str] | None,
    backend: str | None,
    dpo: bool,
    methods: list[str],
    languages: list[str],
    sources: tuple[str, ...],
    dataset: str | None,
    sample: int | None,
    limit: int | None,
    seed: int,
    shard: Shard | None,
    probe: bool,
    cluster: str | None,
    worker_cpus: int | None,
    overlay: Path | None,
    db: Path,
    **settings: object,
) -> int:
    """Generate what is missing: models x methods x languages.

    A killed run goes on where it stopped: give the same command again.

    Example: icl run --model model.gguf --method zero-shot,urial --lang en --queries queries.jsonl

    Example: icl run --backend openai:llama3@http://localhost:8080/v1 --method urial --queries samples
    """
    from icl_local.cli.progress import RunProgress
    from icl_local.running import cells, open_server, run

    decoding, options = cells.split_settings(settings)
    server = None if backend is None else open_server(backend, parallel=options.parallel)
    if not models and server is None:
        raise click.UsageError("give --model, or --backend for a server's model")
    if server is not None:
        console.say(f"{server.client.base_url} is {server.kind}; repetition penalty: {server.penalty.rule}")
    sets = cells.load_queries(
        languages, sources, dataset=dataset, sample=sample, limit=limit, seed=seed, shard=shard, overlay=overlay
    )
    with console.bytes_progress() as on_download:
        planned = cells.plan_cells(
            models or [server.client.model] if server else models or [],
            methods,
            sets,
            dpo=dpo,
            server=server,
            overlay=overlay,
            on_download=on_download,
        )
    with RunProgress() as progress, open_cluster(cluster, worker_cpus) as nodes:
        results = run.run(
            db,
            planned,
            decoding=decoding,
            options=options,
            probe=probe,
            seed=seed,
            overlay=overlay,
            open_engines=nodes and nodes.engines,
            on_event=progress.on_event,
        )
    made = sum(result.n_new for result in results)
    console.say(f"{made} new responses in {db}; next: icl errors --db {db}")
    return run.exit_status(results)
