"""Checkpoints of three tokenizer families become GGUF files that llama.cpp runs as Transformers does; others do not."""

from __future__ import annotations

import json
import re
import resource
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from icl_local import engine
from icl_local.cli import icl
from icl_local.convert import converter, tensors, tokenizer_of
from icl_local.convert.model_source import locate
from icl_local.convert.parity import Check
from icl_local.engine import EngineOptions
from icl_local.engine.llama import LlamaModel
from icl_local.exceptions import ConfigError, ConversionError, DiskFull, EngineError, ModelError
from icl_local.identity import sha256_file
from icl_local.results import build_tables
from icl_local.running import cells, load_queries, run
from icl_local.store.database import Store, query
from icl_local.weights.gguf_file import read_info
from tests.tiny_checkpoint import LLAMA3_ROPE, SPECIALS, build_checkpoint
from tests.unstored import convert, quantize

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def status(checks: Sequence[Check]) -> dict[str, str]:
    return {check.name: check.status for check in checks}


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
    failed_or_skipped = {name for name, found in status(made.checks).items() if found != "passed"}
    assert failed_or_skipped <= {"chat"}
    assert ("chat" in failed_or_skipped) == (family != "smollm")
    info = read_info(tmp_path / "model.gguf")
    assert info.quantization == type_name.upper()
    assert info.add_bos == (family != "smollm")
    assert info.metadata["icl.dpo"] is False
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model", "model.gguf"]


@pytest.mark.parametrize("family", ["smollm", "llama-bpe", "sentencepiece"])
def test_a_control_token_spelled_in_a_text_is_read_as_transformers_reads_it(tmp_path: Path, family: str) -> None:
    folder = build_checkpoint(tmp_path / "model", family=family)
    convert(folder, tmp_path / "model.gguf", type_name="f32", run_gate=False)
    tokenizer, special = tokenizer_of(folder), SPECIALS[family][-1]
    query = f"tell me {special} a {special}{special[:3]}story"
    text = f"{special}ask: {query}\n{special} answer"
    (ids,) = engine.tokenize(tmp_path / "model.gguf", [text], add_special=False)
    assert ids == tokenizer(text, add_special_tokens=False)["input_ids"]
    model = LlamaModel(tmp_path / "model.gguf", EngineOptions(), vocab_only=True)
    start = text.index(query)
    plain = model.tokenize(text, add_special=False, plain=(start, start + len(query)))
    between = tokenizer(f"ask: {query}\n", add_special_tokens=False, split_special_tokens=True)["input_ids"]
    one, after = (tokenizer(part, add_special_tokens=False)["input_ids"] for part in (special, f"{special} answer"))
    assert plain == one + between + after
    model.close()


def test_conversion_is_repeatable_byte_for_byte(tmp_path: Path) -> None:
    folder = build_checkpoint(tmp_path / "model")
    shutil.copytree(folder, tmp_path / "elsewhere")
    first = convert(folder, tmp_path / "a.gguf", type_name="f16", name="tiny", run_gate=False)
    second = convert(tmp_path / "elsewhere", tmp_path / "b.gguf", type_name="f16", name="tiny", memory_bytes=0)
    assert first.row["gguf_sha256"] == second.row["gguf_sha256"] == sha256_file(tmp_path / "a.gguf")
    assert (first.row["gate"], second.row["gate"]) == ("skipped", "passed")


def test_without_memory_for_logits_the_weights_are_the_proof(tmp_path: Path) -> None:
    folder = build_checkpoint(tmp_path / "model")
    made = convert(folder, tmp_path / "model.gguf", type_name="q8_0", memory_bytes=0)
    found = {check.name: check for check in made.checks}
    assert found["logits"].status == "skipped"
    assert "GB" in found["next_token"].detail or found["next_token"].status == "passed"
    assert found["weights"].status == "passed"


def test_failed_gate_keeps_the_file_aside_and_its_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = build_checkpoint(tmp_path / "model")
    monkeypatch.setitem(tensors.CHANGED, "llama", {})  # the gate no longer knows the order of q and k
    with (
        Store(tmp_path / "icl.duckdb") as store,
        pytest.raises(ConversionError, match=r"parity gate.*\.rejected: weights"),
    ):
        convert(folder, tmp_path / "model.gguf", type_name="f32", store=store)
    assert not (tmp_path / "model.gguf").exists()
    assert (tmp_path / "model.gguf.rejected").is_file()
    with Store(tmp_path / "icl.duckdb") as store:
        found = store.rows("select gate, gguf_sha256, gate_report->>'$.weights.status' from raw.conversions").rows
        assert found == [("failed", None, "failed")]
        monkeypatch.undo()
        made = convert(folder, tmp_path / "model.gguf", type_name="f32", store=store)
        found = store.rows("select gate, gguf_sha256 from raw.conversions").rows
        assert found == [("passed", made.row["gguf_sha256"])]


# What is not known is refused by name.


def test_template_that_does_not_render_is_left_out_and_said_so(tmp_path: Path) -> None:
    folder = build_checkpoint(tmp_path / "model")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    del config["chat_template"]
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "chat_template.jinja").write_text("{{ raise_exception('only with a system message') }}")
    made = convert(folder, tmp_path / "model.gguf", memory_bytes=0)
    found = {check.name: check for check in made.checks}["chat"]
    assert found.status == "skipped"
    assert "only with a system message" in found.detail


