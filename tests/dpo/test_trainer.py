"""The trainer: the loss of the definition, today's TRL, and what it refuses."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

from icl_local.convert.checkpoint import Checkpoint
from icl_local.convert.model_source import ModelSource
from icl_local.dpo.data import load_preferences, load_tokenizer, paper_tokens
from icl_local.dpo.parameters import parameters
from icl_local.exceptions import TrainingError
from tests.dpo.inputs import tiny_run
from tests.unstored import train

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def test_loss_and_gradients_are_those_of_the_definition(base: ModelSource, pairs_file: Path, tmp_path: Path) -> None:
    """Against Rafailov et al. (2023), eq. 7, sequence by sequence, without padding or batching."""
    import torch
    import torch.nn.functional as F
    from transformers import TrainerCallback

    from icl_local.dpo.trainer import make_trainer

    settings = tiny_run()
    preferences = load_preferences(str(pairs_file))
    checkpoint, tokenizer = Checkpoint(base.folder), load_tokenizer(base.folder)
    with warnings.catch_warnings(action="ignore", category=FutureWarning):
        trainer = make_trainer(
            checkpoint, tokenizer, preferences.pairs, tmp_path, settings, watcher=TrainerCallback(), save_every=100
        )
    policy, plain, reference = trainer.model, checkpoint.model(), checkpoint.model()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for ours, theirs in zip(plain.parameters(), policy.parameters(), strict=True):
            ours += 0.05 * torch.randn(ours.shape, generator=generator)
            theirs.copy_(ours)

    def log_probability(model: Any, prompt: list[int], answer: list[int]) -> torch.Tensor:
        logits = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
        return F.log_softmax(logits, dim=-1).gather(1, torch.tensor(answer)[:, None]).sum()

    rows = [paper_tokens(pair, tokenizer, max_prompt_length=512) for pair in preferences.pairs]
    for first in (0, 2):
        batch = rows[first : first + 2]
        losses = []
        for row in batch:
            ratios = [
                log_probability(plain, row["prompt_ids"], row[key])
                - log_probability(reference, row["prompt_ids"], row[key]).detach()
                for key in ("chosen_ids", "rejected_ids")
            ]
            losses.append(-F.logsigmoid(settings.beta * (ratios[0] - ratios[1])))
        expected = torch.stack(losses).mean()
        plain.zero_grad()
        expected.backward()
        policy.zero_grad()
        policy.train()
        loss = trainer.compute_loss(policy, trainer.data_collator(batch))
        loss.backward()
        assert abs(expected.item() - 0.6931) > 0.01  # the models differ, so there is something to compare
        torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
        for (name, ours), theirs in zip(plain.named_parameters(), policy.parameters(), strict=True):
            torch.testing.assert_close(theirs.grad, ours.grad, rtol=1e-4, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")


def test_preset_of_today_needs_a_chat_template(base: ModelSource, pairs_file: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no chat template"):
        train(base, load_preferences(str(pairs_file)), tmp_path / "out", parameters("trl-default"))
    assert not (tmp_path / "out").exists()
