"""Checkpoints of three tokenizer families become GGUF files that llama.cpp runs as Transformers does; others do not."""

from __future__ import annotations

import json
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from click.testing import CliRunner

from icl_local.cli import icl
from icl_local.convert import checkpoint as checkpoint_module
from icl_local.convert.checkpoint import BLOCK_BYTES, Checkpoint, TensorPlan, permute
from icl_local.convert.convert import convert, quantize
from icl_local.convert.model_source import locate, unpack_gguf
from icl_local.convert.parity import GateResult, Reference, check_logits, gate
from icl_local.convert.tokenizer import load_vocabulary
from icl_local.exceptions import ConfigError, ConversionError, DiskFull, ModelError
from icl_local.identity import sha256_file
from icl_local.store.database import Store, query
from icl_local.weights.gguf_file import read_info
from tests.tiny_checkpoint import LLAMA3_ROPE, build_checkpoint, write_safetensors

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def status(result: GateResult) -> dict[str, str]:
    return {check.name: check.status for check in result.checks}


def metadata(path: Path, key: str) -> Any:
    field = gguf.GGUFReader(path).fields.get(key)
    return None if field is None else field.contents()


@pytest.mark.parametrize(
    ("family", "options", "type_name"),
    [
        ("smollm", {}, "f32"),
        ("smollm", {"dtype": "F16", "n_kv_heads": 4}, "f16"),
        ("smollm", {}, "q8_0"),
        ("llama-bpe", {"tied": False, "rope": LLAMA3_ROPE, "dtype": "BF16", "n_shards": 3}, "f32"),
        ("llama-bpe", {"rope": LLAMA3_ROPE, "dtype": "BF16"}, "bf16"),
        ("sentencepiece", {"head_dim": 8, "tied": False}, "f32"),
    ],
)
def test_converted_file_passes_every_check(
    tmp_path: Path, family: str, options: dict[str, Any], type_name: str
) -> None:
    folder = build_checkpoint(tmp_path / "model", family=family, **options)
    made = convert(folder, tmp_path / "model.gguf", type_name=type_name)
    assert made.gate_result is not None
    failed_or_skipped = {name for name, found in status(made.gate_result).items() if found != "passed"}
    assert failed_or_skipped <= {"chat"}
    assert ("chat" in failed_or_skipped) == (family != "smollm")
    info = read_info(tmp_path / "model.gguf")
    assert info.quantization == type_name.upper()
    assert info.add_bos == (family != "smollm")
    assert info.metadata["icl.dpo"] is False
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model", "model.gguf"]


def test_conversion_is_repeatable_byte_for_byte(tmp_path: Path) -> None:
    folder = build_checkpoint(tmp_path / "model")
    shutil.copytree(folder, tmp_path / "elsewhere")
    first = convert(folder, tmp_path / "a.gguf", type_name="f16", name="tiny", run_gate=False)
    second = convert(tmp_path / "elsewhere", tmp_path / "b.gguf", type_name="f16", name="tiny", memory_bytes=0)
    assert first.gguf_sha256 == second.gguf_sha256 == sha256_file(tmp_path / "a.gguf")
    assert (first.gate, second.gate) == ("skipped", "passed")


def test_without_memory_for_logits_the_weights_are_the_proof(tmp_path: Path) -> None:
    folder = build_checkpoint(tmp_path / "model")
    made = convert(folder, tmp_path / "model.gguf", type_name="q8_0", memory_bytes=0)
    assert made.gate_result is not None
    found = {check.name: check for check in made.gate_result.checks}
    assert found["logits"].status == "skipped"
    assert "GB" in found["next_token"].detail or found["next_token"].status == "passed"
    assert found["weights"].status == "passed"


# Six faults, each put into a good file.

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


def test_failed_gate_keeps_the_file_aside_and_its_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = build_checkpoint(tmp_path / "model")
    # The same slip in writer and gate: only the logits can tell.
    monkeypatch.setattr(checkpoint_module, "permute", lambda rows, n_heads: rows)
    with (
        Store(tmp_path / "icl.duckdb") as store,
        pytest.raises(ConversionError, match=r"parity gate.*\.rejected: logits"),
    ):
        convert(folder, tmp_path / "model.gguf", type_name="f32", store=store)
    assert not (tmp_path / "model.gguf").exists()
    assert (tmp_path / "model.gguf.rejected").is_file()
    with Store(tmp_path / "icl.duckdb") as store:
        found = store.rows("select gate, gguf_sha256, gate_report->>'$.logits.status' from raw.conversions").rows
        assert found == [("failed", None, "failed")]
        monkeypatch.undo()
        made = convert(folder, tmp_path / "model.gguf", type_name="f32", store=store)
        found = store.rows("select gate, gguf_sha256 from raw.conversions").rows
        assert found == [("passed", made.gguf_sha256)]