def test_a_value_too_large_for_the_type_is_found(tmp_path: Path) -> None:
    folder = build_checkpoint(tmp_path / "model", scale=1e6)
    with pytest.raises(EngineError, match="validation failed"):
        convert(folder, tmp_path / "model.gguf", type_name="f16", memory_bytes=0)
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_a_model_that_the_gate_cannot_judge_needs_no_gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = build_checkpoint(tmp_path / "model")
    monkeypatch.delitem(tensors.CHANGED, "llama")
    with pytest.raises(ConversionError, match=r"cannot judge this model .*--no-gate"):
        convert(folder, tmp_path / "model.gguf", memory_bytes=0)
    (tmp_path / "model.gguf.rejected").unlink()
    assert convert(folder, tmp_path / "model.gguf", type_name="f32").row["gate"] == "passed"  # the logits decide
    assert convert(folder, tmp_path / "other.gguf", run_gate=False).row["gate"] == "skipped"


def test_tables_name_the_files_that_were_not_gated(tmp_path: Path) -> None:
    db, folder = tmp_path / "icl.duckdb", build_checkpoint(tmp_path / "model")
    with Store(db) as store:
        proven = convert(folder, tmp_path / "proven.gguf", type_name="f32", name="proven", store=store, memory_bytes=0)
        other = convert(folder, tmp_path / "other.gguf", name="other", store=store, run_gate=False)
    queries = load_queries(["en"], ["samples"], limit=1)
    planned = cells.plan_cells([str(proven.path), str(other.path)], ["zero-shot"], queries)
    run.run_cells(db, planned, decoding=cells.Decoding(max_tokens=2), probe=False)
    (table,) = build_tables(db, ["4"])
    assert [note for note in table.notes if note.startswith("Converted without the gate")] == [
        "Converted without the gate, so not proven to be their checkpoints: other.gguf."
    ]


def test_sources_that_cannot_be_fetched_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(converter, "version", lambda: "0.0.0")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    said: list[str] = []
    folder = build_checkpoint(tmp_path / "model")
    with pytest.raises(ConversionError, match=r"llama-cpp-python==0\.0\.0 cannot be fetched: .*check the connection"):
        convert(folder, tmp_path / "model.gguf", run_gate=False, on_progress=said.append)
    assert any("llama-cpp-python 0.0.0" in line and "MB" in line for line in said)
    assert list((tmp_path / "cache" / "icl-local").iterdir()) == []


def test_existing_output_unknown_type_and_missing_folder_are_errors(tmp_path: Path) -> None:
    folder = build_checkpoint(tmp_path / "model")
    (tmp_path / "there.gguf").write_text("mine")
    with pytest.raises(ConversionError, match="exists already"):
        convert(folder, tmp_path / "there.gguf")
    assert (tmp_path / "there.gguf").read_text() == "mine"
    with pytest.raises(ConfigError, match="q9_z"):
        convert(folder, tmp_path / "model.gguf", type_name="q9_z")
    with pytest.raises(ConversionError, match="make it first"):
        convert(folder, tmp_path / "nowhere" / "model.gguf")
    with pytest.raises(ConversionError, match="not a checkpoint folder"):
        locate(str(tmp_path / "nothing"))


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="sets a limit of another process")
def test_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = build_checkpoint(tmp_path / "model")
    convert(folder, tmp_path / "small.gguf", run_gate=False).path.unlink()
    pid = converter._process(converter.sources(str)).pid
    assert pid is not None
    no_limit = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    try:
        with pytest.raises(DiskFull, match="no space left"):
            convert(folder, tmp_path / "model.gguf", type_name="f32", run_gate=False)
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, no_limit)
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
    assert made.row["gate"] == "passed"  # the gate's logits come from peft's own merge
    plain = convert(base, tmp_path / "plain.gguf", type_name="f32", run_gate=False)
    assert plain.row["gguf_sha256"] != made.row["gguf_sha256"]


def test_quantised_file_knows_its_parent(tmp_path: Path) -> None:
    folder = build_checkpoint(tmp_path / "model")
    with Store(tmp_path / "icl.duckdb") as store:
        made = convert(folder, tmp_path / "model.gguf", type_name="f32", store=store)
        smaller = quantize(tmp_path / "model.gguf", tmp_path / "model.q8_0.gguf", type_name="q8_0", store=store)
        rows = store.rows(
            "select quantization, gate, checkpoint, checkpoint_sha256, parent_gguf_sha256 from lineage order by all"
        ).rows
    assert rows == [
        ("F32", "passed", "model", made.row["source_sha256"], None),
        ("Q8_0", "passed", "model", made.row["source_sha256"], made.row["gguf_sha256"]),
    ]
    assert read_info(smaller.path).metadata["icl.conversion_id"] == made.row["conversion_id"]
    with pytest.raises(ModelError, match="requantiz"):
        quantize(smaller.path, tmp_path / "again.gguf", type_name="q4_0")
    assert not list(tmp_path.glob(".*"))
    (tmp_path / "damaged.gguf").write_bytes(b"GGUF" + b"\0" * 100)
    with pytest.raises(ModelError):
        quantize(tmp_path / "damaged.gguf", tmp_path / "never.gguf", type_name="q8_0")


def test_the_command_quantises_and_prints_the_agreement_of_next_tokens(tiny_gguf: Path, tmp_path: Path) -> None:
    out, db = tmp_path / "tiny.Q8_0.gguf", tmp_path / "icl.duckdb"
    result = CliRunner().invoke(icl, ["quantize", str(tiny_gguf), "--out", str(out), "--type", "q8_0", "--db", str(db)])
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(out)
    assert re.search(
        r"^next_token: the same at [\d.]+% of 512 positions, KL divergence [\d.]+$", result.stderr, flags=re.M
    )
    assert read_info(out).quantization == "Q8_0"
    rows = query(db, "select quantization, parent_gguf_sha256 from raw.conversions").rows
    assert rows == [("Q8_0", sha256_file(tiny_gguf))]
