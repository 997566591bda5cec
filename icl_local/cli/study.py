"""Commands that train models and run whole studies: dpo, study."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from icl_local import dpo, results, running, store, study
from icl_local.cli import INTERRUPTED, console, options, progress, values
from icl_local.engine import EngineOptions
from icl_local.wording import counted, shell

_PARAMETERS: tuple[tuple[str, Any, str], ...] = (
    ("learning-rate", values.POSITIVE, "Peak learning rate."),
    ("epochs", values.POSITIVE, "Passes over the pairs."),
    ("max-steps", values.COUNT, "End the schedule after that many steps."),
    ("batch-size", values.COUNT, "Pairs on the device at once."),
    ("gradient-accumulation", values.COUNT, "Batches in one optimizer step."),
    ("beta", values.POSITIVE, "Beta of the loss: larger keeps the model closer to the base."),
    ("loss-type", str, "TRL's name of the loss."),
    ("max-length", values.COUNT, "Tokens of prompt and answer."),
    ("max-prompt-length", values.COUNT, "Tokens of the prompt; its end is kept (preset paper)."),
    ("truncation", str, "Part of a long text that is kept: keep_end or keep_start."),
    ("optimizer", str, "Transformers' name of the optimizer."),
    ("schedule", str, "Transformers' name of the learning rate schedule."),
    ("warmup-steps", values.NATURAL, "Steps to the peak learning rate."),
    ("weight-decay", values.NOT_NEGATIVE, "AdamW's weight decay."),
    ("max-grad-norm", values.POSITIVE, "Gradients are clipped to this norm."),
    ("seed", int, "Seed of the order of pairs and of LoRA's initial weights."),
    ("lora-rank", values.COUNT, "Train a LoRA adapter of this rank instead of all weights."),
    ("lora-alpha", values.COUNT, "LoRA's alpha; the adapter is scaled by alpha / rank."),
    ("lora-dropout", click.FloatRange(0, 1, max_open=True), "LoRA's dropout."),
    ("lora-targets", str, "Names of the layers that LoRA adapts, separated by commas."),
    ("gradient-checkpointing", bool, "Recompute activations instead of keeping them."),
    ("bf16", bool, "Mixed precision, where the device has it."),
    ("precompute-reference", bool, "Compute reference log-probabilities first; one copy of the weights is enough."),
)
_parameters = options.together(
    *(click.option(f"--{name}/--no-{name}" if kind is bool else f"--{name}", type=kind, default=None, help=description)
      for name, kind, description in _PARAMETERS)
)  # fmt: skip


@click.command("dpo")
@click.option("--base", required=True, help="Checkpoint folder, owner/name of the hub, or a .gguf file to unpack.")
@click.option("--dataset", required=True, help="Data set of the hub, or a file of pairs.")
@options.out("Folder of the result.", type=values.FOLDER)
@click.option("--preset", type=click.Choice(["paper", "trl-default"]), help="Initial parameters.  [default: paper]")
@click.option("--config", type=values.EXISTING_FILE, help="Parameters as TOML.")
@click.option("--split", help="Split of a hub data set.")
@click.option("--limit", type=values.COUNT, help="Number of pairs, from the start.")
@click.option("--identical", type=click.Choice(["error", "keep", "drop"]), help="Handling of pairs of equal answers.")
@click.option("--plan", "only_plan", is_flag=True, help="Only estimate memory, disk and time.")
@click.option("--save-every", type=values.COUNT, default=100, help="Steps between checkpoints.")
@click.option("--stop-after", type=values.COUNT, help="Save and stop after step N; the same command resumes.")
@click.option("--threads", type=values.COUNT, help="CPU threads; torch's choice by default.")
@_parameters
@options.db
def dpo_(only_plan: bool, save_every: int, stop_after: int | None, db: Path, **inputs: Any) -> int:
    """Train a base model with DPO, with the paper's settings by default.

    Ctrl-C and SIGTERM save a checkpoint at the end of the step; the same command resumes from it.

    Example: icl dpo --base meta-llama/Llama-3.2-1B --dataset trl-lib/ultrafeedback_binarized --out llama-dpo
    """
    prepared = dpo.prepare(**inputs, on_progress=console.say)
    if only_plan:
        console.print_rows(("what", "estimate"), dpo.plan_training(*prepared).rows())
        return 0
    with store.Store(db) as rows, interruptible() as interrupted, progress.Display(line_seconds=0) as display:
        run = dpo.train(
            *prepared,
            save_every=save_every,
            stop_after=stop_after,
            should_stop=interrupted,
            store=rows,
            on_step=display.on_trained,
            on_progress=console.say,
        )
    if run.status == "stopped":
        console.say(f"stopped after step {run.step} of {run.total_steps}; the same command resumes")
        return INTERRUPTED if interrupted() else 0
    click.echo(run.folder)
    hint = f"next: icl convert {shell(run.folder)} --out {shell(f'{run.folder}.gguf')}"
    console.say(f"training run {run.training_run_id} is done; {hint}")
    return 0


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Yield a function that returns whether Ctrl-C was pressed; the second one interrupts at once."""
    seen: list[int] = []

    def remember(number: int, _frame: object) -> None:
        if seen:
            raise KeyboardInterrupt
        seen.append(number)
        console.say("saving a checkpoint at the end of this step; the same signal again stops at once")

    before = signal.signal(signal.SIGINT, remember)
    try:
        yield lambda: bool(seen)
    finally:
        signal.signal(signal.SIGINT, before)


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
@click.option("--probe/--no-probe", default=True, help="Find engine settings with which batching changes nothing.")
@click.option("--work", type=values.FOLDER, default=Path("studies"), help="Folder of models that the study trains.")
@options.max_cost
@options.prices
@options.shard
@options.engine
@options.cluster
@options.prompt_dir
@options.rows
def study_(name: str, only_plan: bool, sources: tuple[str, ...], db: Path, **given: Any) -> int:
    """Plan and run a whole matrix of models, methods and languages.

    NAME is paper, demo, or a .toml file with cells, DPO steps and judges.

    The same command continues a study that was killed; a part that fails does not stop the others.

    Example: icl study paper --plan

    Example: icl study demo --db demo.duckdb
    """
    if bad := [source for source in sources if "=" not in source]:
        raise click.UsageError(f"--queries takes LANG=FILE here, not {bad[0]}")
    queries = dict(source.split("=", 1) for source in sources)
    if len(queries) < len(sources):
        raise click.UsageError("--queries names a language twice; give one file for each")
    changes = {option: given.pop(option) for option in ("sample", "limit", "prompt_dir")}  # to what the file says
    requested = study.load_study(name, queries=queries, **changes)
    given["shard"] = running.Shard.parse(given["shard"]) if given["shard"] else None
    engine = EngineOptions(**{option: given.pop(option) for option in ("parallel", "gpu_layers", "threads")})
    if only_plan:
        chosen = {option: given[option] for option in ("shard", "prices")}
        plan = study.plan_study(db, requested, parallel=engine.parallel, **chosen)
        title = "Plan (prompt, prefill, new: tokens)"
        console.print_found(results.Table(title, plan.columns, plan.rows(), tuple(plan.notes())))
        for reason in plan.to_make:
            console.say(f"missing: {reason}", style="yellow")
        return 0
    with progress.Display() as display:
        given |= {"on_event": display.on_event, "on_note": display.on_note, "on_download": display.on_download}
        outcome = study.run_study(db, requested, options=engine, stopping=interruptible, **given)
    for grid in study.grids(db):
        if grid.title == requested.name:
            console.print_found(grid, f"Study {grid.title}")
    for judge, judged in outcome.judged.items():
        console.say(f"new judgments of {judge.label}: {judged.note}")
    for failure in outcome.failures:
        console.say(f"{failure.what}: {failure.reason}", style="red")
    hint = f"; next: icl tables --db {shell(db)}" if any(cell.status == "done" for cell in outcome.cells) else ""
    console.say(f"{counted(outcome.n_new, 'new response')} in {db}{hint}")
    return int(bool(outcome.failures))