# What is not known is refused by name.


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


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("model", "type"), "Unigram", "Unigram"),
        (("pre_tokenizer",), {"type": "Whitespace"}, "Whitespace"),
        (("normalizer",), {"type": "NFC"}, "NFC"),
        (("model", "ignore_merges"), True, "ignore_merges"),
        (("model", "dropout"), 0.1, "dropout"),
        (("post_processor",), {"type": "BertProcessing"}, "BertProcessing"),
    ],
)
def test_unknown_tokenizer_is_refused_by_name(
    tmp_path: Path, path: tuple[str, ...], value: object, message: str
) -> None:
    folder = build_checkpoint(tmp_path / "model")
    data = json.loads((folder / "tokenizer.json").read_text())
    place = data
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    (folder / "tokenizer.json").write_text(json.dumps(data))
    with pytest.raises(ConversionError, match=message):
        convert(folder, tmp_path / "model.gguf")


def test_template_that_does_not_render_is_left_out_and_said_so(tmp_path: Path) -> None:
    folder = build_checkpoint(tmp_path / "model")
    (folder / "chat_template.jinja").write_text("{{ raise_exception('only with a system message') }}")
    made = convert(folder, tmp_path / "model.gguf", memory_bytes=0)
    assert made.gate_result is not None
    found = {check.name: check for check in made.gate_result.checks}["chat"]
    assert found.status == "skipped"
    assert "only with a system message" in found.detail


def test_tokenizer_larger_than_the_embedding_is_refused(tmp_path: Path) -> None:
    folder = build_checkpoint(tmp_path / "model", n_spare_rows=-1)
    with pytest.raises(ConversionError, match="the embedding only"):
        convert(folder, tmp_path / "model.gguf")


@pytest.mark.parametrize(("scheme", "prefix"), [("never", False), ("first", True)])
def test_metaspace_tokenizer_decides_the_space_prefix(tmp_path: Path, scheme: str, prefix: bool) -> None:
    folder = build_checkpoint(tmp_path / "model", family="sentencepiece")
    data = json.loads((folder / "tokenizer.json").read_text())
    data["normalizer"] = None
    data["pre_tokenizer"] = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": scheme, "split": False}
    (folder / "tokenizer.json").write_text(json.dumps(data))
    assert load_vocabulary(folder, n_rows=Checkpoint(folder).shape.vocab_size).add_space_prefix is prefix
    if scheme == "never":
        assert convert(folder, tmp_path / "model.gguf").gate == "passed"
    else:  # Transformers swallows the space a text begins with, llama.cpp does not
        with pytest.raises(ConversionError, match=r"' leading space'|'  two  spaces"):
            convert(folder, tmp_path / "model.gguf")


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


def test_value_that_is_not_finite_is_refused_with_its_tensor(tmp_path: Path) -> None:
    folder = build_checkpoint(tmp_path / "model", scale=1e6)
    with pytest.raises(ConversionError, match=r"model\.embed_tokens\.weight holds values not finite as F16"):
        convert(folder, tmp_path / "model.gguf", type_name="f16")
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_existing_output_unknown_type_and_missing_folder_are_told(tmp_path: Path) -> None:
    folder = build_checkpoint(tmp_path / "model")
    (tmp_path / "there.gguf").write_text("mine")
    with pytest.raises(ConversionError, match="exists already"):
        convert(folder, tmp_path / "there.gguf")
    assert (tmp_path / "there.gguf").read_text() == "mine"
    with pytest.raises(ConfigError, match="q9_z"):
        convert(folder, tmp_path / "model.gguf", type_name="q9_z")
    with pytest.raises(ConversionError, match="make it first"):
        convert(folder, tmp_path / "nowhere" / "model.gguf")
    with pytest.raises(ConversionError, match="no checkpoint folder"):
        locate(str(tmp_path / "nothing"))


