"""Checkpoints on disk: shapes, tensors in row blocks, LoRA adapters; what is not known is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from icl_local.convert import checkpoint as checkpoint_module
from icl_local.convert.checkpoint import BLOCK_BYTES, Checkpoint, TensorPlan, permute
from icl_local.convert.convert import convert
from icl_local.exceptions import ConversionError
from tests.tiny_checkpoint import build_checkpoint, write_safetensors

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"architectures": ["MistralForCausalLM"]}, "MistralForCausalLM"),
        ({"attention_bias": True}, "attention_bias"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantization_config"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, "rope scaling 'yarn'"),
        ({"vocab_size": 100}, "shape"),
        ({"num_hidden_layers": 3}, "missing"),
        ({"num_hidden_layers": 1}, "not part of a plain Llama"),
    ],
)
def test_unknown_architecture_is_refused_by_name(tmp_path: Path, config: dict[str, Any], message: str) -> None:
    folder = build_checkpoint(tmp_path / "model", **config)
    with pytest.raises(ConversionError, match=message):
        convert(folder, tmp_path / "model.gguf")
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_broken_weights_are_refused(tmp_path: Path) -> None:
    folder = build_checkpoint(tmp_path / "model")
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-1000])
    with pytest.raises(ConversionError, match="truncated"):
        convert(folder, tmp_path / "model.gguf")
    (folder / "model.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(ConversionError, match="damaged"):
        convert(folder, tmp_path / "model.gguf")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ConversionError, match="never read"):
        convert(folder, tmp_path / "model.gguf")


def test_adapter_that_cannot_be_merged_is_refused_by_name(tmp_path: Path) -> None:
    base = build_checkpoint(tmp_path / "base")
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    config = {"peft_type": "LORA", "base_model_name_or_path": str(base), "r": 2, "lora_alpha": 4}
    down, up = np.ones((2, 32), np.float32), np.ones((32, 2), np.float32)
    name = "base_model.model.model.layers.0.self_attn.q_proj"
    write_safetensors(
        adapter / "adapter_model.safetensors", {f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up}
    )
    for change, message in (
        ({"peft_type": "IA3"}, "IA3"),
        ({"use_dora": True}, "use_dora"),
        ({"bias": "all"}, "bias"),
        ({"base_model_name_or_path": "/nowhere"}, "base model"),
    ):
        (adapter / "adapter_config.json").write_text(json.dumps(config | change))
        with pytest.raises(ConversionError, match=message):
            Checkpoint(adapter)
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    opened = Checkpoint(adapter)
    plan = next(p for p in opened.plans if p.name == "blk.0.attn_q.weight")
    added = next(opened.blocks(plan)) - next(Checkpoint(base).blocks(plan))
    np.testing.assert_allclose(added, 4.0, atol=1e-5)  # alpha / r * (1 1) (1 1)' = 2 * 2


def test_permutation_pairs_rows_half_a_head_apart() -> None:
    rows = np.arange(8, dtype=np.float32)[:, None]  # two heads of four
    assert permute(rows, 2)[:, 0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


def test_blocks_join_to_the_tensor_and_stay_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Checkpoint(build_checkpoint(tmp_path / "model"))
    whole = {plan.name: next(iter(opened.blocks(plan))) for plan in opened.plans}
    monkeypatch.setattr(checkpoint_module, "BLOCK_BYTES", 2048)
    for plan in opened.plans:
        blocks = list(opened.blocks(plan))
        assert np.array_equal(np.concatenate(blocks), whole[plan.name])
        assert max(block.nbytes for block in blocks) <= 2048
    assert any(len(list(opened.blocks(plan))) > 4 for plan in opened.plans)
    assert BLOCK_BYTES == 64 << 20


def test_tensor_plan_of_a_tied_model_has_no_output(tmp_path: Path) -> None:
    names = {plan.name for plan in Checkpoint(build_checkpoint(tmp_path / "tied")).plans}
    assert "output.weight" not in names
    opened = Checkpoint(build_checkpoint(tmp_path / "untied", tied=False))
    assert TensorPlan("output.weight", "lm_head.weight", (opened.shape.vocab_size, 32)) in opened.plans
