"""Parameters of a DPO run: presets, files, options, ranges, and the plan."""

from __future__ import annotations

import re
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from icl_local import dpo
from icl_local.cli.study import dpo_ as command
from icl_local.convert.checkpoint import Checkpoint
from icl_local.convert.model_source import ModelSource
from icl_local.dpo.data import load_preferences
from icl_local.dpo.parameters import _matmul_flops, parameters
from icl_local.exceptions import ConfigError

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def test_presets() -> None:
    paper, today = parameters(), parameters("trl-default")
    assert (paper.learning_rate, paper.epochs, paper.batch_size, paper.gradient_accumulation) == (5e-7, 1, 2, 8)
    assert (paper.beta, paper.max_length, paper.max_prompt_length, paper.truncation) == (0.1, 1024, 512, "keep_end")
    assert paper.gradient_checkpointing
    assert not paper.bf16
    from trl import DPOConfig

    theirs = DPOConfig(output_dir="unused", bf16=False, use_cpu=True)
    assert today.learning_rate == theirs.learning_rate
    assert today.epochs == theirs.num_train_epochs
    assert today.batch_size == theirs.per_device_train_batch_size
    assert today.gradient_accumulation == theirs.gradient_accumulation_steps
    assert (today.truncation, today.max_length) == (theirs.truncation_mode, theirs.max_length)
    assert (today.beta, today.seed, today.optimizer) == (theirs.beta, theirs.seed, theirs.optim)


def test_parameters_from_a_file_yield_to_options(tmp_path: Path) -> None:
    file = tmp_path / "dpo.toml"
    file.write_text('preset = "trl-default"\nbeta = 0.2\nmax_length = 300\nlearning_rate = 1\n')
    found = parameters(None, file, max_length=200, lora_rank=None)
    assert (found.preset, found.beta, found.max_length, found.learning_rate) == ("trl-default", 0.2, 200, 1)
    assert found.truncation == "keep_start"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preset": "best"}, "best"),
        ({"batch_size": 0}, "batch_size must be above 0"),
        ({"truncation": "middle"}, "middle"),
        ({"loss_type": "mse"}, "mse"),
    ],
)
def test_parameters_out_of_range_are_errors(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parameters(**changes)


@pytest.mark.parametrize(
    ("text", "message"), [("betta = 1", "betta"), ("beta = 'a'", "beta must be a number"), ("=", "TOML")]
)
def test_an_error_in_a_parameter_file_names_the_key(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "dpo.toml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        parameters(None, tmp_path / "dpo.toml")


def test_plan_counts_steps_memory_and_disk_without_writing(base: ModelSource, pairs_file: Path, tmp_path: Path) -> None:
    preferences = load_preferences(str(pairs_file))
    full = dpo.plan_training(base, preferences, tmp_path / "out", parameters(gradient_accumulation=2))
    assert full.n_steps == 2  # 8 pairs, 4 a step
    assert full.n_trained == full.n_parameters == Checkpoint(base.folder).parameters
    assert full.memory["reference model"] == full.memory["weights"] == 4 * full.n_parameters
    assert full.memory["optimizer"] == 8 * full.n_parameters
    first = dpo.plan_training(base, preferences, tmp_path / "out", parameters(precompute_reference=True))
    assert first.memory["reference model"] == 0
    small = dpo.plan_training(base, preferences, tmp_path / "out", parameters(lora_rank=2))
    assert small.n_trained < small.n_parameters / 2
    assert small.memory["reference model"] == 0
    assert full.seconds > 0
    assert not (tmp_path / "out").exists()
    result = CliRunner().invoke(
        command, ["--base", str(base.folder), "--dataset", str(pairs_file), "--out", str(tmp_path / "out"), "--plan"]
    )
    assert result.exit_code == 0
    assert "memory in all" in result.stdout
    assert re.search(r"time +[1-9]\d* seconds?\b", result.stdout)
    assert not (tmp_path / "out").exists()


def test_every_parameter_is_an_option() -> None:
    import dataclasses

    from icl_local.dpo.parameters import Parameters

    options = {parameter.name for parameter in command.params}
    assert {field.name for field in dataclasses.fields(Parameters)} <= options


def test_a_slow_first_product_does_not_end_the_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    calls: list[float] = []

    class Matrix:
        def __matmul__(self, other: object) -> torch.Tensor:
            time.sleep(0.01 if calls else 0.25)
            calls.append(0)
            return torch.zeros(1)

    monkeypatch.setattr(torch, "randn", lambda *shape, **kind: Matrix())
    _matmul_flops(SimpleNamespace(hidden_size=2, intermediate_size=2), device="cpu", bf16=False)
    assert len(calls) > 10
