"""Parameters of a DPO run with their presets, and an estimate of its memory, disk and hours before it starts."""

import math
import shutil
import timeit
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icl_local import toml_file
from icl_local.convert import Checkpoint
from icl_local.engine import available_memory
from icl_local.exceptions import ConfigError
from icl_local.wording import counted

_CHOICES = {
    "preset": ("paper", "trl-default"),
    "loss_type": ("sigmoid", "hinge", "ipo", "robust", "sppo_hard", "apo_zero", "apo_down", "sigmoid_norm"),
    "truncation": ("keep_end", "keep_start"),
}
# Share of the measured matrix product speed that a DPO step reaches; docs/measurements.md has the runs it comes from.
STEP_EFFICIENCY = 0.65


@dataclass(frozen=True)
class Parameters:
    """Parameters that change the result. Lengths in tokens; batch_size in pairs on one device."""

    preset: str = "paper"
    learning_rate: float = 5e-7
    epochs: float = 1.0
    max_steps: int | None = None  # None: as many as the epochs have
    batch_size: int = 2
    gradient_accumulation: int = 8
    beta: float = 0.1
    loss_type: str = "sigmoid"
    max_length: int = 1024
    max_prompt_length: int | None = 512
    truncation: str = "keep_end"
    optimizer: str = "adamw_torch"
    schedule: str = "linear"
    warmup_steps: int = 0
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    seed: int = 42
    gradient_checkpointing: bool = True
    bf16: bool = False
    precompute_reference: bool = False
    lora_rank: int | None = None  # None: all weights are trained
    lora_alpha: int = 32
    lora_dropout: float = 0.05
    lora_targets: str = "all-linear"

    @property
    def method(self) -> str:
        """Return full or lora."""
        return "full" if self.lora_rank is None else "lora"

    @property
    def has_reference_model(self) -> bool:
        """Return whether a second copy of the weights stays in memory: LoRA switches its adapter off instead."""
        return self.method == "full" and not self.precompute_reference


class Step:
    """One finished optimizer step, by the trainer's state and log. Rewards are beta times log-ratios.

    ``seconds`` are wall time.
    """

    def __init__(self, state: Any, logs: Mapping[str, float], *, tokens: int, seconds: float) -> None:
        self.step: int = state.global_step
        self.total_steps: int = state.max_steps
        self.epoch = float(logs["epoch"])
        self.loss = float(logs["loss"])
        self.reward_chosen = float(logs["rewards/chosen"])
        self.reward_rejected = float(logs["rewards/rejected"])
        self.reward_margin = float(logs["rewards/margins"])
        self.reward_accuracy = float(logs["rewards/accuracies"])
        self.learning_rate = float(logs["learning_rate"])
        self.grad_norm = float(logs["grad_norm"])
        self.tokens, self.seconds = tokens, seconds


_TRL_DEFAULT: Mapping[str, Any] = {  # DPOConfig of TRL 1.16, but bf16 only on request
    "learning_rate": 1e-6,
    "epochs": 3.0,
    "batch_size": 8,
    "gradient_accumulation": 1,
    "max_prompt_length": None,
    "truncation": "keep_start",
    "optimizer": "adamw_torch_fused",
}
_AT_LEAST = {
    "learning_rate": 0.0, "epochs": 0.0, "max_steps": 0, "batch_size": 0, "gradient_accumulation": 0, "beta": 0.0,
    "max_length": 1, "max_prompt_length": 0, "lora_rank": 0, "lora_alpha": 0,
}  # fmt: skip


def parameters(preset: str | None = None, file: Path | None = None, **changes: Any) -> Parameters:
    """Return a preset (paper by default) with the values of a TOML ``file`` and then of ``changes``, except None.

    The file's keys are the fields of Parameters. Raises ConfigError for an unknown key or a value out of range.
    """
    given = toml_file.check(Parameters, toml_file.load(file), str(file)) if file else {}
    given |= {key: value for key, value in {"preset": preset, **changes}.items() if value is not None}
    made = Parameters(**{**(_TRL_DEFAULT if given.get("preset") == "trl-default" else {}), **given})
    for key, known in _CHOICES.items():
        if (name := getattr(made, key)) not in known:
            raise ConfigError(f"unknown {key} {name!r}; choose one of {', '.join(known)}")
    for key, bound in _AT_LEAST.items():
        value = getattr(made, key)
        if value is not None and not value > bound:
            raise ConfigError(f"{key} must be above {bound:g}, it is {value}")
    return made


