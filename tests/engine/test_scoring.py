"""Scores of given texts: known ranks on a fake model, Transformers' probabilities, the same bits in every batch."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from icl_local import engine
from icl_local.engine.batching import Generation
from icl_local.engine.protocol import Completion, EngineOptions, Request
from icl_local.engine.scoring import log_probability, rank
from icl_local.engine.worker import Worker
from tests.fake_model import FakeModel

PREFIX = "# Instruction\n" * 8


class GradedModel(FakeModel):
    """After n tokens the token (7 n + i) % 256 has rank i + 1, so every position has ranks of its own."""

    def _row(self, sequence: list[int]) -> NDArray[np.float32]:
        return -((np.arange(256) - 7 * len(sequence)) % 256).astype(np.float32)


def score(
    requests: Sequence[Request], *, parallel: int = 4, model: FakeModel | None = None, share: bool = True
) -> dict[str, Completion]:
    options = EngineOptions(parallel=parallel, share_prefix=share, n_ubatch=64, trace=True)
    return {done.id: done for done in Generation(model or GradedModel(), requests, options)}


def with_ranks(prompt: str, ranks: Sequence[int]) -> Request:
    """A target whose tokens have these ranks after the prompt."""
    n = len(prompt.encode())
    return Request("a", prompt, target=tuple((7 * (n + i) + r - 1) % 256 for i, r in enumerate(ranks)))


@given(st.text("ab", min_size=1, max_size=90), st.lists(st.sampled_from([1, 2, 3, 4, 100, 256]), max_size=90))
@settings(max_examples=40, deadline=None)
def test_known_logits_give_known_ranks_at_every_position(prompt: str, ranks: list[int]) -> None:
    request = with_ranks(prompt, ranks)
    done = score([request])["a"]
    assert (done.finish_reason, done.tokens, done.ranks) == ("scored", request.target, tuple(ranks))
    assert done.prompt_tokens == len(prompt)
    assert [(top - 7 * (len(prompt) + i)) % 256 for i, top in enumerate(done.top_ids)] == [0] * len(ranks)
    norm = math.log(sum(math.exp(-i) for i in range(256)))
    assert done.logprobs == pytest.approx([1 - r - norm for r in ranks], abs=1e-6)


@given(
    lengths=st.lists(st.tuples(st.integers(1, 30), st.integers(0, 70)), min_size=1, max_size=12),
    parallel=st.integers(1, 8),
    same=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_batching_gives_what_one_at_a_time_gives(lengths: list[tuple[int, int]], parallel: int, same: bool) -> None:
    requests = [
        Request(f"q{i}", PREFIX + ("x" if same else chr(97 + i)) * n, target=(97 + i % 2,) * m)
        for i, (n, m) in enumerate(lengths)
    ]
    alone: dict[str, Completion] = {}
    for request in requests:
        alone.update(score([request], parallel=1, share=False))
    assert score(requests, parallel=parallel) == alone
    assert all(len(done.ranks) == len(done.digests) == m for done, (_, m) in zip(alone.values(), lengths, strict=True))


def test_only_the_rows_of_the_target_ask_for_logits_and_the_prefix_is_decoded_once() -> None:
    model = GradedModel()
    scoring = Generation(
        model,
        [Request(f"q{i}", PREFIX + f"{i}?", target=(65,) * 10) for i in range(9)],
        EngineOptions(parallel=3),
    )
    assert len(list(scoring)) == 9
    assert sum(token.logits for batch in model.batches for token in batch) == 90
    assert scoring.stats.new_tokens == 90
    assert scoring.stats.prefilled_tokens == len(PREFIX) + 9 * (2 + 10 - 1)


def test_a_step_holds_at_most_256_mib_of_logits() -> None:
    model = GradedModel()
    model.n_vocab = 1 << 20  # 4 MiB a row
    assert len(list(Generation(model, [with_ranks("a" * 40, [1] * 200)], EngineOptions()))) == 1
    assert max(map(len, model.batches)) == 64


def test_the_penalty_counts_for_the_rank_of_decoding_alone() -> None:
    class Plain(FakeModel):
        def _row(self, sequence: list[int]) -> NDArray[np.float32]:
            logits = np.zeros(256, dtype=np.float32)
            logits[[97, 98]] = (1.05, 1.0)
            return logits

    request = Request("a", "xx", target=(97, 97, 98, 98), repetition_penalty=1.1)
    done = score([request], model=Plain())["a"]
    assert done.ranks == (1, 1, 2, 2)
    assert done.ranks_decoded == (1, 2, 1, 2)


def test_equal_logits_are_ranked_by_id_as_the_greedy_pick_takes_them() -> None:
    logits = np.array([1, 3, 3, 0, 3], dtype=np.float32)
    assert [rank(logits, token) for token in range(5)] == [4, 1, 2, 5, 3]


@given(st.lists(st.floats(-60, 60, width=32), min_size=2, max_size=300))
def test_log_probabilities_are_those_of_float64(values: list[float]) -> None:
    logits = np.array(values, dtype=np.float32)
    exact = np.float64(logits) - np.logaddexp.reduce(np.float64(logits))
    assert [log_probability(logits, i) for i in range(len(values))] == pytest.approx(list(exact), abs=1e-6)


def test_what_does_not_fit_the_context_is_reported_and_the_others_go_on() -> None:
    requests = [with_ranks("ab", [1]), Request("long", "a" * 500, target=(65,) * 100)]
    done = score(requests, model=GradedModel(n_ctx_train=512))
    assert (done["long"].finish_reason, done["long"].ranks) == ("prompt_too_long", ())
    assert done["a"].ranks == (1,)


@pytest.fixture(scope="module")
def worker(byte_gguf: Path) -> Iterator[Worker]:
    with Worker(byte_gguf, EngineOptions(trace=True)) as one:
        yield one


def made(worker: Worker, penalty: float) -> list[Request]:
    """Return forced answers: what the model itself wrote with this penalty."""
    prompts = [f"The story number {i} begins {'far ' * (3 * i + 1)}away" for i in range(9)]
    asked = [Request(str(i), prompt, 24 + i, repetition_penalty=penalty) for i, prompt in enumerate(prompts)]
    found = {done.id: done.tokens for done in worker.generate(asked)}
    return [Request(one.id, one.prompt, target=found[one.id], repetition_penalty=penalty) for one in asked]


def test_digests_are_equal_alone_batched_shuffled_and_resumed(worker: Worker) -> None:
    requests = made(worker, 1.1)
    alone = {done.id: done for done in worker.generate(requests, parallel=1, share_prefix=False)}
    assert all(len(done.digests) == len(done.tokens) > 0 for done in alone.values())
    shuffled = random.Random(1).sample(requests, len(requests))
    for parallel in (2, 8):
        assert {done.id: done for done in worker.generate(shuffled, parallel=parallel)} == alone
    halves = [done for half in (requests[5:], requests[:5]) for done in worker.generate(half, parallel=8)]
    assert {done.id: done for done in halves} == alone


@pytest.mark.parametrize("penalty", [1.0, 1.1])
def test_a_model_ranks_its_own_answer_first(worker: Worker, penalty: float) -> None:
    for done in worker.generate(made(worker, penalty)):
        assert set(done.ranks if penalty == 1 else done.ranks_decoded) == {1}
        if penalty == 1:
            assert done.tokens == done.top_ids


def test_log_probabilities_are_those_of_transformers(worker: Worker, byte_gguf: Path) -> None:
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForCausalLM

    requests = [replace(one, id=one.id, target=one.target[::-1]) for one in made(worker, 1.1)[:4]]
    model = AutoModelForCausalLM.from_pretrained(byte_gguf.parent, gguf_file=byte_gguf.name, dtype=torch.float32)
    prompts = engine.tokenize(byte_gguf, [one.prompt for one in requests])
    found = {done.id: done for done in worker.generate(requests)}
    compared = 0
    for request, ids in zip(requests, prompts, strict=True):
        done, tokens = found[request.id], list(request.target)
        with torch.inference_mode():
            (logits,) = model(torch.tensor([[*ids, *tokens]])).logits
        logits = logits[len(ids) - 1 : -1]
        theirs = torch.log_softmax(logits, -1)[range(len(tokens)), tokens]
        assert done.logprobs == pytest.approx(theirs.tolist(), abs=1e-4)
        for row, token, place in zip(logits, tokens, done.ranks, strict=True):
            gaps = (row - row[token]).abs()
            gaps[token] = 1
            if gaps.min() > 1e-3:
                compared += 1
                assert place == 1 + int((row > row[token]).sum())
    assert compared > 50


def test_a_target_text_is_cut_with_its_prompt_and_a_merge_over_the_border_is_marked(worker: Worker) -> None:
    plain, merged = worker.generate([Request("a", "x ", target="oo"), Request("b", "xt", target="hex")])
    if plain.id == "b":
        plain, merged = merged, plain
    assert (plain.straddles, plain.raw_text, plain.prompt_tokens, plain.n_bytes) == (False, "oo", 2, 2)
    assert (merged.straddles, merged.raw_text, merged.prompt_tokens) == (True, "thex", 1)


def test_pieces_are_texts_and_names_of_control_tokens(worker: Worker) -> None:
    (ids,) = engine.tokenize(Path(worker._model), ["the"])
    (done,) = worker.generate([Request("a", "x", target=(*ids, 2))])
    assert {(ids[0], "the"), (2, "<|im_end|>")} <= set(done.pieces)
    assert {one for one, _ in done.pieces} == {*ids, 2, *done.top_ids}
