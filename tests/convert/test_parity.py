"""The parity gate: six faults in files of three architectures are found by the checks that must find them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from icl_local.convert import parity
from icl_local.convert.checkpoint import Checkpoint
from icl_local.convert.parity import Reference, failures, gate
from icl_local.exceptions import ConversionError
from tests.convert.test_convert import status
from tests.rewritten_gguf import Edit, rewrite
from tests.tiny_architectures import build_architecture
from tests.unstored import convert, quantize

pytestmark = pytest.mark.usefixtures("one_torch_thread")


Fault = tuple[Edit, set[str]]


def _tensor(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Edit:
    def edit(_fields: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
        tensors[name] = change(tensors[name])

    return edit


def _halves(rows: np.ndarray) -> np.ndarray:
    """Undo the order of q's rows, four heads."""
    return rows.reshape(4, -1, 2, rows.shape[-1]).swapaxes(1, 2).reshape(rows.shape)


def _nan(rows: np.ndarray) -> np.ndarray:
    rows[3, 5] = np.nan
    return rows


def _without_rope_factors(_fields: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
    del tensors["rope_freqs.weight"]


def _changed_merge(fields: dict[str, Any], _tensors: dict[str, np.ndarray]) -> None:
    merges = fields["tokenizer.ggml.merges"]
    merges[0] = merges[-1]


def _changed_scores(fields: dict[str, Any], _tensors: dict[str, np.ndarray]) -> None:
    fields["tokenizer.ggml.scores"] = [-score for score in fields["tokenizer.ggml.scores"]]


def _swapped_bos(fields: dict[str, Any], _tensors: dict[str, np.ndarray]) -> None:
    fields["tokenizer.ggml.bos_token_id"] = fields["tokenizer.ggml.eos_token_id"]


def _header(key: str, value: float) -> Edit:
    def edit(fields: dict[str, Any], _tensors: dict[str, np.ndarray]) -> None:
        fields[key] = value

    return edit


def _common(output: str = "blk.1.attn_output.weight") -> dict[str, Fault]:
    return {
        "transposed tensor": (_tensor(output, lambda rows: rows.T), {"weights", "logits"}),
        "NaN": (_tensor("blk.1.ffn_down.weight", _nan), {"weights", "logits"}),
    }


FAULTS: dict[str, dict[str, Fault]] = {
    "llama3-tied": {
        **_common(),
        "missing q/k permutation": (_tensor("blk.0.attn_q.weight", _halves), {"weights", "logits"}),
        "missing rope factor tensor": (_without_rope_factors, {"tensors", "logits"}),
        "short rope factor tensor": (
            _tensor("rope_freqs.weight", lambda rows: rows[:-1]),
            {"tensors", "weights", "logits"},
        ),
        "changed merge": (_changed_merge, {"vocabulary", "tokens"}),
        "swapped BOS": (_swapped_bos, {"vocabulary", "bos"}),
    },
    "gemma2": {
        **_common(),
        "norm without its one": (_tensor("blk.0.attn_norm.weight", lambda rows: rows - 1), {"weights", "logits"}),
        "softcap left out": (_header("gemma2.final_logit_softcapping", 1e6), {"header", "logits"}),
        "changed scores": (_changed_scores, {"vocabulary", "tokens"}),
        "swapped BOS": (_swapped_bos, {"vocabulary", "bos"}),
    },
    "qwen3": {
        **{name: fault for name, fault in _common("blk.1.attn_k.weight").items() if name != "transposed tensor"},
        "permuted though it must not": (_tensor("blk.0.attn_q.weight", _halves), {"weights", "logits"}),
        "lost q norm": (_tensor("blk.0.attn_q_norm.weight", np.ones_like), {"weights", "logits"}),
        "wrong rotary base": (_header("qwen3.rope.freq_base", 500.0), {"header", "logits"}),
        "changed merge": (_changed_merge, {"vocabulary", "tokens"}),
        "wrong epsilon": (_header("qwen3.attention.layer_norm_rms_epsilon", 0.1), {"header", "logits"}),
    },
}


@functools.cache
def good(name: str, folder: Path) -> tuple[Path, Reference]:
    """Return a good F32 file of the architecture and the checkpoint it came from."""
    build_architecture(folder / name, name)
    convert(folder / name, folder / f"{name}.gguf", type_name="f32", run_gate=False)
    return folder / f"{name}.gguf", Reference(Checkpoint(folder / name))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("good")


@pytest.mark.parametrize("name", FAULTS)
def test_a_copy_without_a_fault_passes(name: str, folder: Path, tmp_path: Path) -> None:
    source, reference = good(name, folder)
    rewrite(source, tmp_path / "copy.gguf", lambda fields, tensors: None)
    result = gate(tmp_path / "copy.gguf", reference)
    assert failures(result) == ""


@pytest.mark.parametrize(("name", "fault"), [(name, fault) for name, faults in FAULTS.items() for fault in faults])
def test_gate_catches(name: str, fault: str, folder: Path, tmp_path: Path) -> None:
    source, reference = good(name, folder)
    edit, by = FAULTS[name][fault]
    rewrite(source, tmp_path / "bad.gguf", edit)
    result = gate(tmp_path / "bad.gguf", reference)
    assert {check for check, found in status(result).items() if found == "failed"} == by
    assert all(check in failures(result) for check in by)


def test_gate_refuses_a_damaged_file_without_showing_it_to_llama_cpp(folder: Path, tmp_path: Path) -> None:
    source, reference = good("llama3-tied", folder)
    (tmp_path / "cut.gguf").write_bytes(source.read_bytes()[:-5000])
    result = gate(tmp_path / "cut.gguf", reference)
    assert status(result) == {"file": "failed"}
    assert "truncated" in failures(result)


def test_a_quantised_file_below_its_floor_is_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, _ = good("qwen3", folder)
    monkeypatch.setitem(parity.MIN_AGREEMENT, "Q4_0", 1.0)
    with pytest.raises(ConversionError, match=r"next_token: the same at .* at least 100%"):
        quantize(source, tmp_path / "q4_0.gguf", type_name="q4_0")