class TrainingPlan:
    """The estimated cost of a run on this machine: bytes, steps and seconds; ``memory`` by part.

    ``pair_tokens``: tokens of some pairs (prompt and answer, twice), ``mean_tokens`` their mean. The speed comes from
    timing one matrix product of the model's size for about half a second.
    """

    def __init__(
        self, checkpoint: Checkpoint, pair_tokens: Sequence[int], n_pairs: int, settings: Parameters, *, out: Path
    ) -> None:
        import torch

        config, lora = checkpoint.config, settings.lora_rank
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        self.device = f"cpu, {counted(torch.get_num_threads(), 'thread')}" if device == "cpu" else device
        self.n_parameters = total = checkpoint.parameters
        self.n_trained = total if lora is None else lora_parameters(checkpoint, lora)
        self.n_pairs = n_pairs
        epoch_steps = math.ceil(math.ceil(n_pairs / settings.batch_size) / settings.gradient_accumulation)
        self.n_steps = settings.max_steps or math.ceil(epoch_steps * settings.epochs)
        self.mean_tokens = sum(min(n, 2 * settings.max_length) for n in pair_tokens) / len(pair_tokens)
        self.memory = _memory(config, total, self.n_trained, settings)
        self.available_bytes = int(torch.cuda.mem_get_info()[0]) if device == "cuda" else available_memory()
        self.disk_bytes = 4 * total + 2 * (12 * self.n_trained) + (4 * total if lora is None else 0)
        existing = next(folder for folder in (out, *out.resolve().parents) if folder.exists())
        self.free_disk_bytes = shutil.disk_usage(existing).free
        self.flops_per_second = _matmul_flops(config, device=device, bf16=settings.bf16)
        # a forward pass costs 2 operations a weight and token, a backward pass twice that
        passes = 2 + 4 * (1 if lora is None else 0.5) + (2 if settings.gradient_checkpointing else 0) + 2
        pairs = min(n_pairs * settings.epochs, self.n_steps * settings.batch_size * settings.gradient_accumulation)
        self.seconds = passes * total * self.mean_tokens * pairs / (self.flops_per_second * STEP_EFFICIENCY)

    def rows(self) -> list[tuple[str, str]]:
        """Return what is estimated and the estimate, for people."""
        advice = "; too much: try --lora-rank or --precompute-reference"
        needed = sum(self.memory.values())
        memory = f"{needed / 1e9:.1f} GB of {self.available_bytes / 1e9:.1f} GB"
        memory += advice if needed > self.available_bytes else ""
        return [
            ("device", self.device),
            ("weights", f"{self.n_parameters:,}, {self.n_trained:,} trained"),
            ("pairs", f"{self.n_pairs:,} of {self.mean_tokens:.0f} tokens (both answers)"),
            ("steps", f"{self.n_steps:,}"),
            *((f"memory: {name}", f"{size / 1e9:.1f} GB") for name, size in self.memory.items() if size),
            ("memory in all", memory),
            ("disk", f"{self.disk_bytes / 1e9:.1f} GB of {self.free_disk_bytes / 1e9:.1f} GB"),
            ("speed", f"{self.flops_per_second / 1e9:.0f} GFLOP/s measured"),
            ("time", _in_words(self.seconds)),
        ]


def _in_words(seconds: float) -> str:
    """Return a rough time in words, one second at least."""
    if seconds > 7200:
        return f"{seconds / 3600:.1f} hours"
    return f"{seconds / 60:.0f} minutes" if seconds > 120 else counted(math.ceil(seconds), "second")


def lora_parameters(checkpoint: Checkpoint, rank: int) -> int:
    """Return the number of weights of a LoRA adapter on all linear layers but the head."""
    layers = {name: shape for name, shape in checkpoint.shapes.items() if "embed" not in name and "head" not in name}
    return rank * sum(sum(shape) for shape in layers.values() if len(shape) == 2)


def _memory(config: Any, total: int, trained: int, settings: Parameters) -> dict[str, int]:
    """Return bytes in float32: weights, reference, gradients, Adam's two moments, activations of the longest batch."""
    tokens = 2 * settings.batch_size * settings.max_length
    layer = tokens * (8 * config.hidden_size + 4 * config.intermediate_size) * 4
    kept = tokens * config.hidden_size * 4 * config.num_hidden_layers + layer
    activations = kept if settings.gradient_checkpointing else layer * config.num_hidden_layers
    return {
        "weights": 4 * total,
        "reference model": 4 * total if settings.has_reference_model else 0,
        "gradients": 4 * trained,
        "optimizer": 8 * trained,
        "activations": activations,
        "logits": 3 * 4 * config.vocab_size * min(tokens, 1024),
    }


def _matmul_flops(config: Any, *, device: str, bf16: bool) -> float:
    """Return operations per second of a product as large as the model's feed-forward layer, for 512 tokens."""
    import torch

    kind = torch.bfloat16 if bf16 else torch.float32
    width, inner = int(config.hidden_size), int(config.intermediate_size)
    a = torch.randn(512, width, dtype=kind, device=device)
    b = torch.randn(width, inner, dtype=kind, device=device)
    timer = timeit.Timer(lambda: (a @ b).sum().item())
    timer.timeit(1)  # the first product also loads the library
    number, _ = timer.autorange()  # as many as take 0.2 s
    return 2.0 * 512 * width * inner * number / timer.timeit(number)
