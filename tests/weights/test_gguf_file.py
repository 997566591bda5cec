"""GGUF headers: what they state, and files that are refused with a ModelError that names the file and what is wrong."""

from __future__ import annotations

import math
import re
import struct
from pathlib import Path

import gguf
import numpy as np
import pytest

from icl_local.exceptions import ModelError
from icl_local.weights.gguf_file import read_info
from icl_local.weights.gguf_header import LongArray
from tests.counting import calls
from tests.damaged_gguf import Edit, header_bytes, rename, tensor_entry, value_at
from tests.tiny_model import CHAT_TEMPLATE, build_tiny_gguf


def finish(writer: gguf.GGUFWriter) -> None:
    """Write the metadata so far and one tensor."""
    writer.add_tensor("output_norm.weight", np.ones(8, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_states_what_the_file_is(byte_gguf: Path) -> None:
    info = read_info(byte_gguf)
    assert (info.architecture, info.name, info.quantization) == ("llama", "tiny", "F32")
    assert (info.block_count, info.embedding_length, info.head_count, info.head_count_kv) == (2, 64, 4, 2)
    assert (info.head_dim, info.context_length, info.vocab_size) == (16, 4096, 267)
    assert (info.tokenizer_model, info.add_bos) == ("gpt2", False)
    assert (info.bos_token, info.eos_token) == ("<|im_start|>", "<|im_end|>")
    assert info.chat_template == CHAT_TEMPLATE
    assert info.bytes == byte_gguf.stat().st_size
    assert info.metadata["tokenizer.ggml.tokens"] == LongArray("string", 267)
    assert info.metadata["tokenizer.ggml.token_type"] == (3, 3, 3, *[1] * 264)
    reader = gguf.GGUFReader(byte_gguf)
    assert info.parameters == sum(int(tensor.n_elements) for tensor in reader.tensors)


def test_reads_the_embedded_model(embedded_model: Path) -> None:
    info = read_info(embedded_model)
    assert (info.quantization, info.parameters, info.vocab_size) == ("Q4_1", 134_515_008, 49_152)
    assert (info.block_count, info.head_count, info.head_count_kv, info.head_dim) == (30, 9, 3, 64)
    assert (info.bos_token, info.eos_token, info.add_bos) == ("<|im_start|>", "<|im_end|>", False)
    assert info.chat_template is not None
    assert "You are a helpful AI assistant named SmolLM" in info.chat_template


def test_a_base_file_has_no_chat_template(tmp_path: Path) -> None:
    build_tiny_gguf(tmp_path / "base.gguf", chat_template=None, add_bos=True)
    info = read_info(tmp_path / "base.gguf")
    assert info.chat_template is None
    assert info.add_bos is True


@pytest.mark.parametrize(
    ("begin", "said"),
    [
        (b"hello, I am a text file", "not a GGUF file: it begins with"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"PK\x03\x04 and so on", "icl convert"),
        (struct.pack("<Q", 99) + b'{"__metadata__":{}}', "a safetensors file"),
        (b"tjgg" + bytes(40), "older than GGUF"),
        (b"GGUF" + bytes(3), "truncated"),
        (b"GGUF" + struct.pack(">IQQ", 3, 1, 1) + bytes(64), "big-endian"),
        (b"GGUF" + struct.pack("<IQQ", 1, 1, 1) + bytes(64), "GGUF version 1"),
        (b"GGUF" + struct.pack("<IQQ", 9, 1, 1) + bytes(64), "GGUF version 9"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1 << 60, 1) + bytes(64), "claims 1152921504606846976 tensors"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1, 1 << 60) + bytes(64), "claims 1152921504606846976 keys"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 1 << 60), "a key claims"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 60) + b"short", "truncated"),
        (b"", "the file is empty"),
    ],
)
def test_refuses_what_is_not_a_gguf_file(tmp_path: Path, begin: bytes, said: str) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(begin)
    with pytest.raises(ModelError, match=r"x\.gguf") as refused:
        read_info(path)
    assert said in str(refused.value)


def test_a_missing_file_a_folder_and_an_impossible_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        read_info(tmp_path / "absent.gguf")
    with pytest.raises(ModelError, match="not a file"):
        read_info(tmp_path)
    with pytest.raises(ModelError, match="cannot be read"):
        read_info(Path("nul\0.gguf"))


