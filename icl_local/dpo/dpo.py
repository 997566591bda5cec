"""Direct Preference Optimization of a base model on TRL; the paper's run is the default (docs/dpo.md).

The key of a run is a hash of its base, data and parameters; the same call resumes from the last whole checkpoint, with
bit-identical results, and is done when the model is in the output folder.
"""

import importlib
import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from icl_local.convert import Checkpoint, ModelSource, locate, read_json
from icl_local.dpo.data import Preferences, load_preferences, load_tokenizer, paper_tokens
from icl_local.dpo.parameters import Parameters, Step, TrainingPlan, parameters
from icl_local.exceptions import DiskFull, TrainingError, needs_extra
from icl_local.files import NO_SPACE, result_at, write_file
from icl_local.identity import key_of
from icl_local.operating_system import locked
from icl_local.store import Store, now

RECORD = "training.json"
LOCK = ".lock"  # held by the process that trains
_STATE_FILE = "trainer_state.json"  # the last file Transformers writes into a checkpoint
_PLAN_SAMPLE = 200  # pairs whose length is measured


@dataclass(frozen=True)
class TrainingRun:
    """The result of ``train``: status ``done`` (the model is in ``folder``) or ``stopped`` (call again)."""

    training_run_id: str
    folder: Path
    status: str
    step: int
    total_steps: int
    checkpoint_sha256: str | None


def prepare(
    *,
    base: str,
    dataset: str,
    out: Path,
    preset: str | None = None,
    config: Path | None = None,
    split: str | None = None,
    limit: int | None = None,
    identical: str | None = None,
    threads: int | None = None,
    on_progress: Callable[[str], None] = lambda text: None,
    **changes: Any,
) -> tuple[ModelSource, Preferences, Path, Parameters]:
    """Read parameters and preferences and locate the base, as `icl dpo` does; pass ``train`` all that is returned.

    ``base``: a checkpoint folder, owner/name of the hub, or a .gguf file, which is unpacked into a folder of out/base.
    ``changes`` are fields of Parameters. ``threads``: CPU threads of torch. Raises ConfigError, InputError,
    ConversionError, HubError, DiskFull, MissingExtra.
    """
    settings = parameters(preset, config, **changes)
    preferences = load_preferences(dataset, split=split, limit=limit, identical=identical)
    found = locate(base, work=out / "base", on_progress=on_progress)
    if threads:
        with needs_extra("dpo"):
            import torch
        torch.set_num_threads(threads)  # more than the free cores makes every step slower
    return found, preferences, out, settings


