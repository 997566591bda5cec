"""Set up TRL's DPO trainer: with this package's tokens and batches for preset ``paper``, unchanged otherwise.

Importing this module loads torch and TRL: only what needs the extra ``dpo`` does.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, disable_progress_bars
from peft import LoraConfig
from transformers import PrinterCallback, Trainer, TrainerCallback
from trl import DPOConfig, DPOTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference

from icl_local.convert import Checkpoint
from icl_local.dpo.data import Pair, paper_tokens, token_dataset
from icl_local.dpo.parameters import Parameters, Step
from icl_local.exceptions import TrainingError
from icl_local.store import Store

# fields of Parameters that TRL gives the same name
_SAME_NAMES = (
    "learning_rate", "beta", "max_length", "warmup_steps", "weight_decay", "max_grad_norm", "seed",
    "gradient_checkpointing", "bf16",
)  # fmt: skip


@dataclass
class Watch(TrainerCallback):  # type: ignore[misc]
    """Between steps: store rows, report progress, decide whether to stop."""

    run_id: str
    store: Store
    on_step: Callable[[Step], None]
    stop_after: int | None
    should_stop: Callable[[], bool]
    _began: float = 0.0
    _tokens: int = 0

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._began = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        reached = self.stop_after is not None and state.global_step >= self.stop_after
        if reached or self.should_stop():
            control.should_save = control.should_training_stop = True

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **_: Any) -> None:
        if "loss" not in logs:
            return
        tokens = int(logs["num_tokens"])  # of this process so far
        made = Step(state, logs, tokens=tokens - self._tokens, seconds=time.monotonic() - self._began)
        self._tokens = tokens
        if not math.isfinite(made.loss) or not math.isfinite(made.grad_norm):
            at = f"at step {made.step} (gradient norm {made.grad_norm})"
            raise TrainingError(f"the loss is {made.loss} {at}; use a lower learning rate")
        row = {key: value for key, value in vars(made).items() if key != "total_steps"}
        self.store.put([("training_steps", {"training_run_id": self.run_id, **row})])
        self.on_step(made)


class OwnTrainer(DPOTrainer):  # type: ignore[misc]
    """TRL's trainer, which takes rows that are tokens already as they are, and writes no model card."""

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset if "prompt_ids" in dataset.column_names else super()._prepare_dataset(dataset, *args, **kwargs)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        Trainer._save_checkpoint(self, model, trial)


def paper_collator(pad_token_id: int, settings: Parameters) -> Any:
    """Return a function that makes batches [2 * n_pairs, n_tokens], chosen first, padded on the right.

    TRL of that time truncated the padded batch, not each row: with keep_end, a row shorter than the longest loses
    tokens at its start as well. Reference log-probabilities computed beforehand do not depend on the other rows: then
    each row is truncated by itself, as today.
    """
    length = settings.max_length
    if settings.precompute_reference:
        return DataCollatorForPreference(pad_token_id, max_length=length, truncation_mode=settings.truncation)
    padded = DataCollatorForPreference(pad_token_id)
    cut = slice(-length, None) if settings.truncation == "keep_end" else slice(None, length)
    return lambda rows: {key: tensor[:, cut] for key, tensor in padded(rows).items()}


def make_trainer(
    base: Checkpoint,
    tokenizer: Any,
    pairs: Sequence[Pair],
    checkpoints: Path,
    settings: Parameters,
    *,
    watcher: Watch,
    save_every: int,
) -> Any:
    """Return a trainer that writes its checkpoints to ``checkpoints``."""
    disable_progress_bars()
    collator = None
    if settings.preset == "paper":
        length = settings.max_prompt_length
        data = token_dataset(paper_tokens(pair, tokenizer, max_prompt_length=length) for pair in pairs)
        collator = paper_collator(tokenizer.pad_token_id, settings)
    else:
        data = Dataset.from_list([asdict(pair) for pair in pairs])
    adapter = None
    if settings.lora_rank is not None:
        adapter = LoraConfig(
            r=settings.lora_rank,
            lora_alpha=settings.lora_alpha,
            lora_dropout=settings.lora_dropout,
            target_modules=settings.lora_targets,
            task_type="CAUSAL_LM",
        )
    trainer = OwnTrainer(
        model=base.model(),
        ref_model=base.model() if settings.has_reference_model else None,
        args=_config(checkpoints, settings, save_every=save_every),
        data_collator=collator,
        train_dataset=data,
        processing_class=tokenizer,
        peft_config=adapter,
        callbacks=[watcher],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _config(folder: Path, settings: Parameters, *, save_every: int) -> Any:
    cuda = torch.cuda.is_available()
    if settings.bf16 and cuda and not torch.cuda.is_bf16_supported():
        raise TrainingError("this GPU has no bf16; train without --bf16")
    return DPOConfig(
        output_dir=str(folder),
        **{name: getattr(settings, name) for name in _SAME_NAMES},
        num_train_epochs=settings.epochs,
        max_steps=settings.max_steps or -1,
        per_device_train_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.gradient_accumulation,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        loss_type=[settings.loss_type],
        truncation_mode=settings.truncation,
        optim=settings.optimizer,
        lr_scheduler_type=settings.schedule,
        precompute_ref_log_probs=settings.precompute_reference,
        dataloader_pin_memory=cuda,
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=save_every,
        save_total_limit=1,
        report_to="none",
        disable_tqdm=True,
    )
