"""Preference pairs: file formats, errors with their place, tokens and batches as TRL 0.13 to 0.15 made them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from icl_local.convert.model_source import ModelSource
from icl_local.dpo.data import Pair, load_preferences, load_tokenizer, paper_tokens
from icl_local.dpo.parameters import parameters
from icl_local.exceptions import InputError
from tests.dpo.inputs import conversation
from tests.fake_hub import FIRST, REPO, serving
from tests.tiny_checkpoint import build_checkpoint


def test_base_model_gets_the_simple_chat_form_without_bos_and_with_eos(base: ModelSource) -> None:
    tokenizer = load_tokenizer(base.folder)
    question, answer = conversation("cold", "Yes.")
    pair = Pair([question], [answer], [{"role": "assistant", "content": "No."}])
    ids = paper_tokens(pair, tokenizer, max_prompt_length=None)
    assert tokenizer.decode(ids["prompt_ids"]) == "User: Write about cold\n\nAssistant:"
    assert tokenizer.decode(ids["chosen_ids"]) == " Yes.\n\n<|im_end|>"
    assert tokenizer.decode(ids["rejected_ids"]) == " No.\n\n<|im_end|>"
    cut = paper_tokens(pair, tokenizer, max_prompt_length=3)
    assert cut["prompt_ids"] == ids["prompt_ids"][-3:]


def test_model_with_a_template_gets_its_own(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(build_checkpoint(tmp_path / "chat"))
    question, answer = conversation("cold", "Yes.")
    ids = paper_tokens(Pair([question], [answer], [answer]), tokenizer, max_prompt_length=None)
    assert tokenizer.decode(ids["prompt_ids"]).endswith("<|im_end|>\n<|im_start|>assistant\n")
    assert tokenizer.decode(ids["chosen_ids"]) == "Yes.<|im_end|>\n<|im_end|>"


def test_long_batches_are_cut_as_a_whole_as_then_or_row_by_row() -> None:
    from icl_local.dpo.trainer import paper_collator

    rows = [{"prompt_ids": [1, 2, 3], "chosen_ids": [4, 5, 6], "rejected_ids": [7]}]
    batch = paper_collator(0, parameters(max_length=4))(rows)
    assert batch["input_ids"].tolist() == [[3, 4, 5, 6], [3, 7, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert batch["completion_mask"].tolist() == [[0, 1, 1, 1], [0, 1, 0, 0]]
    alone = paper_collator(0, parameters(max_length=4, precompute_reference=True))
    assert alone(rows)["input_ids"].tolist() == [[3, 4, 5, 6], [1, 2, 3, 7]]
    start = paper_collator(0, parameters(max_length=4, truncation="keep_start"))
    assert start(rows)["input_ids"].tolist() == [[1, 2, 3, 4], [1, 2, 3, 7]]


def test_files_and_forms_give_the_same_pairs(tmp_path: Path, pairs_file: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [json.loads(line) for line in pairs_file.read_text().splitlines()]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "pairs.parquet")
    explicit = [
        {"prompt": row["chosen"][:1], "chosen": row["chosen"][1:], "rejected": row["rejected"][1:]} for row in rows
    ]
    (tmp_path / "explicit.jsonl").write_text("".join(json.dumps(row) + "\n" for row in explicit))
    found = load_preferences(str(pairs_file))
    assert load_preferences(str(tmp_path / "pairs.parquet")).sha256 == found.sha256
    assert load_preferences(str(tmp_path / "explicit.jsonl")).pairs == found.pairs
    assert len(load_preferences(str(pairs_file), limit=3).pairs) == 3


def test_texts_without_prompt_share_their_beginning(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"chosen": "The sky is blue", "rejected": "The sky is green"}\n')
    pair = load_preferences(str(tmp_path / "p.jsonl")).pairs[0]
    assert pair == Pair("The sky is", " blue", " green")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"prompt": "a", "chosen": "b"}', r":1: 'rejected' is missing or empty; there are chosen, prompt"),
        ('{"chosen": "b", "rejected": null}', r":1: 'rejected' is missing or empty"),
        ("", "holds no preference pairs"),
        ('{"prompt": "a", "chosen": "b", "rejected": "c"}\n{"chosen": "b", "rejected": "b"}', ":2: chosen and rej"),
        ("not json", ":1: broken JSON"),
        ('{"chosen": [{"role": "user"}], "rejected": "c"}', "role and content"),
        ('{"chosen": [1], "rejected": [2]}', "role and content"),
        ('{"prompt": "a", "chosen": "b", "rejected": [{"role": "user", "content": "c"}]}', "both be texts"),
        ("[1, 2]", "holds int where an object"),
    ],
)
def test_an_error_in_a_preference_file_names_the_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "p.jsonl").write_text(text)
    with pytest.raises(InputError, match=message):
        load_preferences(str(tmp_path / "p.jsonl"))


def test_identical_answers_can_be_dropped_or_kept(tmp_path: Path) -> None:
    rows = [{"prompt": "a", "chosen": "b", "rejected": "b"}, {"prompt": "a", "chosen": "b", "rejected": "c"}]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert len(load_preferences(str(tmp_path / "p.jsonl"), identical="drop").pairs) == 1
    assert len(load_preferences(str(tmp_path / "p.jsonl"), identical="keep").pairs) == 2
    with pytest.raises(InputError, match="cannot be read"):
        load_preferences(str(tmp_path / "none.jsonl"))
    with pytest.raises(InputError, match=r"pairs\.txt is neither a data set of the hub, owner/name, nor a \.jsonl"):
        load_preferences("pairs.txt")


def test_pairs_of_the_hub_are_those_of_the_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(tmp_path, monkeypatch) as hub:
        for split in ("train", "test"):
            row = {"prompt": "a", "chosen": split, "rejected": "c"}
            hub.files[FIRST, f"data/{split}-00000-of-00001.jsonl"] = json.dumps(row).encode()
        assert load_preferences(REPO).pairs == (Pair("a", "train", "c"),)
        found = load_preferences(f"hf:{REPO}", split="test")
    assert (found.name, found.pairs) == (REPO, (Pair("a", "test", "c"),))
