"""Single tasks of llama.cpp on a file, and damaged files: each ends in a one-line error, never the caller's process."""

from __future__ import annotations

import math
import re
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icl_local import engine
from icl_local.engine import EngineOptions, Request, Worker, file_tasks, llama
from icl_local.engine.llama import LlamaModel
from icl_local.exceptions import ConfigError, EngineError, IclError
from icl_local.weights import read_info
from tests.damaged_gguf import Edit, mutants, rename, tensor_entry, value_at
from tests.limits import file_size_limit


def test_the_engine_is_imported_without_llama_cpp() -> None:
    script = "import sys, icl_local.engine; print('llama_cpp' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout == "False\n"


def test_quantising_leaves_no_partial_file_behind(byte_gguf: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="choose one of"):
        engine.quantize(byte_gguf, tmp_path / "x.gguf", "q99")
    engine.quantize(byte_gguf, tmp_path / "tiny.f16.gguf", "f16")
    assert [p.name for p in tmp_path.iterdir()] == ["tiny.f16.gguf"]


def test_a_full_disk_and_a_quantised_source_have_errors_of_their_own(byte_gguf: Path, tmp_path: Path) -> None:
    with file_size_limit(1_000), pytest.raises(EngineError, match="iostream error; free some space on the disk"):
        llama.quantize(str(byte_gguf), str(tmp_path / "x.gguf"), "q8_0", False)


def test_prompt_logits_do_not_depend_on_the_chunk(byte_gguf: Path) -> None:
    (tokens,) = engine.tokenize(byte_gguf, ["the answer " * 60])
    whole = engine.prompt_logits(byte_gguf, tokens)
    assert whole.shape[0] == len(tokens)
    assert np.array_equal(whole[:20], engine.prompt_logits(byte_gguf, tokens[:20]))


def test_tasks_of_one_caller_share_a_process(byte_gguf: Path) -> None:
    assert engine.tokenize(byte_gguf, ["a"]) == engine.tokenize(byte_gguf, ["a"])
    first = file_tasks._PROCESS.pid
    assert set(engine.system_info()) == {"package", "llama_build", "cpu_features", "system", "gpu"}
    assert {"q4_k_m", "q8_0", "f16"} <= set(engine.file_types())
    assert file_tasks._PROCESS.pid == first


@pytest.fixture(scope="module")
def vocabulary(byte_gguf: Path) -> Iterator[LlamaModel]:
    model = LlamaModel(byte_gguf, EngineOptions(), vocab_only=True)
    yield model
    model.close()


PARTS = st.lists(
    st.sampled_from(["<|im_end|>", "<|im_", "end|>", "<|im_start|>user\n", " the", "an \u00e9", "\n", "9"])
)


@given(PARTS.map("".join), PARTS.map("".join), PARTS.map("".join))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_a_plain_query_has_no_control_token_and_changes_nothing_else(
    vocabulary: LlamaModel, head: str, query: str, tail: str
) -> None:
    text, control = head + query + tail, re.compile(r"<\|im_(start|end)\|>|<\|endoftext\|>")
    place = (len(head), len(head) + len(query))
    ids = vocabulary.tokenize(text, plain=place)
    assert b"".join(vocabulary.piece(token) or vocabulary.token_text(token).encode() for token in ids).decode() == text
    outside = [m[0] for m in control.finditer(text) if m.end() <= place[0] or m.start() >= place[1]]
    assert [vocabulary.token_text(token) for token in ids if not vocabulary.piece(token)] == outside
    if len(outside) == len(control.findall(text)):
        assert ids == vocabulary.tokenize(text)