def test_truncated_weights_are_counted(byte_gguf: Path, tmp_path: Path) -> None:
    data = byte_gguf.read_bytes()
    path = tmp_path / "short.gguf"
    path.write_bytes(data[:-1000])
    with pytest.raises(ModelError, match=r"truncated: 1,000 of [\d,]+ bytes are missing"):
        read_info(path)


def test_every_cut_inside_the_header_is_noticed(byte_gguf: Path, tmp_path: Path) -> None:
    data = byte_gguf.read_bytes()
    path = tmp_path / "cut.gguf"
    for length in range(4, header_bytes(byte_gguf), 97):
        path.write_bytes(data[:length])
        with pytest.raises(ModelError, match="truncated"):
            read_info(path)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("llama.block_count", struct.pack("<I", 0), "block_count is 0"),
        ("llama.block_count", struct.pack("<I", 600), "block_count is 600"),
        ("llama.context_length", struct.pack("<I", 0), "context_length is 0"),
        ("llama.attention.head_count", struct.pack("<I", 1 << 31), "head_count is 2147483648"),
        ("llama.attention.layer_norm_rms_epsilon", struct.pack("<f", math.nan), "layer_norm_rms_epsilon is nan"),
        ("llama.rope.freq_base", struct.pack("<f", math.inf), "freq_base is inf"),
    ],
)
def test_numbers_that_no_model_has_are_named(byte_gguf: Path, edit: Edit, key: str, value: bytes, said: str) -> None:
    with pytest.raises(ModelError) as refused:
        read_info(edit((value_at(byte_gguf.read_bytes(), key), value)))
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("tokenizer.ggml.model", "tokenizer.ggml.mod3l", "no tokenizer"),
        ("tokenizer.ggml.tokens", "tokenizer.ggml.t0kens", "no tokenizer"),
        ("general.architecture", "general.architectur3", "'general.architecture' is missing"),
        ("llama.embedding_length", "llama.embedding_l3ngth", "'llama.embedding_length' is missing"),
        ("llama.rope.freq_base", "llama.context_length", "is there twice"),
    ],
)
def test_missing_and_doubled_names_are_named(byte_gguf: Path, edit: Edit, old: str, new: str, said: str) -> None:
    path = edit(rename(byte_gguf.read_bytes(), old, new))
    with pytest.raises(ModelError) as refused:
        read_info(path)
    assert said in str(refused.value)


def test_tensor_entries_that_cannot_be_true_are_refused(byte_gguf: Path, edit: Edit) -> None:
    entry = tensor_entry(byte_gguf.read_bytes(), "blk.0.attn_q.weight")
    for change, said in [
        ((entry, struct.pack("<I", 9)), "9 dimensions"),
        ((entry + 4, struct.pack("<Q", 1 << 61)), "truncated"),
        ((entry + 20, struct.pack("<I", 31)), "has type 31, which the gguf package does not know"),
        ((entry + 24, struct.pack("<Q", 1 << 40)), "truncated"),
    ]:
        with pytest.raises(ModelError) as refused:
            read_info(edit(change))
        assert said in str(refused.value)


def test_one_part_of_a_split_model_is_refused_with_the_command_that_joins(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "part.gguf", "llama")
    writer.add_uint16("split.count", 3)
    writer.add_uint16("split.no", 0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(ModelError, match="split into 3 files; join them first: llama-gguf-split --merge"):
        read_info(tmp_path / "part.gguf")


def test_a_file_without_tensors_is_refused(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "vocab.gguf", "llama")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(ModelError, match="holds no tensors"):
        read_info(tmp_path / "vocab.gguf")


def test_the_type_is_that_of_most_weights_where_the_file_does_not_say(byte_gguf: Path, edit: Edit) -> None:
    path = edit(rename(byte_gguf.read_bytes(), "general.file_type", "general.file_typo"))
    assert read_info(path).quantization == "F32"


@pytest.mark.parametrize(("heads", "expected"), [([1, 2], 2), ([0, 0], 0), ([1, 1 << 20], "outside 0 to 65536")])
def test_of_a_number_for_each_layer_the_largest_counts(tmp_path: Path, heads: list[int], expected: object) -> None:
    path = tmp_path / "layers.gguf"
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_block_count(2)
    writer.add_embedding_length(8)
    writer.add_context_length(16)
    writer.add_head_count(2)
    writer.add_head_count_kv(heads)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(["t0", "t1"])
    finish(writer)
    if isinstance(expected, str):
        with pytest.raises(ModelError, match=expected):
            read_info(path)
        return
    assert read_info(path).head_count_kv == expected


@pytest.mark.parametrize("key", ["block_count", "context_length", "embedding_length", "attention.key_length"])
def test_only_heads_may_be_a_number_for_each_layer(tmp_path: Path, key: str) -> None:
    path = tmp_path / "layers.gguf"
    writer = gguf.GGUFWriter(path, "qwen2")
    for name in {"block_count", "context_length", "embedding_length"} - {key}:
        writer.add_uint32(f"qwen2.{name}", 8)
    writer.add_array(f"qwen2.{key}", [4, 8])
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(["t0", "t1"])
    finish(writer)
    with pytest.raises(ModelError, match=rf"qwen2\.{key} is \(4, 8\)"):
        read_info(path)


def test_another_architecture_is_read_too(byte_gguf: Path, tmp_path: Path) -> None:
    path = tmp_path / "other.gguf"
    path.write_bytes(byte_gguf.read_bytes().replace(b"llama", b"qwen2"))
    info = read_info(path)
    assert (info.architecture, info.block_count, info.head_count_kv, info.head_dim) == ("qwen2", 2, 2, 16)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ModelError, match="truncated: 1 of"):
        read_info(path)


