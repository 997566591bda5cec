"""`icl run`: generate the missing responses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import icl_local
from icl_local.cli import console, options, values
from icl_local.wording import counted


@options.defaults_of(icl_local.run)
@click.command("run")
@click.option("--model", type=values.MODELS, help="GGUF file, hf:owner/repo/file, or a name of `icl models list`.")
@click.option("--backend", help="Server instead of a file, openai:MODEL@URL: llama-server, Ollama, vLLM.")
@click.option("--dpo", is_flag=True, help="Take the DPO-trained variant of a registry model.")
@click.option(
    "--method",
    type=values.METHODS,
    help="Prompting methods: zero-shot, urial, instruct; with parameters: 'urial[k=0..2]'.",
)
@click.option("--lang", type=values.LANGUAGES, help="Languages of the queries.")
@click.option(
    "--queries", multiple=True, help="FILE, LANG=FILE, `samples` or `just-eval`; repeat it for each language."
)
@options.columns
@options.pool
@options.dataset_name
@click.option("--sample", type=values.COUNT, help="Number of queries, drawn over split and task.")
@click.option("--limit", type=values.COUNT, help="Number of queries, taken from the start.")
@click.option("--seed", type=int, help="Seed of --sample.")
@options.shard
@click.option("--probe/--no-probe", help="Look for settings in which batching changes nothing.")
@click.option("--verify", type=values.NATURAL, help="Responses of each cell to decode again; 0: none.")
@click.option("--max-tokens", type=values.COUNT, help="Largest number of new tokens of an answer.")
@click.option("--repetition-penalty", type=values.POSITIVE, help="Repetition penalty, as Transformers applies it.")
@click.option("--kv-type", type=click.Choice(["f16", "f32"]), help="KV cache; f32 for F32 files, else f16.")
@click.option("--date", help="Date (YYYY-MM-DD) for chat templates that print today's.")
@click.option("--stop-on-loop", is_flag=True, help="End an answer once it loops; recorded as such.")
@click.option("--plain-queries", is_flag=True, help="Read control tokens, such as <|im_end|>, in queries as text.")
@click.option("--temperature", type=click.FloatRange(0, 5), help="Sample with this temperature; 0: greedy.")
@click.option(
    "--top-p",
    type=click.FloatRange(0, 1, min_open=True),
    help="Keep the most probable tokens whose probabilities reach this sum.",
)
@click.option(
    "--min-p",
    type=click.FloatRange(0, 1, max_open=True),
    help="Keep tokens with at least this share of the best one's probability.",
)
@click.option("--draws", type=values.COUNT, help="Sampled responses of each query.")
@click.option("--draw-seed", type=int, help="Seed of the draws; another one adds draws.")
@click.option(
    "--decode",
    type=click.Choice(["text", "choices"]),
    help="choices: respond with the most probable of the query's `choices`.",
)
@options.engine
@options.cluster
@options.prompt_dir
@options.db
def command(db: Path, **given: Any) -> int:
    """Generate the missing responses: models x methods x languages.

    The same command continues a run that was killed.

    Example: icl run --model model.gguf --method zero-shot,urial --lang en --queries queries.jsonl

    Example: icl run --model model.gguf --method zero-shot --queries quiz.csv --decode choices

    Example: icl run --backend openai:llama3@http://localhost:8080/v1 --method urial --queries samples
    """
    if not given["model"] and given["backend"] is None:
        raise click.UsageError("give --model, or --backend for a server's model")
    made = icl_local.run(db, **given)
    too_long = f", {counted(made.n_too_long, 'prompt')} too long for the context" if made.n_too_long else ""
    console.say(f"{counted(made.n_new, 'new response')} in {db}{too_long}; next: icl errors --db {db}")
    return int(not made.done)
