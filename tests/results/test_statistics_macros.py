"""Macros of db/macros/statistics.sql against scipy and statsmodels, and the rate of false stars."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from icl_local import resources


@pytest.fixture(scope="module")
def macros() -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection to the macros of db/macros/statistics.sql alone."""
    with duckdb.connect() as con:
        con.execute(resources.read_text("db", "macros/statistics.sql"))
        yield con


@pytest.fixture(scope="module")
def macro(macros: duckdb.DuckDBPyConnection) -> Callable[..., Any]:
    """Call a macro of db/macros/statistics.sql."""

    def call(name: str, *values: float) -> Any:
        found = macros.execute(f"select main.{name}({', '.join('?' * len(values))})", list(values)).fetchone()
        assert found is not None
        return found[0]

    return call


@pytest.mark.parametrize("df", [*range(1, 41), 99, 250, 799, 999, 74_000])
def test_t_quantile_is_scipys(macro: Callable[..., Any], df: int) -> None:
    assert macro("t_quantile", df) == pytest.approx(stats.t.ppf(0.975, df), abs=1e-6)


@pytest.mark.parametrize("df", [1, 2, 3, 4, 9, 10, 31, 100, 799, 1598])
@pytest.mark.parametrize("t", [0.0, 0.1, -1.0, 1.96, 5.0, 30.0])
def test_t_two_sided_is_scipys(macro: Callable[..., Any], t: float, df: int) -> None:
    assert macro("t_two_sided", t, df) == pytest.approx(2 * stats.t.sf(abs(t), df), abs=1e-9)


@pytest.mark.parametrize(("mean", "se", "n", "q"), [(4.2, 0.1, 50, 2.0), (1.0, 0.1, 9, 2.3), (3.0, 0.02, 1000, 1.96)])
def test_score_bounds_are_wilsons_with_the_effective_size(
    macro: Callable[..., Any], mean: float, se: float, n: int, q: float
) -> None:
    share = (mean - 1) / 4
    size = share * (1 - share) / (se / 4) ** 2 if 0 < share < 1 else n
    low, high = proportion_confint(share * size, size, alpha=2 * stats.norm.sf(q), method="wilson")
    assert macro("score_low", mean, se, n, q) == pytest.approx(1 + 4 * low, abs=1e-9)
    assert macro("score_high", mean, se, n, q) == pytest.approx(1 + 4 * high, abs=1e-9)


def test_two_hundred_fives_are_not_certainly_five(macro: Callable[..., Any]) -> None:
    assert macro("score_low", 5.0, 0.0, 200, 2.0) == pytest.approx(5 - 4 * stats.beta.ppf(0.975, 1, 200), abs=1e-9)
    assert round(macro("score_low", 5.0, 0.0, 200, 2.0), 2) == 4.93
    assert macro("score_high", 5.0, 0.0, 200, 2.0) == 5.0


def test_families_without_any_difference_seldom_carry_a_star(macros: duckdb.DuckDBPyConnection) -> None:
    """Each of 2,000 families has 64 independent paired tests of 12 queries without a difference."""
    families, tests, n = 2000, 64, 12
    differences = np.random.default_rng(5).normal(size=(families * tests, n))
    drawn = pd.DataFrame(
        {
            "family": np.repeat(np.arange(families), tests),
            "difference": differences.mean(axis=1),
            "se": differences.std(axis=1, ddof=1) / np.sqrt(n),
        }
    )
    sql = """
        with
        tested as (select family, main.difference_p(difference, se, $n, $n - 1) as p from drawn),
        ranked as (select family, p, main.holm_place(family, false, p) as place from tested),
        corrected as (select family, p, main.holm_p(family, place, $tests, p) as p_holm from ranked),
        starred as (select min(p) < 0.05 as plain, min(p_holm) < 0.05 as holm from corrected group by family)
        select avg(plain::integer), avg(holm::integer) from starred
    """
    with macros.cursor() as con:
        con.register("drawn", drawn)
        found = con.execute(sql, {"n": n, "tests": tests}).fetchone()
    assert found is not None
    without, with_holm = found
    assert without > 0.9  # 1 - 0.95 ** 64 is 0.962
    assert 0.03 < with_holm < 0.07  # 1 - (1 - 0.05 / 64) ** 64 is 0.049, four of its standard deviations 0.019