@pytest.mark.parametrize(
    ("model", "pre", "said", "bos_id", "expected"),
    [
        ("llama", None, None, None, (True, "t1")),
        ("llama", None, False, 2, (False, "t2")),
        ("gpt2", "llama-bpe", None, 2, (True, "t2")),
        ("gpt2", "smollm", None, 2, (False, "t2")),
        ("gpt2", "smollm", True, 2, (True, "t2")),
        ("gpt2", "smollm", False, 99, (False, None)),
        ("gpt2", "llama-bpe", None, None, "does not say which"),
    ],
)
def test_bos_comes_first_where_llama_cpp_would_put_it(
    tmp_path: Path, model: str, pre: str | None, said: bool | None, bos_id: int | None, expected: object
) -> None:
    path = tmp_path / "bos.gguf"
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_block_count(1)
    writer.add_embedding_length(8)
    writer.add_context_length(16)
    writer.add_tokenizer_model(model)
    if pre is not None:
        writer.add_tokenizer_pre(pre)
    writer.add_token_list(["t0", "t1", "t2"])
    writer.add_token_merges(["a b"])
    if said is not None:
        writer.add_add_bos_token(said)
    if bos_id is not None:
        writer.add_bos_token_id(bos_id)
    finish(writer)
    if isinstance(expected, str):
        with pytest.raises(ModelError, match=expected):
            read_info(path)
        return
    info = read_info(path)
    assert (info.add_bos, info.bos_token) == expected


def test_files_of_one_tokenizer_have_one_digest_of_it(byte_gguf: Path, tmp_path: Path) -> None:
    tokenizer = read_info(byte_gguf).vocab_sha256
    assert re.fullmatch("[0-9a-f]{64}", tokenizer)
    other = tmp_path / "other.gguf"
    build_tiny_gguf(other, seed=1, n_layers=1, chat_template=None)
    assert read_info(other).vocab_sha256 == tokenizer
    for old, new in ((b"an", b"aX"), (b"a n", b"a o"), (b"smollm", b"llama3")):  # a token, a merge, the pre-tokenizer
        length = len(old).to_bytes(8, "little")
        assert length + old in byte_gguf.read_bytes()
        other.write_bytes(byte_gguf.read_bytes().replace(length + old, length + new))
        assert read_info(other).vocab_sha256 != tokenizer


def large_vocabulary(path: Path) -> int:
    """Write a header with the tokens and merges of Llama 3, and nothing else; return how many texts it has."""

    def strings(key: str, count: int) -> bytes:
        texts = (b"token-%d" % i for i in range(count))
        array = b"".join(struct.pack("<Q", len(text)) + text for text in texts)
        return struct.pack("<Q", len(key)) + key.encode() + struct.pack("<IIQ", 9, 8, count) + array

    pairs = strings("tokenizer.ggml.tokens", 128_256) + strings("tokenizer.ggml.merges", 280_147)
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 2) + pairs)
    return 128_256 + 280_147


def test_a_large_vocabulary_is_read_in_a_few_steps_a_text(tmp_path: Path) -> None:
    n_texts = large_vocabulary(tmp_path / "large.gguf")

    def read() -> None:
        with pytest.raises(ModelError, match=r"general\.architecture"):
            read_info(tmp_path / "large.gguf")

    assert calls(read) < 4 * n_texts
