"""Vocabularies: what of tokenizer.json a GGUF file can hold, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from icl_local.convert.checkpoint import Checkpoint
from icl_local.convert.convert import convert
from icl_local.convert.tokenizer import load_vocabulary
from icl_local.exceptions import ConversionError
from tests.tiny_checkpoint import build_checkpoint

pytestmark = pytest.mark.usefixtures("one_torch_thread")


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
