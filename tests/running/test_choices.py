"""Responses chosen among given texts: what is picked, what is stored, and how rules score it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import icl_local as icl
from icl_local import engine, store
from icl_local.engine import Completion, EngineOptions, Request
from icl_local.engine.batching import Generation
from icl_local.exceptions import ConfigError
from icl_local.running import Decoding, cell_run, choices
from icl_local.store import upkeep
from tests.fake_model import FakeModel

ANSWERS = (["cat", "a very small cat"], ["red", "blue", "green and blue"], ["yes", "no"])
ALL = "select * exclude (run_id, created_at) from raw.scorings order by scoring_id"
Items = Callable[..., Path]


class EqualModel(FakeModel):
    """All tokens are equally probable, but the letter z is less so: a text's sum falls with its length."""

    def _row(self, sequence: list[int]) -> NDArray[np.float32]:
        logits = np.zeros(256, dtype=np.float32)
        logits[ord("z")] = -1
        return logits


class FakeWorker:
    def generate(self, requests: Sequence[Request], **how: Any) -> Iterator[Completion]:
        return iter(Generation(EqualModel(), requests, EngineOptions(parallel=4)))


def pick(texts: Sequence[str], prompt: str = "? ") -> choices.Chosen:
    (chosen,) = choices.choose(FakeWorker(), [Request("q", prompt)], {"q": texts})
    return chosen


@pytest.fixture
def quiz(tmp_path: Path) -> Items:
    def write(answer: int = 0, *, reverse: bool = False, **more: Any) -> Path:
        path = tmp_path / "quiz.jsonl"
        items = [
            {"id": i, "instruction": f"Which one is number {i}?", "choices": texts[:: -1 if reverse else 1], **more}
            | {"answer": texts[answer]}
            for i, texts in enumerate(ANSWERS)
        ]
        path.write_text("".join(json.dumps(item) + "\n" for item in items))
        return path

    return write


def chosen(db: Path, model: Path, queries: Path, **more: Any) -> icl.RunResult:
    how: dict[str, Any] = {
        "method": ["zero-shot", "urial"],
        "dataset": "quiz",
        "probe": False,
        "progress": None,
        "threads": 1,
    }
    return icl.run(db, model=str(model), queries=str(queries), decode="choices", **how | more)


def picked(db: Path) -> list[tuple[Any, ...]]:
    return store.query(db, "select method, query_id, text from responses order by all").rows


def test_the_order_of_equal_choices_does_not_matter_and_a_long_prompt_ends_its_query() -> None:
    assert pick(["ab", "ba"]).raw_text == pick(["ba", "ab"]).raw_text == "ba"
    assert pick(["azz", "bbb", "c" * 9]).raw_text == "bbb"
    too_long = pick(["a", "b" * 5000])
    assert (too_long.finish_reason, too_long.raw_text, too_long.scored) == ("prompt_too_long", "", ())


def test_a_bias_for_short_texts_changes_accuracy_and_not_accuracy_by_bytes(
    tmp_path: Path, model: Path, quiz: Items, monkeypatch: pytest.MonkeyPatch
) -> None:
    def choose(worker: Any, requests: Sequence[Request], texts: dict[str, list[str]], **how: Any) -> Any:
        return choices.choose(FakeWorker(), requests, texts)

    monkeypatch.setattr(cell_run, "choose", choose)
    for name, answer in (("short", 0), ("long", 1)):
        path = quiz(choices=["z", "not at all"], answer=answer)
        path.write_text(path.read_text().replace('"answer": "', f'"answer": {answer}, "was": "'))
        db = tmp_path / f"{name}.duckdb"
        assert chosen(db, model, path, method="zero-shot").done
        icl.judge(db, judge="rules", progress=None)
        found = "select metric, avg(score) from scores where metric like 'accuracy%' group by all order by metric"
        assert store.query(db, found).rows == [("accuracy", 1 - answer), ("accuracy_bytes", answer)]


