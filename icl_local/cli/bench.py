"""`icl machine bench`: speed against what a user would pick instead."""

from __future__ import annotations

from pathlib import Path

import click

from icl_local.cli import console
from icl_local.cli.options import CommaList, SizeList, db_option, engine_options, format_option

COLUMNS = [
    "contender",
    "at once",
    "tokens/s",
    "x loop",
    "seconds",
    "load s",
    "warm-up s",
    "decode tokens/s",
    "outside decode %",
    "MB",
    "error",
]
CONTENDERS = ["create_completion", "server", "transformers fp32", "transformers bf16"]


@click.command("bench")
@click.option("--model", default="smollm2-135m", show_default=True, help="GGUF file or registry name.")
@click.option("--shape", type=click.Choice(["1b"]), help="Random weights of Llama 3.2 1B's shape, built on the spot.")
@click.option(
    "--type", "type_name", default="q4_0", show_default=True, help="GGUF type of --shape: q4_0, q8_0, q4_k_m."
)
@click.option("--queries", "source", default="samples", show_default=True, help="FILE or `samples`.")
@click.option("--limit", type=int, default=64, show_default=True, help="Queries.")
@click.option("--max-tokens", type=int, default=64, show_default=True, help="New tokens a query.")
@click.option(
    "--at-once", "parallels", type=SizeList(), default="1,8,16,32", show_default=True, help="Batch sizes, one by one."
)
@click.option("--contenders", type=CommaList(), default=",".join(CONTENDERS), help="Peers, by name; `none` for none.")
@click.option("--server", "servers", multiple=True, help="Base URL of an OpenAI-compatible server that is up.")
@click.option(
    "--batched-bench",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A llama-batched-bench program: the limit of batched decoding.",
)
@engine_options
@format_option
@db_option
def command(
    model: str,
    shape: str | None,
    type_name: str,
    source: str,
    limit: int,
    max_tokens: int,
    parallels: list[int],
    contenders: list[str],
    servers: tuple[str, ...],
    batched_bench: Path | None,
    output_format: str,
    db: Path,
    **engine: int | None,
) -> None:
    """Time the same work (URIAL prompts, greedy) done by this engine and by others, in one run.

    Rates are generated tokens over all seconds, the shared prefix included; only ratios mean something.

    Example: icl machine bench --limit 16 --max-tokens 32
    """
    from icl_local import bench, store
    from icl_local.bench import model as random_model
    from icl_local.engine import EngineOptions
    from icl_local.running import cells
    from icl_local.weights import read_info, registry

    path = (
        random_model.build(shape, type_name, on_event=console.say)
        if shape
        else registry.resolve(model, method_kind="completion").path
    )
    (queries,) = cells.load_queries(["en"], [source], limit=limit)
    results = bench.run(
        path,
        queries.queries,
        max_tokens=max_tokens,
        parallels=parallels,
        contenders=[name for name in contenders if name != "none"],
        servers=servers,
        batched_bench=batched_bench,
        options=EngineOptions(**engine),  # type: ignore[arg-type]
        on_event=console.say,
    )
    quantization = read_info(path).quantization
    with store.Store(db) as writer:
        rows = bench.rows(results, model=path.name, quantization=quantization, n_queries=len(queries.queries))
        writer.put([("benchmarks", row) for row in rows])
    loop = next((r.tokens_per_second for r in results if r.contender == "create_completion"), 0.0)
    console.print_rows(COLUMNS, [_cells(r, loop) for r in results], output_format=output_format, title=path.name)


def _cells(result: object, loop: float) -> tuple[object, ...]:
    from icl_local.bench import Result

    assert isinstance(result, Result)
    rate = result.tokens_per_second
    return (
        result.contender,
        result.parallel,
        rate or None,
        rate / loop if loop and rate else None,
        result.seconds or None,
        result.load_seconds or None,
        result.warmup_seconds or None,
        result.decode_rate,
        None if result.outside_share is None else 100 * result.outside_share,
        None if result.peak_rss_bytes is None else result.peak_rss_bytes // 10**6,
        result.error,
    )
