"""What prompts share: the tokens that are decoded, counted on a fake model, and the bits on a real one."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icl_local.engine import EngineOptions, Request, Worker
from icl_local.engine.batching import Generation
from icl_local.engine.exact import WORDS
from icl_local.engine.sequences import n_shared, prefill_steps, tokens_to_prefill
from tests.fake_model import FakeModel

RNG = random.Random(7)
POOL = [
    f"# Query:\n{' '.join(RNG.choices(WORDS, k=12))}\n# Answer:\n{' '.join(RNG.choices(WORDS, k=30))}\n"
    for _ in range(24)
]
OWN = "".join(POOL[:3])


def prompts(n: int, examples: Callable[[random.Random], str]) -> list[str]:
    """Return prompts of an instruction, examples, and a query."""
    rng = random.Random(11)
    return [
        f"# Instruction\n{examples(rng)}# Query:\n{' '.join(rng.choices(WORDS, k=9))}\n# Answer:\n" for _ in range(n)
    ]


KINDS: dict[str, Callable[[random.Random], str]] = {
    "three own": lambda rng: OWN,
    "three own, one retrieved": lambda rng: OWN + rng.choice(POOL[3:]),
    "three retrieved": lambda rng: "".join(rng.sample(POOL, 3)),
    "one of a pool of 20": lambda rng: rng.choice(POOL[4:]),
    "no example": lambda rng: "",
}


@pytest.mark.parametrize("parallel", [1, 16])
@pytest.mark.parametrize("kind", KINDS)
def test_what_prompts_share_is_decoded_once(kind: str, parallel: int) -> None:
    texts = prompts(200, KINDS[kind])
    model = FakeModel()
    requests = [Request(str(i), text, 1 + i % 9, ignore_eog=True) for i, text in enumerate(texts)]
    random.Random(3).shuffle(requests)
    generation = Generation(model, requests, EngineOptions(parallel=parallel))
    assert len(list(generation)) == len(texts)
    tree = len({prompt[:end] for prompt in map(str.encode, texts) for end in range(1, len(prompt) + 1)})
    assert tree <= tokens_to_prefill([model.tokenize(text) for text in texts]) <= tree + 2 * len(texts)
    assert generation.stats.prefilled_tokens <= 1.1 * tree


def test_the_prompt_of_several_requests_is_decoded_once() -> None:
    requests = [
        Request(f"{i} {draw}", text, 5) for i, text in enumerate(prompts(10, KINDS["no example"])) for draw in range(4)
    ]
    once = Generation(FakeModel(), requests[::4], EngineOptions(parallel=4))
    four = Generation(FakeModel(), requests, EngineOptions(parallel=4))
    assert (len(list(once)), len(list(four))) == (10, 40)
    assert four.stats.prefilled_tokens <= once.stats.prefilled_tokens + 2 * 30


def test_what_prompts_share_changes_no_bit_of_their_logits(tiny_gguf: Path) -> None:
    kinds = [KINDS["three own, one retrieved"], KINDS["one of a pool of 20"], KINDS["no example"]]
    texts = [text for kind in kinds for text in prompts(21, kind)]
    requests = [Request(str(i), text, 3 + i % 4, ignore_eog=True) for i, text in enumerate([*texts, texts[0]])]
    with Worker(tiny_gguf, EngineOptions(threads=1, trace=True)) as worker:
        alone = {one.id: one for one in worker.generate(requests, parallel=1, share_prefix=False)}
        shuffled = random.Random(5).sample(requests, len(requests))
        together = {one.id: one for one in worker.generate(shuffled, parallel=16)}
        shared = worker.stats.prefilled_tokens
        resumed = [one for half in (shuffled[:40], shuffled[40:]) for one in worker.generate(half, parallel=5)]
    assert len(alone) == 64
    assert together == {one.id: one for one in resumed} == alone
    assert shared < 0.5 * sum(one.prompt_tokens for one in alone.values())


TOKENS = st.lists(st.integers(0, 2), min_size=1, max_size=8)


@given(held=TOKENS, prompt=TOKENS, most=st.none() | st.integers(0, 9))
def test_a_prompt_keeps_what_it_shares_and_leaves_two_tokens(
    held: list[int], prompt: list[int], most: int | None
) -> None:
    kept = n_shared(held, prompt, most=most)
    assert prompt[:kept] == held[:kept]
    assert kept == 0 or (kept <= len(prompt) - 2 and (most is None or kept <= most))
    longer = kept + 1
    if len(held) > 1 and longer <= min(len(held), len(prompt) - 2, 9 if most is None else most):
        assert prompt[:longer] != held[:longer]


@given(
    lengths=st.dictionaries(st.integers(0, 20), st.integers(1, 90), min_size=1, max_size=12),
    n_ubatch=st.sampled_from([8, 64, 512]),
)
def test_prefill_covers_every_token_in_bounded_steps(lengths: dict[int, int], n_ubatch: int) -> None:
    left = dict(lengths)
    for step in prefill_steps(sorted(lengths.items()), n_ubatch=n_ubatch):
        counts = {count for _, count in step}
        sequences = [sequence for sequence, _ in step]
        assert len(counts) == 1
        assert sequences == list(range(sequences[0], sequences[0] + len(step)))
        assert len(step) * counts.pop() <= n_ubatch
        for sequence, count in step:
            assert count >= 2 or lengths[sequence] == 1
            left[sequence] -= count
    assert set(left.values()) == {0}
