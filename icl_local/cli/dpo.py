"""`icl dpo`: train a base model on preferences."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from icl_local.cli import console
from icl_local.cli.options import db_option

if TYPE_CHECKING:
    from icl_local.dpo import Step, TrainingPlan

_PARAMETERS: tuple[tuple[str, type, str], ...] = (
    ("learning-rate", float, "Peak learning rate."),
    ("epochs", float, "Passes over the pairs."),
    ("max-steps", int, "End the schedule after that many steps."),
    ("batch-size", int, "Pairs on the device at once."),
    ("gradient-accumulation", int, "Batches a step."),
    ("beta", float, "Strength of the pull towards the base model."),
    ("loss-type", str, "TRL's name of the loss."),
    ("max-length", int, "Tokens of prompt and answer."),
    ("max-prompt-length", int, "Tokens of the prompt, its end is kept (preset paper)."),
    ("truncation", str, "keep_end or keep_start."),
    ("optimizer", str, "Transformers' name of the optimizer."),
    ("schedule", str, "Transformers' name of the learning rate schedule."),
    ("warmup-steps", int, "Steps to the peak learning rate."),
    ("weight-decay", float, "AdamW's weight decay."),
    ("max-grad-norm", float, "Gradients are clipped to this norm."),
    ("seed", int, "Order of the pairs, LoRA's start."),
    ("lora-rank", int, "Train a LoRA adapter of this rank instead of all weights."),
    ("lora-alpha", int, "LoRA's scale, over its rank."),
    ("lora-dropout", float, "LoRA's dropout."),
    ("lora-targets", str, "Layers LoRA changes."),
)
_SWITCHES = (
    ("gradient-checkpointing", "Compute activations twice instead of keeping them."),
    ("bf16", "Mixed precision, where the device has it."),
    ("precompute-reference", "Reference log-probabilities first, so that one copy of the weights is enough."),
)


def _parameter_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for name, help_text in reversed(_SWITCHES):
        command = click.option(f"--{name}/--no-{name}", default=None, help=help_text)(command)
    for name, kind, help_text in reversed(_PARAMETERS):
        command = click.option(f"--{name}", type=kind, help=help_text)(command)
    return command


@click.command("dpo")
@click.option("--base", required=True, help="Checkpoint folder, owner/name of the hub, or a .gguf file to unpack.")
@click.option("--dataset", required=True, help="Data set of the hub, or a .jsonl or .parquet file of pairs.")
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder of the result.")
@click.option("--preset", type=click.Choice(["paper", "trl-default"]), help="Where parameters start.  [default: paper]")
@click.option("--config", type=click.Path(dir_okay=False, exists=True, path_type=Path), help="Parameters as TOML.")
@click.option("--split", help="Split of a hub data set.")
@click.option("--limit", type=int, help="The first N pairs.")
@click.option("--identical", type=click.Choice(["error", "keep", "drop"]), help="Pairs with the same answer twice.")
@click.option("--plan", "only_plan", is_flag=True, help="Only say memory, disk and time.")
@click.option("--save-every", type=int, default=100, show_default=True, help="Steps between checkpoints.")
@click.option("--stop-after", type=int, help="Save and stop after step N; the same command goes on.")
@click.option("--threads", type=int, help="CPU threads; torch's choice by default.")
@_parameter_options
@db_option
def command(
    base: str,
    dataset: str,
    out: Path,
    preset: str | None,
    config: Path | None,
    split: str | None,
    limit: int | None,
    identical: str | None,
    only_plan: bool,
    save_every: int,
    stop_after: int | None,
    threads: int | None,
    db: Path,
    **changes: object,
) -> int:
    """Train a base model with DPO; the paper's run by default.

    Ctrl-C saves a checkpoint at the end of the step; the same command goes on from it.

    Example: icl dpo --base meta-llama/Llama-3.2-1B --dataset trl-lib/ultrafeedback_binarized --out llama-dpo
    """
    from icl_local import dpo, store
    from icl_local.convert import model_source
    from icl_local.dpo import data as dpo_data
    from icl_local.dpo import settings as dpo_settings

    settings = dpo_settings.parameters(preset, config, **changes)
    preferences = dpo_data.load_preferences(dataset, split=split, limit=limit, identical=identical)
    found = model_source.locate(base, work=out / "base", on_progress=console.say)
    if threads:
        dpo.set_threads(threads)
    if only_plan:
        _print_plan(dpo.plan_training(found, preferences, out, settings))
        return 0
    with store.Store(db) as rows, interruptible() as interrupted, _StepProgress() as progress:
        run = dpo.train(
            found,
            preferences,
            out,
            settings,
            save_every=save_every,
            stop_after=stop_after,
            should_stop=interrupted,
            store=rows,
            on_step=progress.on_step,
            on_progress=console.say,
        )
    if run.status == "stopped":
        console.say(f"stopped after step {run.step} of {run.total_steps}; the same command goes on")
        return 130 if interrupted() else 0
    click.echo(run.folder)
    console.say(f"training run {run.training_run_id} is done; next: icl convert {run.folder} --out {run.folder}.gguf")
    return 0


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Yields whether Ctrl-C came; the second one interrupts at once."""
    seen: list[int] = []

    def remember(number: int, _frame: object) -> None:
        if seen:
            raise KeyboardInterrupt
        seen.append(number)
        console.say("saving a checkpoint at the end of this step; Ctrl-C again to stop at once")

    before = signal.signal(signal.SIGINT, remember)
    try:
        yield lambda: bool(seen)
    finally:
        signal.signal(signal.SIGINT, before)


