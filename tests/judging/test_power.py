"""What a number of queries can show."""

from __future__ import annotations

import pytest
from statsmodels.stats.power import NormalIndPower

from icl_local import store
from icl_local.judging import power
from tests import synthetic


@pytest.mark.parametrize("n", power.SIZES)
def test_the_smallest_difference_has_80_percent_power(n: int) -> None:
    found = power.smallest_difference(n, 1.3)
    assert NormalIndPower(ddof=0).power(found / 1.3, n, 0.05, ratio=0) == pytest.approx(0.8, abs=1e-3)


@pytest.mark.parametrize("width", [0.1, 0.2])
def test_the_labels_give_the_half_width(width: float) -> None:
    n = power.labels_needed(width)
    path = synthetic.small()
    ((half,), (less,)) = store.named(path, "half_widths", [[n, n - 2], [power.ANSWERS] * 2, power.CORRELATION]).rows
    assert half == pytest.approx(width, rel=0.08)  # t instead of z
    assert half < less
    assert power.labels_needed(0.01) == power.ANSWERS


def test_a_plan_says_what_was_seen_or_that_it_guesses() -> None:
    path = synthetic.small()
    (judge,) = store.query(path, "select judge from paired_differences group by 1 order by count(*) desc limit 1").rows[
        0
    ]
    guessed = power.notes(path, "nobody", None)
    seen = power.notes(path, judge, 0.001)
    assert "a guess" in guessed[0]
    assert "pairs here" in seen[0]
    assert "$0.10 for 100, $0.30 for 300, $1.00 for 1,000" in seen[1]
    assert len(guessed) == 2
