"""Checkpoints on disk: what cannot be converted is refused by name; adapters are merged."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import transformers
from safetensors.numpy import load_file, save_file

from icl_local.convert import checkpoint as checkpoint_module
from icl_local.convert.checkpoint import Checkpoint, merge_adapter, tokenizer_of
from icl_local.convert.tensors import interleaved
from icl_local.exceptions import ConversionError, MissingExtra
from tests.tiny_checkpoint import build_checkpoint, write_safetensors
from tests.unstored import convert

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"architectures": ["NeverForCausalLM"], "model_type": "never"}, "Transformers does not load it.*never"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantised"),
        ({"vocab_size": 100}, "does not have the shape"),
        ({"num_hidden_layers": 3}, "is missing"),
        ({"num_hidden_layers": 1}, "not part of the model"),
    ],
)
def test_a_checkpoint_that_is_not_what_its_config_says_is_refused(
    tmp_path: Path, config: dict[str, Any], message: str
) -> None:
    folder = build_checkpoint(tmp_path / "model", **config)
    with pytest.raises(ConversionError, match=message):
        convert(folder, tmp_path / "model.gguf")
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_broken_weights_are_refused(tmp_path: Path) -> None:
    folder = build_checkpoint(tmp_path / "model")
    whole = (folder / "model.safetensors").read_bytes()
    for damaged in (whole[:-1000], b"\xff" * 64):
        (folder / "model.safetensors").write_bytes(damaged)
        with pytest.raises(ConversionError, match="damaged or truncated"):
            convert(folder, tmp_path / "model.gguf")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ConversionError, match="never read"):
        convert(folder, tmp_path / "model.gguf")


def test_buffers_of_older_checkpoints_are_not_weights(tmp_path: Path) -> None:
    folder = build_checkpoint(tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.ones(4, dtype=np.int64)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    assert convert(folder, tmp_path / "model.gguf", memory_bytes=0).row["gate"] == "passed"


@pytest.mark.parametrize(("error", "reason"), [
    (ImportError("No module named 'google.protobuf'", name="google.protobuf"), "google.protobuf is not installed"),
    (ImportError("\nT5 requires the SentencePiece library but it was not found.\nSee its site\n"),
     "T5 requires the SentencePiece library but it was not found."),
])  # fmt: skip
def test_a_package_that_transformers_lacks_is_named_instead_of_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: ImportError, reason: str
) -> None:
    folder = build_checkpoint(tmp_path / "model")
    monkeypatch.setattr(transformers.PreTrainedTokenizerFast, "from_pretrained", Mock(side_effect=error))
    with pytest.raises(ConversionError, match=f"Transformers cannot load the tokenizer: {reason}$"):
        tokenizer_of(folder)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtra, match=r"icl-local\[convert\]"):
        tokenizer_of(folder)


def test_an_adapter_is_merged_into_its_base(tmp_path: Path) -> None:
    base = build_checkpoint(tmp_path / "base")
    (tmp_path / "adapter").mkdir()
    config = {
        "peft_type": "LORA",
        "base_model_name_or_path": str(base),
        "r": 2,
        "lora_alpha": 4,
        "task_type": "CAUSAL_LM",
    }
    config["target_modules"] = ["q_proj"]
    name = "base_model.model.model.layers.0.self_attn.q_proj"
    down, up = np.ones((2, 32), np.float32), np.ones((32, 2), np.float32)
    write_safetensors(
        tmp_path / "adapter" / "adapter_model.safetensors",
        {f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up},
    )
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(config))
    merged = merge_adapter(Checkpoint(tmp_path / "adapter"), tmp_path / "merged")
    tensor = "model.layers.0.self_attn.q_proj.weight"
    added = next(merged.rows(tensor)) - next(Checkpoint(base).rows(tensor))
    np.testing.assert_allclose(added, 4.0, atol=1e-5)  # alpha / r * (1 1) (1 1)' = 2 * 2
    for change, message in (
        ({"peft_type": "NEVER"}, "peft cannot merge"),
        ({"base_model_name_or_path": "/nowhere"}, "base model"),
    ):
        (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(config | change))
        with pytest.raises(ConversionError, match=message):
            convert(tmp_path / "adapter", tmp_path / "model.gguf")


def test_rows_pair_with_those_half_a_head_apart() -> None:
    rows = np.arange(8, dtype=np.float32)[:, None]  # two heads of four
    assert interleaved(rows, 2)[:, 0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


def test_blocks_join_to_the_tensor_and_stay_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Checkpoint(build_checkpoint(tmp_path / "model", dtype="BF16"))
    monkeypatch.setattr(checkpoint_module, "BLOCK_ELEMENTS", 512)
    name = "model.embed_tokens.weight"
    blocks = list(opened.rows(name))
    assert len(blocks) > 4
    assert max(block.size for block in blocks) <= 512
    assert np.array_equal(np.concatenate(blocks), next(opened.rows(name, whole=True)))