@contextmanager
def file_size_limit(n_bytes: int) -> Iterator[None]:
    """Writing beyond ``n_bytes`` of a file fails as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = build_checkpoint(tmp_path / "model")
    with file_size_limit(100_000), pytest.raises(DiskFull, match="no space left"):
        convert(folder, tmp_path / "model.gguf", type_name="f32", run_gate=False)
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


# Adapters, quantising, the way back.


def test_adapter_is_merged_as_peft_merges_it(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = build_checkpoint(tmp_path / "base")
    model = AutoModelForCausalLM.from_pretrained(base)
    lora = LoraConfig(r=4, lora_alpha=16, target_modules="all-linear", init_lora_weights=False)
    adapted = get_peft_model(model, lora)
    adapted.save_pretrained(tmp_path / "adapter")
    made = convert(tmp_path / "adapter", tmp_path / "merged.gguf", type_name="f32")
    assert made.gate == "passed"  # the gate's logits come from peft's own merge
    plain = convert(base, tmp_path / "plain.gguf", type_name="f32", run_gate=False)
    assert plain.gguf_sha256 != made.gguf_sha256


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


def test_quantised_file_knows_its_parent(tmp_path: Path) -> None:
    folder = build_checkpoint(tmp_path / "model")
    with Store(tmp_path / "icl.duckdb") as store:
        made = convert(folder, tmp_path / "model.gguf", type_name="f32", store=store)
        smaller = quantize(tmp_path / "model.gguf", tmp_path / "model.q8_0.gguf", type_name="q8_0", store=store)
        rows = store.rows(
            "select quantization, gate, checkpoint, checkpoint_sha256, parent_gguf_sha256 from lineage order by all"
        ).rows
    assert rows == [
        ("F32", "passed", "model", made.source_sha256, None),
        ("Q8_0", "passed", "model", made.source_sha256, made.gguf_sha256),
    ]
    assert read_info(smaller.path).metadata["icl.conversion_id"] == made.conversion_id
    with pytest.raises(ModelError, match="requantiz"):
        quantize(smaller.path, tmp_path / "again.gguf", type_name="q4_0")
    assert not list(tmp_path.glob(".*"))
    (tmp_path / "damaged.gguf").write_bytes(b"GGUF" + b"\0" * 100)
    with pytest.raises(ModelError):
        quantize(tmp_path / "damaged.gguf", tmp_path / "never.gguf", type_name="q8_0")


def test_the_command_quantises_and_tells_how_far_the_tokens_agree(tiny_gguf: Path, tmp_path: Path) -> None:
    out, db = tmp_path / "tiny.Q8_0.gguf", tmp_path / "icl.duckdb"
    result = CliRunner().invoke(icl, ["quantize", str(tiny_gguf), "--out", str(out), "--type", "q8_0", "--db", str(db)])
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(out)
    assert re.search(r"^next_token: the same at [\d.]+% of 256 positions$", result.stderr, flags=re.M)
    assert read_info(out).quantization == "Q8_0"
    rows = query(db, "select quantization, parent_gguf_sha256 from raw.conversions").rows
    assert rows == [("Q8_0", sha256_file(tiny_gguf))]


def test_gguf_unpacks_into_a_checkpoint_that_converts_back(tiny_gguf: Path, tmp_path: Path) -> None:
    unpack_gguf(tiny_gguf, tmp_path / "unpacked")
    made = convert(tmp_path / "unpacked", tmp_path / "again.gguf", type_name="f32")
    assert made.gate == "passed"
    before, after = ({t.name: t.data for t in gguf.GGUFReader(p).tensors} for p in (tiny_gguf, made.path))
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)
    for key in ("tokens", "merges", "pre", "bos_token_id", "eos_token_id"):
        assert metadata(made.path, f"tokenizer.ggml.{key}") == metadata(tiny_gguf, f"tokenizer.ggml.{key}")


# Details the gate rests on.


def test_permutation_pairs_what_is_half_a_head_apart() -> None:
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


def test_logits_check_alone_tells_a_wrong_tensor(good: tuple[Path, Reference], tmp_path: Path) -> None:
    rewrite(good[0], tmp_path / "bad.gguf", _without_rope_factors)
    found = check_logits(tmp_path / "bad.gguf", good[1])
    right = check_logits(good[0], good[1])
    assert float(right.figures["relative"]) < 1e-4 < 0.1 < float(found.figures["relative"])


def test_tensor_plan_of_a_tied_model_has_no_output(tmp_path: Path) -> None:
    names = {plan.name for plan in Checkpoint(build_checkpoint(tmp_path / "tied")).plans}
    assert "output.weight" not in names
    opened = Checkpoint(build_checkpoint(tmp_path / "untied", tied=False))
    assert TensorPlan("output.weight", "lm_head.weight", (opened.shape.vocab_size, 32)) in opened.plans


_MEASURE = """
import resource, sys, threading, time
from pathlib import Path
import icl_local.convert as c
def anonymous():
    text = Path("/proc/self/status").read_text()
    return int(text.split("RssAnon:")[1].split()[0]) * 1024
peak = 0
done = False
def watch():
    global peak
    while not done:
        peak = max(peak, anonymous())
        time.sleep(0.02)
thread = threading.Thread(target=watch); thread.start()
c.convert(Path(sys.argv[1]), Path(sys.argv[2]), type_name="f16", run_gate=False)
done = True; thread.join()
print(peak)
"""


@pytest.mark.soak
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_one_billion_weights_stream_in_bounded_memory(tmp_path: Path) -> None:
    shape = {"hidden": 2048, "n_layers": 16, "n_heads": 32, "n_kv_heads": 8, "intermediate": 8192}
    folder = build_checkpoint(tmp_path / "model", dtype="BF16", n_spare_rows=127_000, n_shards=16, **shape)
    command = [sys.executable, "-c", _MEASURE, str(folder), str(tmp_path / "model.gguf")]
    peak = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert (tmp_path / "model.gguf").stat().st_size > 2_400_000_000
    assert peak < 1.5e9
