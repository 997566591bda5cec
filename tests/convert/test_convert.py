"""Checkpoints of three tokenizer families become GGUF files that llama.cpp runs as Transformers does; others do not."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from icl_local.cli import icl
from icl_local.convert import checkpoint as checkpoint_module
from icl_local.convert.convert import convert, quantize
from icl_local.convert.model_source import locate
from icl_local.convert.parity import GateResult
from icl_local.exceptions import ConfigError, ConversionError, DiskFull, ModelError
from icl_local.identity import sha256_file
from icl_local.store.database import Store, query
from icl_local.weights.gguf_file import read_info
from tests.limits import file_size_limit
from tests.tiny_checkpoint import LLAMA3_ROPE, build_checkpoint

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def status(result: GateResult) -> dict[str, str]:
    return {check.name: check.status for check in result.checks}


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


def test_template_that_does_not_render_is_left_out_and_said_so(tmp_path: Path) -> None:
    folder = build_checkpoint(tmp_path / "model")
    (folder / "chat_template.jinja").write_text("{{ raise_exception('only with a system message') }}")
    made = convert(folder, tmp_path / "model.gguf", memory_bytes=0)
    assert made.gate_result is not None
    found = {check.name: check for check in made.gate_result.checks}["chat"]
    assert found.status == "skipped"
    assert "only with a system message" in found.detail


def test_value_that_is_not_finite_is_refused_with_its_tensor(tmp_path: Path) -> None:
    folder = build_checkpoint(tmp_path / "model", scale=1e6)
    with pytest.raises(ConversionError, match=r"model\.embed_tokens\.weight holds values not finite as F16"):
        convert(folder, tmp_path / "model.gguf", type_name="f16")
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


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


def test_the_command_quantises_and_prints_the_agreement_of_next_tokens(tiny_gguf: Path, tmp_path: Path) -> None:
    out, db = tmp_path / "tiny.Q8_0.gguf", tmp_path / "icl.duckdb"
    result = CliRunner().invoke(icl, ["quantize", str(tiny_gguf), "--out", str(out), "--type", "q8_0", "--db", str(db)])
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(out)
    assert re.search(r"^next_token: the same at [\d.]+% of 256 positions$", result.stderr, flags=re.M)
    assert read_info(out).quantization == "Q8_0"
    rows = query(db, "select quantization, parent_gguf_sha256 from raw.conversions").rows
    assert rows == [("Q8_0", sha256_file(tiny_gguf))]


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
