"""`icl run`: generate what is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from icl_local.cli import console
from icl_local.cli.options import (
    CommaList,
    backend_option,
    cluster_options,
    db_option,
    decoding_options,
    engine_options,
    prompt_dir_option,
    shard_option,
)


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
    methods: list[str],
    languages: list[str],
    sources: tuple[str, ...],
    chat_date: str | None,
    overlay: Path | None,
    db: Path,
    **options: Any,
) -> int:
    """Generate what is missing: models x methods x languages.

    A killed run goes on where it stopped: give the same command again.

    Example: icl run --model model.gguf --method zero-shot,urial --lang en --queries queries.jsonl

    Example: icl run --backend openai:llama3@http://localhost:8080/v1 --method urial --queries samples
    """
    from icl_local.cli.progress import RunProgress
    from icl_local.running import run_models

    if not models and options["backend"] is None:
        raise click.UsageError("give --model, or --backend for a server's model")
    with console.bytes_progress() as on_download, RunProgress() as progress:
        result = run_models(
            db,
            model=models or (),
            method=methods,
            lang=languages,
            queries=sources,
            date=chat_date,
            prompt_dir=overlay,
            on_event=progress.on_event,
            on_note=console.say,
            on_download=on_download,
            **options,
        )
    console.say(f"{result.n_new} new responses in {db}; next: icl errors --db {db}")
    return int(not result.done)
