"""The repetition penalty against Transformers' own processor, and the greedy pick."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icl_local.engine.penalty import Seen, greedy, penalise

logits_lists = st.lists(st.floats(-50, 50, width=32), min_size=4, max_size=40)


@given(logits=logits_lists, data=st.data(), penalty=st.sampled_from([0.5, 1.0, 1.1, 1.3, 2.0]))
@settings(max_examples=200, deadline=None)
def test_penalty_equals_transformers_bit_for_bit(logits: list[float], data: st.DataObject, penalty: float) -> None:
    torch = pytest.importorskip("torch")
    from transformers import RepetitionPenaltyLogitsProcessor

    tokens = data.draw(st.lists(st.integers(0, len(logits) - 1), min_size=1, max_size=60))
    scores = torch.tensor([logits], dtype=torch.float32)
    expected = RepetitionPenaltyLogitsProcessor(penalty)(torch.tensor([tokens]), scores.clone())[0].numpy()
    ours = np.array(logits, dtype=np.float32)
    penalise(ours, Seen(tokens).ids, penalty)
    assert ours.tobytes() == expected.tobytes()


@given(st.lists(st.integers(0, 300), max_size=400))
def test_seen_keeps_each_id_once_in_order_of_first_occurrence(tokens: list[int]) -> None:
    half = len(tokens) // 2
    seen = Seen(tokens[:half])
    for token in tokens[half:]:
        seen.add(token)
    assert seen.ids.tolist() == list(dict.fromkeys(tokens))


def test_greedy_takes_the_lowest_id_on_a_tie() -> None:
    logits = np.array([1.0, 3.0, 3.0], dtype=np.float32)
    assert greedy(logits, Seen([]).ids, 1.1) == 1


def test_greedy_turns_away_from_a_repeated_token() -> None:
    assert greedy(np.array([1.05, 1.0], dtype=np.float32), Seen([0]).ids, 1.1) == 1
    assert greedy(np.array([-1.0, -1.05], dtype=np.float32), Seen([0]).ids, 1.1) == 1