def test_relative_paths_mean_the_callers_folder(byte_gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine.tokenize(byte_gguf, ["a"])
    monkeypatch.chdir(byte_gguf.parent)
    assert engine.tokenize(Path(byte_gguf.name), ["a"]) == engine.tokenize(byte_gguf, ["a"])


def use(path: Path) -> None:
    """Use a file as commands do: read its header, tokenize, decode."""
    read_info(path)
    (tokens,) = engine.tokenize(path, ["the cat"])
    engine.prompt_logits(path, tokens)


NUMBERS = [
    ("llama.block_count", struct.pack("<I", 3), "tensor 'blk.2.attn_norm.weight' not found"),
    ("llama.embedding_length", struct.pack("<I", 63), "invalid n_rot: 16, expected 15"),
    ("llama.embedding_length", struct.pack("<I", 128), "invalid n_rot: 16, expected 32"),
    ("llama.attention.head_count", struct.pack("<I", 0), "'blk.0.attn_q.weight' has wrong shape"),
    ("llama.attention.head_count", struct.pack("<I", 5), "invalid n_rot"),
    ("llama.attention.head_count_kv", struct.pack("<I", 3), "'blk.0.attn_k.weight' has wrong shape"),
    ("llama.attention.head_count_kv", struct.pack("<I", 4), "'blk.0.attn_k.weight' has wrong shape"),
    ("llama.rope.dimension_count", struct.pack("<I", 8), "invalid n_rot: 8, expected 16"),
    ("llama.feed_forward_length", struct.pack("<I", 0), "'blk.0.ffn_gate.weight' has wrong shape"),
    ("llama.feed_forward_length", struct.pack("<I", 64), "'blk.0.ffn_gate.weight' has wrong shape"),
    ("llama.attention.layer_norm_rms_epsilon", struct.pack("<f", -1.0), "ended (SIGABRT)"),
    ("llama.attention.layer_norm_rms_epsilon", struct.pack("<f", math.nan), "epsilon is nan"),
    ("llama.attention.layer_norm_rms_epsilon", struct.pack("<f", math.inf), "epsilon is inf"),
]
NAMES = [
    ("tokenizer.ggml.merges", "tokenizer.ggml.merg3s", "cannot find tokenizer merges"),
    ("blk.1.attn_q.weight", "blk.0.attn_q.weight", "duplicate tensor name 'blk.0.attn_q.weight'"),
    ("output_norm.weight", "output_norn.weight", "tensor 'output_norm.weight' not found"),
    ("llama.rope.dimension_count", "llama.nextn_predict_layers", "ended (SIGABRT)"),
]


def refusal(path: Path) -> str:
    """The error of using the file: one line that names it."""
    with pytest.raises(IclError) as refused:
        use(path)
    said = str(refused.value)
    assert path.name in said
    assert "\n" not in said
    return said


@pytest.mark.parametrize(("key", "value", "said"), NUMBERS)
def test_numbers_that_do_not_fit_are_errors(byte_gguf: Path, edit: Edit, key: str, value: bytes, said: str) -> None:
    assert said in refusal(edit((value_at(byte_gguf.read_bytes(), key), value)))


@pytest.mark.parametrize(("old", "new", "said"), NAMES)
def test_missing_and_doubled_names_are_errors(byte_gguf: Path, edit: Edit, old: str, new: str, said: str) -> None:
    assert said in refusal(edit(rename(byte_gguf.read_bytes(), old, new)))


@pytest.mark.parametrize(("token", "new"), [(b"A", b"B"), (b"th", b"t\0")])  # a token is read up to its NUL
def test_a_token_that_is_there_twice_ends_the_process_and_is_an_error(
    byte_gguf: Path, edit: Edit, token: bytes, new: bytes
) -> None:
    at = byte_gguf.read_bytes().index(struct.pack("<Q", len(token)) + token) + 8
    said = refusal(edit((at, new)))
    assert "llama.cpp ended (SIGABRT) on edited.gguf: llama-vocab.cpp:" in said
    assert "the file is damaged or this version of llama.cpp does not support it" in said
    use(byte_gguf)


@pytest.mark.parametrize(
    ("at", "value", "said"),
    [
        (4, struct.pack("<Q", 0), "has offset"),
        (12, struct.pack("<Q", 32), "has offset"),
        (20, struct.pack("<I", 26), "llama.cpp ended"),
        (20, struct.pack("<I", 2), "has offset"),
        (24, struct.pack("<Q", 0), "has offset 0"),
    ],
)
def test_tensor_entries_that_do_not_fit_are_errors(
    byte_gguf: Path, edit: Edit, at: int, value: bytes, said: str
) -> None:
    assert said in refusal(edit((tensor_entry(byte_gguf.read_bytes(), "blk.0.attn_q.weight") + at, value)))


def test_a_worker_gives_the_same_errors(byte_gguf: Path, edit: Edit) -> None:
    data = byte_gguf.read_bytes()
    with pytest.raises(EngineError, match=r"SIGABRT.* the file is damaged"):
        Worker(edit(rename(data, "llama.rope.dimension_count", "llama.nextn_predict_layers")))
    at = value_at(data, "llama.attention.layer_norm_rms_epsilon")
    with (
        Worker(edit((at, struct.pack("<f", -1.0)))) as worker,
        pytest.raises(EngineError, match=r"SIGABRT.*GGML_ASSERT\(eps"),
    ):
        list(worker.generate([Request("a", "Say it", 4)]))


@pytest.mark.parametrize("count", [200, pytest.param(12_000, marks=pytest.mark.soak)])
def test_mutated_headers_are_errors_or_harmless(byte_gguf: Path, tmp_path: Path, count: int) -> None:
    outcomes = {"used": 0, "refused": 0, "refused by llama.cpp": 0, "process ended": 0}
    for path in mutants(byte_gguf, tmp_path, count=count, seed=count):
        try:
            use(path)
            outcomes["used"] += 1
        except EngineError as error:
            outcomes["process ended" if "ended" in str(error) else "refused by llama.cpp"] += 1
        except IclError:
            outcomes["refused"] += 1
        path.unlink()
    assert 0.05 < outcomes["used"] / count < 0.95  # the mutations reach both
    assert outcomes["refused by llama.cpp"] > 0
    print(f"{count} mutated headers: {outcomes}")  # noqa: T201  a figure of docs/measurements.md
