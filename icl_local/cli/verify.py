"""`icl verify`: decode stored responses again, one at a time, and compare."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from icl_local.cli import console, options, values
from icl_local.wording import counted

if TYPE_CHECKING:
    from icl_local.store import Selection

COLUMNS = ("model", "method", "language", "query_id", "position", "n_tokens", "stored_text", "decoded_text")


@click.command("verify")
@click.argument("database", required=False, type=values.FILE)
@click.option("--sample", type=values.COUNT, default=459, help="Responses drawn at random.")
@click.option("--seed", type=int, default=0, help="Seed of --sample.")
@options.selection
@click.option("--weights", multiple=True, help="GGUF file or a name of `icl models list`; repeatable.")
@options.threads
@click.option("--gpu-layers", type=values.Auto(min=0), help="Model layers on the GPU; as recorded by default.")
@options.output_format
@options.db
def command(
    database: Path | None,
    db: Path,
    output_format: str,
    chosen: Selection,
    **given: Any,
) -> int:
    """Decode a random sample of stored responses again and compare token by token.

    Each is decoded one at a time on this machine, without a shared prefix. If all of 459 are equal, fewer than
    1 % of the responses differ, with 99 % confidence. Model files are found by SHA-256 among --weights, those of
    this folder, and those of `icl models list`. Exit status 1 if something differs. The same command resumes after
    a kill.

    Example: icl verify study.duckdb --sample 459 --weights model.gguf
    """
    from icl_local.cli.progress import Display
    from icl_local.running import verify_responses

    path = database or db
    with Display() as display:
        result = verify_responses(
            path,
            selection=chosen,
            on_progress=lambda done, total: display.show("verify", done=done, total=total),
            **given,
        )
    for reason, n in result.excluded.items():
        console.say(f"{counted(n, 'response is', 'responses are')} left out: {reason}")
    total = f"{result.n_equal:,} of {len(result.rows):,} equal, drawn from {result.n_responses:,}"
    if result.differing_below is not None:
        console.say(f"{total}: fewer than {100 * result.differing_below:.2f} % differ, with 99 % confidence")
        return 0
    console.say(total)
    for build, features, n, equal in result.by_machine():
        console.say(f"made by llama.cpp {build} on {features}: {equal:,} of {n:,} equal")
    rows = [tuple(row[name] for name in COLUMNS) for row in result.differences()]
    if rows:
        console.print_rows(COLUMNS, rows, output_format=output_format)
    return int(bool(rows))
