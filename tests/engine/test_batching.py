"""Scheduling on a fake model that refuses any batch llama.cpp would split, and any wrong position."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from icl_local.engine import batching
from icl_local.engine.batching import Generation
from icl_local.engine.prefix_cache import PrefixCache
from icl_local.engine.protocol import Completion, EngineOptions, Request
from icl_local.engine.sequences import Interrupted
from icl_local.exceptions import EngineError
from tests.fake_model import EOG, FakeModel

PREFIX = "# Instruction\n" * 20


def complete(
    requests: Sequence[Request], *, parallel: int = 4, model: FakeModel | None = None, share: bool = True
) -> dict[str, Completion]:
    generation = Generation(
        model or FakeModel(), requests, EngineOptions(parallel=parallel, share_prefix=share, n_ubatch=64)
    )
    return {completion.id: completion for completion in generation}


def queries(n: int, *, max_tokens: int = 40, stops: tuple[str, ...] = ()) -> list[Request]:
    return [Request(f"q{i}", PREFIX + f"query {i} " + "x" * (i % 7), max_tokens, stops) for i in range(n)]


@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=12),
    limits=st.lists(st.integers(1, 40), min_size=12, max_size=12),
    parallel=st.integers(1, 8),
)
@settings(max_examples=60, deadline=None)
def test_batching_gives_what_one_at_a_time_gives(lengths: list[int], limits: list[int], parallel: int) -> None:
    requests = [Request(f"q{i}", PREFIX + chr(97 + i) * length, limits[i]) for i, length in enumerate(lengths)]
    alone = {}
    for request in requests:
        alone.update(complete([request], parallel=1, share=False))
    assert complete(requests, parallel=parallel) == alone


def test_weights_that_give_no_numbers_are_an_error_and_no_empty_answer() -> None:
    class Damaged(FakeModel):
        def logits(self, index: int) -> NDArray[np.float32]:
            return np.full_like(super().logits(index), np.nan)

    with pytest.raises(EngineError, match=r"the model computes no numbers \(NaN\); the file is damaged"):
        complete(queries(2), model=Damaged())


@pytest.mark.parametrize("parallel", [1, 2, 3, 8])
def test_batches_are_padded_to_eight_rows_where_kernels_need_it(parallel: int) -> None:
    requests = queries(9)
    limits = EngineOptions(parallel=parallel, n_ubatch=64, min_rows=8)
    padded = {c.id: c for c in Generation(FakeModel(min_rows=8), requests, limits)}
    assert padded == complete(requests)


def test_order_of_requests_changes_nothing() -> None:
    requests = queries(20)
    assert complete(requests) == complete(requests[::-1])


def test_a_stop_string_split_over_tokens_ends_the_answer() -> None:
    text = b"abc # Query: c\n## Query: d\n# Queries\n# Query: more"

    def script(sequence: list[int]) -> int:
        return text[(len(sequence) - len(PREFIX) - 1) % len(text)]

    done = complete([Request("a", PREFIX + "q", 100, ("# Query", "#Query"))], model=FakeModel(script=script))["a"]
    assert (done.finish_reason, done.raw_text) == ("stop", "abc # Query: c\n## Query: d\n# Queries\n# Query:")
    assert (done.tokens, done.end_token) == (tuple(done.raw_text.encode()), None)


def test_a_plain_stop_ends_the_answer_wherever_it_stands() -> None:
    text = b"one\ntwo\nA: "

    def script(sequence: list[int]) -> int:
        return text[(len(sequence) - len(PREFIX) - 1) % len(text)]

    for stop in ("e\ntwo\nA", "A:"):
        done = complete([Request("a", PREFIX + "q", 100, (stop,))], model=FakeModel(script=script))["a"]
        assert (done.finish_reason, done.raw_text) == ("stop", "one\ntwo\nA:"[: 9 + (stop == "A:")])


def test_the_token_that_ended_an_answer_is_named() -> None:
    done = complete([Request("a", PREFIX + "q", 5)], model=FakeModel(script=lambda sequence: EOG))["a"]
    assert (done.finish_reason, done.raw_text, done.tokens, done.end_token) == ("eog", "", (EOG,), "<end>")


def test_characters_of_several_bytes_are_never_torn_but_at_the_limit() -> None:
    text = "né€😀".encode()

    def script(sequence: list[int]) -> int:
        return text[(len(sequence) - len(PREFIX) - 1) % len(text)]

    whole = complete([Request("a", PREFIX + "q", len(text))], model=FakeModel(script=script))["a"]
    cut = complete([Request("a", PREFIX + "q", len(text) - 1)], model=FakeModel(script=script))["a"]
    assert whole.raw_text == "né€😀"
    assert cut.raw_text == "né€\ufffd"


def test_an_end_of_generation_token_ends_the_answer_and_leaves_no_text() -> None:
    def script(sequence: list[int]) -> int:
        return EOG if len(sequence) > len(PREFIX) + 3 else 97

    done = complete([Request("a", PREFIX + "q", 100)], model=FakeModel(script=script))["a"]
    assert (done.finish_reason, done.raw_text, done.new_tokens) == ("eog", "aaa", 4)


def test_many_answers_that_end_at_once_need_no_deep_recursion() -> None:
    done = complete(queries(3000), parallel=1, model=FakeModel(script=lambda sequence: EOG))
    assert len(done) == 3000
    assert {c.finish_reason for c in done.values()} == {"eog"}


def test_a_prompt_that_does_not_fit_is_reported_and_the_others_go_on() -> None:
    requests = [*queries(3), Request("long", "y" * 600, 10)]
    done = complete(requests, model=FakeModel(n_ctx_train=512))
    assert done["long"].finish_reason == "prompt_too_long"
    assert done["long"].prompt_tokens == 600
    assert len(done) == 4


def test_the_token_limit_is_bounded_by_the_context() -> None:
    done = complete([Request("a", "z" * 500, 100)], model=FakeModel(n_ctx_train=512, script=lambda s: 97))["a"]
    assert (done.finish_reason, done.new_tokens) == ("length", 12)


def test_a_decode_that_is_interrupted_keeps_what_was_finished() -> None:
    generation = Generation(FakeModel(interrupt_after=30), queries(50, max_tokens=6), EngineOptions(parallel=4))
    done = []
    with pytest.raises(Interrupted):
        done.extend(completion.id for completion in generation)
    assert generation.stats.interrupted
    assert 0 < generation.stats.n_done < 50


def test_a_loop_ends_the_answer_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    class Watch:
        def __init__(self) -> None:
            self.text = ""

        def append(self, text: str) -> bool:
            self.text += text
            return self.text.endswith("aaaaaa")

    monkeypatch.setattr(batching, "LoopWatch", Watch)
    model = FakeModel(script=lambda sequence: 97)
    generation = Generation(model, [Request("a", PREFIX + "q", 100)], EngineOptions(parallel=1, stop_on_loop=True))
    (done,) = generation
    assert (done.finish_reason, done.new_tokens, done.tokens_saved) == ("stopped_on_loop", 6, 94)


def test_a_cached_prefix_is_restored_instead_of_decoded() -> None:
    cache = PrefixCache("model")
    first = Generation(FakeModel(), queries(6), EngineOptions(parallel=2), prefix_cache=cache)
    second = Generation(FakeModel(), queries(6), EngineOptions(parallel=2), prefix_cache=cache)
    assert {c.id: c for c in first} == {c.id: c for c in second}
    assert (first.stats.prefix_source, second.stats.prefix_source) == ("decoded", "cache")
    assert second.stats.prefilled_tokens == first.stats.prefilled_tokens - first.stats.prefix_tokens
