"""Commands that run a model over queries or stored responses: run, verify, score."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import icl_local
from icl_local import results, running
from icl_local.cli import console, options, progress, values
from icl_local.running import scoring
from icl_local.store import Selection
from icl_local.wording import counted, shell

VERIFIED = ("model", "method", "language", "query_id", "position", "n_tokens", "stored_text", "decoded_text")


@options.defaults_of(icl_local.run)
@click.command("run", context_settings={"allow_extra_args": True})  # they get a message of their own
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
@click.option("--plan", is_flag=True, help="Only show what is missing; fetch and load no model.")
@options.shard
@click.option("--probe/--no-probe", help="Find engine settings with which batching changes nothing.")
@click.option("--verify", type=values.NATURAL, help="Responses of each cell to decode again; 0: none.")
@click.option("--max-tokens", type=values.COUNT, help="Maximum number of new tokens per answer.")
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
@click.option("--draws", type=values.COUNT, help="Responses sampled for each query.")
@click.option("--draw-seed", type=int, help="Seed of the draws; another seed adds draws.")
@click.option(
    "--decode",
    type=click.Choice(["text", "choices"]),
    help="choices: respond with the most probable of the query's `choices`.",
)
@options.engine
@options.cluster
@options.prompt_dir
@options.rows
@click.pass_context
def run(context: click.Context, /, db: Path, **given: Any) -> int:
    """Generate the missing responses: models x methods x languages.

    The same command continues a run that was killed.

    Example: icl run --model model.gguf --method zero-shot,urial --lang en --queries queries.jsonl

    Example: icl run --model model.gguf --method zero-shot --queries quiz.csv --decode choices

    Example: icl run --backend openai:llama3@http://localhost:8080/v1 --method urial --queries samples
    """
    if context.args:
        raise click.UsageError(f"unexpected argument {context.args[0]!r}; a model is given as --model FILE")
    if not given["plan"]:
        options.refuse_idle("only --plan prints rows", "output_format")
    if given["backend"] is not None:
        options.drop_untyped(given, "gpu_layers", "threads", "cluster")
    if given["cluster"] is None:
        options.drop_untyped(given, "worker_cpus")
    made = icl_local.run(db, **given)
    if made.preview is not None:
        console.print_found(made.preview)
        return 0
    too_long = f", {counted(made.n_too_long, 'prompt')} too long for the context" if made.n_too_long else ""
    command = "judge --judge rules" if given["decode"] == "choices" else "errors"
    hint = f"; next: icl {command} --db {shell(db)}" if any(cell.status == "done" for cell in made.cells) else ""
    console.say(f"{counted(made.n_new, 'new response')} in {db}{too_long}{hint}")
    return int(not made.done)


@click.command("verify")
@click.argument("database", required=False, type=values.FILE)
@click.option("--sample", type=values.COUNT, default=459, help="Responses drawn at random.")
@click.option("--seed", type=int, default=0, help="Seed of --sample.")
@options.selection
@click.option("--weights", multiple=True, help="GGUF file or a name of `icl models list`; repeatable.")
@options.threads
@click.option("--gpu-layers", type=values.Auto(min=0), help="Model layers on the GPU; as recorded by default.")
@options.rows
def verify(database: Path | None, db: Path, chosen: Selection, **given: Any) -> int:
    """Decode a random sample of stored responses again and compare token by token.

    Each is decoded one at a time on this machine, without a shared prefix. If all 459 are equal, fewer than
    1 % of the responses differ, with 99 % confidence. Model files are found by SHA-256 among --weights, those of
    this folder, and those of `icl models list`. Exit status 1 if something differs. The same command resumes after
    a kill.

    Example: icl verify study.duckdb --sample 459 --weights model.gguf
    """
    with progress.Display() as display:
        result = running.verify_responses(
            database or db,
            selection=chosen,
            on_progress=lambda done, total: display.show("verify", done=done, total=total),
            **given,
        )
    for reason, n in result.excluded.items():
        console.say(f"{counted(n, 'response is', 'responses are')} left out: {reason}")
    total = f"{result.n_equal:,} of {len(result.rows):,} equal, drawn from {result.n_responses:,}"
    if result.differing_below is not None:
        console.say(f"{total}: fewer than {100 * result.differing_below:.2f} % differ, with 99 % confidence")
    else:
        console.say(total)
        for build, features, n, equal in result.by_machine():
            console.say(f"made by llama.cpp {build} on {features}: {equal:,} of {n:,} equal")
    found = results.table_of("", VERIFIED, result.differences())
    if found.rows or not console.as_text():
        console.print_found(found)
    return int(bool(found.rows))


@click.command("score")
@click.option("--model", required=True, type=values.MODEL, help="Model whose base file scores.")
@click.option(
    "--texts",
    required=True,
    type=values.METHOD,
    help="Method whose stored answers are scored, or `reference`: the references of --queries.",
)
@click.option("--texts-model", type=values.MODEL, help="Model that wrote the answers, if not --model's own.")
@click.option(
    "--method",
    type=values.METHODS,
    default="same",
    help="Prompts before the texts: methods, or `same`: the answer's own.",
)
@click.option("--lang", type=values.LANGUAGES, default="en", help="Languages of the queries.")
@click.option("--dpo", is_flag=True, help="Score by the DPO-trained variant too.")
@click.option("--queries", multiple=True, help="With --texts reference: FILE or LANG=FILE, as in icl run.")
@options.columns
@options.dataset_name
@click.option("--limit", type=values.COUNT, help="Number of texts, languages in turn.")
@click.option("--plan", is_flag=True, help="Only show what is missing.")
@options.shard
@options.engine
@options.prompt_dir
@options.rows
def score(db: Path, **given: Any) -> None:
    """Score how probable stored answers are under the base model, token by token, or references under any model.

    An answer is scored by the file that wrote it after its own prompt, and by the base file after the prompts of
    --method. The same command continues one that was killed. icl shift shows what it found; docs/shift.md explains it.

    Example: icl score --model llama-3.2-1b --texts instruct --method same,zero-shot,urial --lang en,es,fr
    """
    if not given["plan"]:
        options.refuse_idle("only --plan prints rows", "output_format")
    with progress.Display() as display:
        jobs = scoring.score_texts(db, **given, on_event=display.on_event, on_download=display.on_download)
    if given["plan"]:
        console.print_rows(scoring.COLUMNS, [job.counts() for job in jobs])
        return
    n_new, n_too_long = (sum(job.made[reason] for job in jobs) for reason in ("scored", "prompt_too_long"))
    too_long = f", {counted(n_too_long, 'text')} beyond the context" if n_too_long else ""
    see = 'icl sql "from reference_probabilities"' if given["texts"] == scoring.REFERENCE else "icl shift"
    console.say(f"{counted(n_new, 'text')} scored{too_long}; see: {see} --db {shell(db)}")