def plan_training(base: ModelSource, preferences: Preferences, out: Path, settings: Parameters) -> TrainingPlan:
    """Estimate memory, disk and time of a run on this machine; nothing is loaded or written. Raises TrainingError."""
    checkpoint, tokenizer = _opened(base, preferences, settings)
    lengths = []
    for pair in preferences.pairs[:: max(1, len(preferences.pairs) // _PLAN_SAMPLE)]:
        ids = paper_tokens(pair, tokenizer, max_prompt_length=settings.max_prompt_length)
        lengths.append(2 * len(ids["prompt_ids"]) + len(ids["chosen_ids"]) + len(ids["rejected_ids"]))
    return TrainingPlan(checkpoint, lengths, len(preferences.pairs), settings, out=out)


def train(
    base: ModelSource,
    preferences: Preferences,
    out: Path,
    settings: Parameters,
    *,
    save_every: int = 100,
    stop_after: int | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    store: Store,
    on_step: Callable[[Step], None] = lambda step: None,
    on_progress: Callable[[str], None] = lambda text: None,
) -> TrainingRun:
    """Train the checkpoint ``base`` on the pairs and write the trained checkpoint into ``out``.

    A checkpoint is written every ``save_every`` steps, after step ``stop_after`` and when ``should_stop`` returns
    True; the last two end the call. A run resumes from its own checkpoints only. LoRA adapters are merged into the
    result; the adapter itself is kept in out/adapter.

    Raises TrainingError for a base that cannot be trained, a loss that is not a number, a folder of another run and one
    in which another process trains, ConfigError for a folder that cannot be written, DiskFull, MissingExtra.
    """
    checkpoint, tokenizer = _opened(base, preferences, settings, on_progress)
    from icl_local.dpo.trainer import Watch, make_trainer

    record: dict[str, Any] = {
        "training_run_id": key_of(
            kind="training", base=checkpoint.sha256, data=preferences.sha256, parameters=asdict(settings)
        ),
        "base_name": base.name,
        "base_source": base.source,
        "base_sha256": checkpoint.sha256,
        "dataset": preferences.name,
        "dataset_sha256": preferences.sha256,
        "parameters": asdict(settings),
    }
    run_id = str(record["training_run_id"])
    # TRL and Transformers warn of the paper's truncation, among others
    quiet = warnings.catch_warnings(action="ignore", category=FutureWarning)
    with _claimed(out, record) as record, _errors(out), quiet:
        row = {key: value for key, value in record.items() if key not in ("base_name", "steps")}
        row |= {"preset": settings.preset, "method": settings.method}
        if (out / "config.json").is_file():
            return _done(row, out, int(record["steps"]), store)
        store.put([("training_runs", {**row, "status": "started"})])
        on_progress("loading the model and the pairs")
        trainer = make_trainer(
            checkpoint,
            tokenizer,
            preferences.pairs,
            out / "checkpoints",
            settings,
            watcher=Watch(run_id, store, on_step, stop_after, should_stop),
            save_every=save_every,
        )
        step, total, last = _last_checkpoint(out / "checkpoints") or (0, 1, None)
        if step < total:
            on_progress(f"resuming from {last.name}" if last else "training")
            trainer.train(resume_from_checkpoint=str(last) if last else None)
            step, total = trainer.state.global_step, trainer.state.max_steps
        else:  # killed after its last step: Trainer would train one more
            trainer._load_from_checkpoint(str(last))
        if step < total:
            return TrainingRun(run_id, out, "stopped", step, total, None)
        on_progress("saving the model")
        _finish(trainer, checkpoint, out, {**record, "steps": step})
        return _done(row, out, step, store)


def _done(row: Mapping[str, Any], out: Path, steps: int, store: Store) -> TrainingRun:
    digest = Checkpoint(out).sha256
    store.put([("training_runs", {**row, "status": "done", "checkpoint_sha256": digest, "ended_at": now()})])
    shutil.rmtree(out / "checkpoints", ignore_errors=True)
    return TrainingRun(str(row["training_run_id"]), out, "done", steps, steps, digest)


def _opened(
    base: ModelSource,
    preferences: Preferences,
    settings: Parameters,
    on_progress: Callable[[str], None] = lambda text: None,
) -> tuple[Checkpoint, Any]:
    """Return the base and its tokenizer. Raises TrainingError if today's TRL cannot render the pairs, MissingExtra."""
    with needs_extra("dpo"):
        for package in ("torch", "transformers", "trl", "datasets", "accelerate", "peft"):
            importlib.import_module(package)
    on_progress("reading the base model")
    checkpoint = Checkpoint(base.folder)
    tokenizer = load_tokenizer(checkpoint.tokenizer_folder)
    needs_template = settings.preset != "paper" and not all(isinstance(pair.chosen, str) for pair in preferences.pairs)
    if needs_template and not tokenizer.chat_template:
        raise TrainingError(
            f"{base.name} has no chat template, which the preset trl-default needs for conversations;"
            " use --preset paper, or put a chat_template.jinja into the base folder"
        )
    return checkpoint, tokenizer


@contextmanager
def _claimed(out: Path, record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Hold ``out`` for this run alone and yield its record; a run that never saved a checkpoint is replaced."""
    if out.exists() and (not out.is_dir() or (not (out / RECORD).is_file() and any(map(_is_foreign, out.iterdir())))):
        raise TrainingError(f"{out} exists and is not a training run of icl; choose another place with -o")
    with ExitStack() as held:
        with result_at(out):
            out.mkdir(parents=True, exist_ok=True)
            try:
                held.enter_context(locked(out / LOCK, wait=False))
            except TimeoutError:
                raise TrainingError(
                    f"another process trains in {out}; wait until it ends, or choose another place with -o"
                ) from None
            found = read_json(out / RECORD) if (out / RECORD).is_file() else {}
            if found.get("training_run_id") != record["training_run_id"]:
                if (out / "config.json").is_file() or _last_checkpoint(out / "checkpoints"):
                    raise TrainingError(
                        f"{out} holds another run (its base, data or parameters differ); choose another place with -o"
                    )
                found = {**record, "started_at": now()}
                write_file(out / RECORD, _as_json(found))
        yield found


def _is_foreign(path: Path) -> bool:
    """Return whether a file is none of those that are in the folder of a run before its record is."""
    return path.name not in ("base", LOCK) and not path.name.startswith(f".{RECORD}.")


def _as_json(data: Mapping[str, Any]) -> str:
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"


def _last_checkpoint(folder: Path) -> tuple[int, int, Path] | None:
    """Return the steps of the newest whole checkpoint and of the whole run, and its folder; remove incomplete ones."""
    found = []
    for path in folder.glob("checkpoint-*"):
        try:
            state = json.loads((path / _STATE_FILE).read_text(encoding="utf-8"))
            found.append((int(state["global_step"]), int(state["max_steps"]), path))
        except (OSError, ValueError, KeyError, TypeError):
            shutil.rmtree(path, ignore_errors=True)
    return max(found, default=None)


def _finish(trainer: Any, base: Checkpoint, out: Path, record: Mapping[str, Any]) -> None:
    """Write the trained model into ``out``: everything under a hidden name first, config.json last."""
    draft = out / ".model.partial"
    shutil.rmtree(draft, ignore_errors=True)
    model = trainer.accelerator.unwrap_model(trainer.model)
    if hasattr(model, "merge_and_unload"):
        model.save_pretrained(draft / "adapter")
        model = model.merge_and_unload()
    model.config.pad_token_id = base.config_json.get("pad_token_id")  # the trainer has set the tokenizer's
    model.save_pretrained(draft, safe_serialization=True)
    # The tokenizer is not trained, and Transformers would write another one: the base's own files are kept.
    for path in base.tokenizer_files:
        shutil.copyfile(path, draft / path.name)
    (draft / RECORD).write_text(_as_json(record), encoding="utf-8")
    for path in sorted(draft.iterdir(), key=lambda p: p.name == "config.json"):
        if path.is_dir():
            shutil.rmtree(out / path.name, ignore_errors=True)
        os.replace(path, out / path.name)
    draft.rmdir()


@contextmanager
def _errors(out: Path) -> Iterator[None]:
    """Raise exceptions of the disk and of torch as IclErrors; remove incomplete files."""
    try:
        yield
    except Exception as error:
        # the last one is imported only with the extra
        if not isinstance(error, OSError | RuntimeError | ValueError) and type(error).__name__ != "SafetensorError":
            raise
        if out.is_dir():
            shutil.rmtree(out / ".model.partial", ignore_errors=True)
            _last_checkpoint(out / "checkpoints")
        # torch and safetensors report a full disk as text only
        words = ("No space left", "File too large", "PytorchStreamWriter failed", "unexpected pos")
        if getattr(error, "errno", None) in NO_SPACE or any(word in str(error) for word in words):
            kept = "the last whole checkpoint is kept: free some space, then run the same command"
            raise DiskFull(f"no space left for {out}; {kept}") from error
        raise TrainingError(f"training stopped: {error}") from error
