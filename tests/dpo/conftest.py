"""A tiny base model and a file of preferences, built once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from icl_local.convert.model_source import ModelSource, locate
from tests.dpo.inputs import conversation
from tests.tiny_checkpoint import build_checkpoint

TOPICS = ["the north", "an answer", "the weather", "a table", "the second", "cold", "another way", "what they wanted"]


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> ModelSource:
    """A base model without chat template, as the study's are."""
    folder = build_checkpoint(tmp_path_factory.mktemp("base") / "tiny-base", scale=0.1)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    del config["chat_template"]
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return locate(str(folder))


@pytest.fixture(scope="session")
def pairs_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight conversations: one kind of answer is wanted, the other is not."""
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    rows = [
        {
            "prompt": "left out, as TRL's script needed it",
            "chosen": conversation(topic, f"The answer is {topic}."),
            "rejected": conversation(topic, "no no no no"),
        }
        for topic in TOPICS
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
