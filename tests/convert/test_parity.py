"""The parity gate: six faults, each put into a good file, are found by the checks that must find them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from icl_local.convert.checkpoint import Checkpoint
from icl_local.convert.convert import convert
from icl_local.convert.parity import Reference, check_logits, gate
from tests.convert.test_convert import status
from tests.tiny_checkpoint import LLAMA3_ROPE, build_checkpoint

pytestmark = pytest.mark.usefixtures("one_torch_thread")


Edit = Callable[[dict[str, Any], dict[str, np.ndarray]], None]


def rewrite(source: Path, target: Path, edit: Edit) -> None:
    """Copy an F32 GGUF file; ``edit`` may change its metadata and tensors."""
    reader = gguf.GGUFReader(source)
    kinds = {key: field.types for key, field in reader.fields.items() if not key.startswith("GGUF.")}
    fields = {key: reader.fields[key].contents() for key in kinds}
    tensors = {tensor.name: np.array(tensor.data) for tensor in reader.tensors}
    edit(fields, tensors)
    writer = gguf.GGUFWriter(target, "llama")
    for key, value in fields.items():
        if key != "general.architecture":
            types = kinds[key]
            writer.add_key_value(key, value, types[0], sub_type=types[-1] if len(types) > 1 else None)
    for name, tensor in tensors.items():
        writer.add_tensor(name, np.ascontiguousarray(tensor))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _unpermuted(_fields: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
    rows = tensors["blk.0.attn_q.weight"]
    tensors["blk.0.attn_q.weight"] = rows.reshape(4, 4, 2, -1).swapaxes(1, 2).reshape(rows.shape)


def _without_rope_factors(_fields: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
    del tensors["rope_freqs.weight"]


def _changed_merge(fields: dict[str, Any], _tensors: dict[str, np.ndarray]) -> None:
    merges = fields["tokenizer.ggml.merges"]
    merges[0] = merges[-1]


def _swapped_bos(fields: dict[str, Any], _tensors: dict[str, np.ndarray]) -> None:
    fields["tokenizer.ggml.bos_token_id"] = fields["tokenizer.ggml.eos_token_id"]


def _transposed(_fields: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
    tensors["blk.1.attn_output.weight"] = tensors["blk.1.attn_output.weight"].T


def _nan(_fields: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
    tensors["blk.1.ffn_down.weight"][3, 5] = np.nan


FAULTS: dict[str, tuple[Edit, set[str]]] = {
    "missing q/k permutation": (_unpermuted, {"weights", "logits"}),
    "missing rope factor tensor": (_without_rope_factors, {"tensors", "logits"}),
    "changed merge": (_changed_merge, {"vocabulary", "tokens"}),
    "swapped BOS": (_swapped_bos, {"vocabulary", "bos"}),
    "transposed tensor": (_transposed, {"weights", "logits"}),
    "NaN": (_nan, {"weights", "logits"}),
}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Reference]:
    """An F32 file with scaled rotary frequencies and BOS, and the checkpoint it came from."""
    folder = tmp_path_factory.mktemp("good")
    build_checkpoint(folder / "model", family="llama-bpe", rope=LLAMA3_ROPE)
    convert(folder / "model", folder / "good.gguf", type_name="f32", run_gate=False)
    return folder / "good.gguf", Reference(Checkpoint(folder / "model"))


def test_a_copy_without_a_fault_passes(good: tuple[Path, Reference], tmp_path: Path) -> None:
    rewrite(good[0], tmp_path / "copy.gguf", lambda fields, tensors: None)
    assert gate(tmp_path / "copy.gguf", good[1]).passed


@pytest.mark.parametrize("fault", FAULTS)
def test_gate_catches(fault: str, good: tuple[Path, Reference], tmp_path: Path) -> None:
    edit, by = FAULTS[fault]
    rewrite(good[0], tmp_path / "bad.gguf", edit)
    result = gate(tmp_path / "bad.gguf", good[1])
    assert not result.passed
    assert {name for name, found in status(result).items() if found == "failed"} == by
    assert all(name in result.reasons for name in by)


def test_gate_refuses_a_damaged_file_without_showing_it_to_llama_cpp(
    good: tuple[Path, Reference], tmp_path: Path
) -> None:
    (tmp_path / "cut.gguf").write_bytes(good[0].read_bytes()[:-5000])
    result = gate(tmp_path / "cut.gguf", good[1])
    assert status(result) == {"file": "failed"}
    assert "truncated" in result.reasons


def test_the_logits_check_alone_finds_a_wrong_tensor(good: tuple[Path, Reference], tmp_path: Path) -> None:
    rewrite(good[0], tmp_path / "bad.gguf", _without_rope_factors)
    found = check_logits(tmp_path / "bad.gguf", good[1])
    right = check_logits(good[0], good[1])
    assert float(right.figures["relative"]) < 1e-4 < 0.1 < float(found.figures["relative"])