class _StepProgress:
    """One bar on a terminal, a line a step elsewhere."""

    def __init__(self) -> None:
        self._bars = console.Bars() if sys.stderr.isatty() else None
        self._task: int | None = None

    def __enter__(self) -> _StepProgress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars is not None and self._task is not None:
            self._bars.stop()

    def on_step(self, step: Step) -> None:
        rate = f"{step.tokens / step.seconds:.0f} tok/s"
        note = f"loss {step.loss:.4f} margin {step.reward_margin:+.3f} accuracy {step.reward_accuracy:.2f}"
        if self._bars is None:
            left = (step.total_steps - step.step) * step.seconds
            console.say(f"step {step.step} of {step.total_steps}: {note}, {rate}, {left / 60:.0f} min left")
            return
        if self._task is None:
            self._bars.start()
            self._task = self._bars.add("DPO", total=step.total_steps, done=step.step - 1)
            self._bars.begin(self._task)
        self._bars.update(self._task, done=step.step, rate=rate, note=note)


def _print_plan(plan: TrainingPlan) -> None:
    gigabytes = [(f"memory: {name}", f"{size / 1e9:.1f} GB") for name, size in plan.memory.items() if size]
    fits = "" if plan.memory_bytes <= plan.available_bytes else "; too much: try --precompute-reference or --lora-rank"
    rows = [
        ("device", plan.device),
        ("weights", f"{plan.n_parameters:,}, {plan.n_trained:,} trained"),
        ("pairs", f"{plan.n_pairs:,} of {plan.mean_tokens:.0f} tokens (both answers)"),
        ("steps", f"{plan.n_steps:,}"),
        *gigabytes,
        ("memory in all", f"{plan.memory_bytes / 1e9:.1f} GB of {plan.available_bytes / 1e9:.1f} GB{fits}"),
        ("disk", f"{plan.disk_bytes / 1e9:.1f} GB of {plan.free_disk_bytes / 1e9:.1f} GB"),
        ("speed", f"{plan.flops_per_second / 1e9:.0f} GFLOP/s measured"),
        ("time", f"{plan.seconds / 3600:.1f} hours" if plan.seconds > 7200 else f"{plan.seconds / 60:.0f} minutes"),
    ]
    console.print_rows(("what", "estimate"), rows)
