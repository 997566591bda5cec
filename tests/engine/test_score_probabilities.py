"""Probabilities of scores from logits."""

from __future__ import annotations

import math

import numpy as np
import pytest

from icl_local.engine.score_probabilities import before_score, score_probabilities, value_of


def test_probabilities_are_the_softmax_added_up_by_value() -> None:
    pieces = [b"4", b" 4", b"4}", b" 4}", b"5", b'"', b' "N', b" ", b"1"]
    logits = np.array([1.5, -2.0, 0.25, 3.0, 2.75, -1.0, 0.5, -3.5, 0.0], dtype=np.float32)
    weights = [math.exp(x) for x in logits.tolist()]
    total = math.fsum(weights)
    expected = {0: [8], 3: [0, 1, 2, 3], 4: [4], 5: [5, 6], 6: [7]}
    found = score_probabilities(logits, pieces)
    assert len(found) == 7
    for value, p in enumerate(found):
        assert p == pytest.approx(math.fsum(weights[i] for i in expected.get(value, [])) / total, abs=1e-12)
    assert math.fsum(found) == pytest.approx(1, abs=1e-12)
    assert value_of(pieces[int(logits.argmax())]) == max(range(7), key=found.__getitem__) == 3


def test_large_logits_do_not_overflow() -> None:
    found = score_probabilities(np.array([9e4, 9e4], dtype=np.float32), [b"2", b"3"])
    assert found == (0, 0.5, 0.5, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("output", "yes"),
    [
        (b'{"clarity": {"reason": "ok", "score":', True),
        (b'"score": ', True),
        (b'"score"', False),
        (b'"score": 4', False),
    ],
)
def test_a_score_is_read_where_it_begins(output: bytes, yes: bool) -> None:
    assert before_score(output) is yes