def test_choices_are_stored_with_their_response_and_a_second_run_makes_nothing(
    tmp_path: Path, model: Path, quiz: Items
) -> None:
    db = tmp_path / "x.duckdb"
    assert chosen(db, model, quiz()).n_new == 6
    assert chosen(db, model, quiz()).n_new == 0
    rows = store.query(db, "from choices").dicts()
    assert len(rows) == 2 * sum(map(len, ANSWERS))
    for response in {row["response_id"] for row in rows}:
        own = [row for row in rows if row["response_id"] == response]
        best = max(own, key=lambda row: row["logprob"])
        assert [row["text"] for row in own if row["picked"]] == [best["text"]]
        assert [row["text"] for row in own if row["is_right"]] == [ANSWERS[int(best["query_id"])][0]]
        assert store.query(db, "select text, finish_reason from responses where response_id = ?", [response]).rows == [
            (best["text"], "chosen")
        ]
    assert {row["n_bytes"] == len(row["text"]) for row in rows} == {True}
    unpenalised = "select distinct penalty, ranks = ranks_decoded from raw.scorings"
    assert store.query(db, unpenalised).rows == [(1.0, True)]
    assert store.query(db, "select count(*) from error_rates").rows == [(0,)]
    assert store.query(db, "select distinct in_paper_tables from cells").rows == [(False,)]
    lacking = "select unnest(tokens || top_ids) from raw.scorings except select token_id from raw.tokens"
    assert store.query(db, lacking).rows == []
    assert not upkeep.check(db)


def test_choices_in_another_order_give_the_same_rows(tmp_path: Path, model: Path, quiz: Items) -> None:
    found = []
    for name, reverse, more in (("a", False, {}), ("b", True, {"parallel": 1})):
        db = tmp_path / f"{name}.duckdb"
        chosen(db, model, quiz(reverse=reverse), **more)
        found.append(store.query(db, ALL.replace("run_id", "run_id, choice")).rows)
        assert chosen(db, model, quiz(reverse=not reverse)).n_new == 0
    assert found[0] == found[1]


def test_a_killed_run_and_shards_give_the_rows_of_a_whole_one(tmp_path: Path, model: Path, quiz: Items) -> None:
    whole, parts = tmp_path / "whole.duckdb", tmp_path / "parts.duckdb"
    chosen(whole, model, quiz())

    def stop(event: icl.Event) -> None:
        if event.kind == "response":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        chosen(parts, model, quiz(), shard="1/2", progress=stop)
    for shard in ("1/2", "2/2"):
        chosen(parts, model, quiz(), shard=shard)
    assert picked(parts) == picked(whole)
    assert store.query(parts, ALL).rows == store.query(whole, ALL).rows


def test_sums_are_those_of_transformers(tmp_path: Path, tiny_gguf: Path) -> None:
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_gguf.parent, gguf_file=tiny_gguf.name, dtype=torch.float32)
    prompt, texts = "The story begins. ", ["far away", "the hex", "oo"]
    with engine.Worker(tiny_gguf, EngineOptions(threads=1)) as worker:
        (found,) = choices.choose(worker, [Request("q", prompt)], {"q": texts})
    alone, *whole = engine.tokenize(tiny_gguf, [prompt, *(prompt + text for text in texts)])
    sums = []
    for ids in whole:
        start = next((i for i, (a, b) in enumerate(zip(alone, ids, strict=False)) if a != b), len(alone))
        with torch.inference_mode():
            (logits,) = model(torch.tensor([ids])).logits
        rows = torch.log_softmax(logits[start - 1 : -1], -1)
        sums.append(sum(rows[range(len(ids) - start), ids[start:]].tolist()))
    assert [sum(one.logprobs) for _, one in found.scored] == pytest.approx(sums, abs=1e-3)
    assert found.raw_text == texts[sums.index(max(sums))]


def test_a_judge_does_not_score_what_was_chosen_and_a_query_without_choices_is_refused(
    tmp_path: Path, model: Path, quiz: Items
) -> None:
    db = tmp_path / "x.duckdb"
    chosen(db, model, quiz(), method="zero-shot")
    judged = icl.judge(db, judge=f"local:{model}", progress=None).progress
    assert judged is not None
    assert judged.requested == 0
    path = quiz()
    path.write_text(path.read_text().replace("choices", "options"))
    (cell,) = chosen(db, model, path, method="zero-shot").cells
    assert "has no `choices`; name their column with --map choices=COLUMN" in str(cell.error)


@pytest.mark.parametrize("more", [{"temperature": 0.7}, {"stop_on_loop": True}])
def test_options_of_generated_text_are_refused(more: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="--decode choices generates no text"):
        Decoding(decode="choices", **more)
