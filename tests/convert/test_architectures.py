"""Every architecture that a user brings: converted, proven, and decoded exactly one at a time and four at a time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from icl_local.convert.pre_tokenizers import name_of
from icl_local.engine import EngineOptions
from icl_local.exceptions import ConversionError
from icl_local.running import cells, load_queries, run
from icl_local.store.database import Store, query
from icl_local.weights.gguf_file import read_info
from tests.tiny_architectures import ARCHITECTURES, build_architecture
from tests.unstored import convert, quantize

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_converted_proven_and_run_exactly(name: str, tmp_path: Path) -> None:
    folder = build_architecture(tmp_path / name, name)
    made = convert(folder, tmp_path / "model.gguf", type_name="f32")
    statuses = {check.name: check.status for check in made.checks}
    assert statuses.pop("chat") in ("passed", "skipped")
    assert set(statuses.values()) == {"passed"}
    assert statuses.keys() >= {"header", "vocabulary", "tensors", "weights", "tokens", "bos", "logits"}
    queries = load_queries(["en"], ["samples"], limit=8)
    planned = cells.plan_cells([str(made.path)], ["zero-shot"], queries)
    texts = []
    for parallel in (1, 4):
        db = tmp_path / f"{parallel}.duckdb"
        options = EngineOptions(parallel=parallel)
        run.run_cells(db, planned, decoding=cells.Decoding(max_tokens=8), options=options, probe=False)
        texts.append(query(db, "select query_id, raw_text from responses order by all").rows)
    assert len(texts[0]) == 8
    assert texts[0] == texts[1]


def test_sentencepiece_without_its_model_file(tmp_path: Path) -> None:
    folder = build_architecture(tmp_path / "eurollm", "eurollm")
    (folder / "tokenizer.model").unlink()
    assert convert(folder, tmp_path / "model.gguf", memory_bytes=0).row["gate"] == "passed"
    assert not (folder / "tokenizer.model").exists()


def test_a_metaspace_tokenizer_decides_the_space_before_a_text(tmp_path: Path) -> None:
    folder = build_architecture(tmp_path / "eurollm", "eurollm")
    data = json.loads((folder / "tokenizer.json").read_text())
    data["normalizer"] = None
    data["pre_tokenizer"] = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "never", "split": False}
    (folder / "tokenizer.json").write_text(json.dumps(data))
    assert convert(folder, tmp_path / "never.gguf", memory_bytes=0).row["gate"] == "passed"
    assert read_info(tmp_path / "never.gguf").metadata["tokenizer.ggml.add_space_prefix"] is False
    data["pre_tokenizer"]["prepend_scheme"] = "first"
    (folder / "tokenizer.json").write_text(json.dumps(data))
    with pytest.raises(ConversionError, match="tokens: "):  # Transformers swallows the space a text begins with
        convert(folder, tmp_path / "first.gguf", memory_bytes=0)


@pytest.mark.parametrize(
    ("part", "value"), [("pre_tokenizer", {"type": "Whitespace"}), ("normalizer", {"type": "Lowercase"})]
)
def test_an_unknown_tokenizer_is_refused_by_name(tmp_path: Path, part: str, value: dict[str, str]) -> None:
    folder = build_architecture(tmp_path / "qwen2", "qwen2")
    data = json.loads((folder / "tokenizer.json").read_text())
    assert name_of(data) == "qwen2"
    (folder / "tokenizer.json").write_text(json.dumps(data | {part: value}))
    with pytest.raises(ConversionError, match=f"qwen2 cannot be converted: its tokenizer .*{value['type']}"):
        convert(folder, tmp_path / "model.gguf")


def test_a_user_sees_what_a_type_costs(tmp_path: Path) -> None:
    folder = build_architecture(tmp_path / "qwen3", "qwen3", dtype="bfloat16")
    db = tmp_path / "icl.duckdb"
    with Store(db) as store:
        convert(folder, tmp_path / "bf16.gguf", type_name="bf16", store=store)
        convert(folder, tmp_path / "q8_0.gguf", type_name="q8_0", store=store)
        quantize(tmp_path / "bf16.gguf", tmp_path / "q4_0.gguf", type_name="q4_0", store=store)
    sql = "select quantization, next_token_agreement, kl_divergence from quantization_gate order by kl_divergence"
    rows = query(db, sql).rows
    assert [row[0] for row in rows] == ["BF16", "Q8_0", "Q4_0"]
    assert rows[0][1] > rows[2][1] > 0
    assert 0 <= rows[0][2] < rows[1][2] < rows[2][2]
