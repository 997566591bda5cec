"""Agreement of judges and raters, against statsmodels, scipy, krippendorff and brute force."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Any

import duckdb
import krippendorff
import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.inter_rater import cohens_kappa
from statsmodels.stats.multitest import multipletests

from tests.results.labelled_frames import Array, Frame, database

NAN = np.nan
N = 45


def raters(seed: int) -> tuple[Array, Array]:
    """Return a judge's scores (N,), and labels of three raters (3, N) with gaps."""
    random = np.random.default_rng(seed)
    f = random.integers(1, 6, N).astype(float)
    y = np.clip(f + random.integers(-2, 2, (3, N)), 1, 5)
    y[0, 40:], y[1, :8], y[2, 33:] = NAN, NAN, NAN
    return f, y


EN, ES = raters(3), raters(4)


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    made = database({"m/en": Frame(*EN), "m/es": Frame(*ES, language="es")})
    yield made
    made.close()


def rows(con: duckdb.DuckDBPyConnection, sql: str) -> list[dict[str, Any]]:
    found = con.execute(sql)
    names = [column[0] for column in found.description]
    return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def jackknife(statistic: Callable[[Array], float], scores: Array) -> tuple[float, float]:
    """Return the bounds of the interval over the columns of ``scores``."""
    n = scores.shape[1]
    parts = np.array([statistic(np.delete(scores, i, axis=1)) for i in range(n)])
    half = stats.t.ppf(0.975, n - 1) * np.sqrt((n - 1) / n * ((parts - parts.mean()) ** 2).sum())
    whole = statistic(scores)
    return max(-1, whole - half), min(1, whole + half)


def kappa(scores: Array) -> float:
    counts = np.zeros((5, 5))
    np.add.at(counts, tuple(scores.astype(int) - 1), 1)
    return float(cohens_kappa(counts, wt="fc").kappa)


def alpha(scores: Array) -> float:
    return float(krippendorff.alpha(scores, level_of_measurement="interval"))


def correlation(scores: Array) -> float:
    return float(stats.pearsonr(*scores).statistic)


def test_agreement_has_the_intervals_of_a_jackknife_over_queries(con: duckdb.DuckDBPyConnection) -> None:
    found = rows(con, "from judge_agreement where language = 'en' and judge_b = 'judge' and judge_a = 'human:1'")
    ((row,), f, y) = (found, *EN)
    both = np.stack([y[1], f])[:, 8:]
    for name, statistic in (("kappa", kappa), ("alpha", alpha), ("r", correlation)):
        value = row[{"kappa": "kappa_quadratic", "alpha": "alpha_interval", "r": "r"}[name]]
        assert value == pytest.approx(statistic(both), abs=1e-9)
        assert [row[f"{name}_low"], row[f"{name}_high"]] == pytest.approx(jackknife(statistic, both), abs=1e-6)
    assert row["share_top"] == pytest.approx((both == 5).mean(), abs=1e-12)
    assert (row["n"], row["n_queries"], row["backend_a"], row["backend_b"]) == (37, 37, "human", "openai")
    assert {row["language"] for row in rows(con, "from judge_agreement")} == {"en", "es"}


def test_under_ten_queries_agreement_has_no_interval() -> None:
    con = database({"m": Frame(EN[0][:9], EN[1][1:2, 8:17])})
    ((low, value),) = con.execute("select kappa_low, kappa_quadratic from judge_agreement").fetchall()
    assert low is None
    assert value is not None


def test_alpha_of_the_raters_is_krippendorffs(con: duckdb.DuckDBPyConnection) -> None:
    (row,) = rows(con, "from rater_alpha where language = 'en'")
    y = EN[1]
    several = y[:, (~np.isnan(y)).sum(axis=0) > 1]
    assert (row["n_items"], row["n_raters"]) == (several.shape[1], 3)
    assert row["alpha"] == pytest.approx(alpha(y), abs=1e-9)
    assert [row["ci_low"], row["ci_high"]] == pytest.approx(jackknife(alpha, several), abs=1e-6)


def test_a_rater_is_measured_against_the_others(con: duckdb.DuckDBPyConnection) -> None:
    f, y = EN
    (row,) = rows(con, "from rater_influence where language = 'en' and rater = '2'")
    several = ~np.isnan(y[2]) & ~np.isnan(y[:2]).all(axis=0)
    others = np.nanmean(y[:2, several], axis=0)
    own, judge = y[2, several], f[several]
    assert row["n"] == several.sum()
    assert row["r"] == pytest.approx(correlation(np.stack([own, others])), abs=1e-9)
    assert row["judge_r"] == pytest.approx(correlation(np.stack([judge, others])), abs=1e-9)
    assert row["severity"] == pytest.approx((own - others).mean(), abs=1e-9)
    assert row["mean_absolute_error"] == pytest.approx(np.abs(own - others).mean(), abs=1e-9)
    assert row["judge_mean_absolute_error"] == pytest.approx(np.abs(judge - others).mean(), abs=1e-9)


@pytest.mark.parametrize("epsilon", [0.2, 0.0])
def test_the_alternative_annotator_test_is_its_definition(con: duckdb.DuckDBPyConnection, epsilon: float) -> None:
    f, y = EN
    p_values, advantages = [], []
    for j in range(3):
        wins = []
        for i in range(N):
            others = [y[k, i] for k in range(3) if k != j and not np.isnan(y[k, i])]
            if others and not np.isnan(y[j, i]):
                of_judge, of_rater = (-np.sqrt(np.mean((g - np.array(others)) ** 2)) for g in (f[i], y[j, i]))
                wins.append((of_judge >= of_rater, of_rater >= of_judge))
        judge, rater = np.array(wins, dtype=float).T
        if len(wins) >= 30:
            p_values.append(stats.ttest_1samp(rater - judge, epsilon, alternative="less").pvalue)
            advantages.append(judge.mean())
    con.execute("set variable icl_epsilon = ?", [epsilon])
    (row,) = rows(con, "from alt_test where language = 'en'")
    rejected = multipletests(p_values, alpha=0.05, method="fdr_by")[0].sum()
    assert (row["n_raters"], row["n_rejected"]) == (len(p_values), rejected)
    assert row["winning_rate"] == pytest.approx(rejected / len(p_values))
    assert row["passed"] == (rejected / len(p_values) >= 0.5)
    assert row["advantage"] == pytest.approx(np.mean(advantages), abs=1e-9)


def test_the_bias_between_languages_is_a_paired_t_test(con: duckdb.DuckDBPyConnection) -> None:
    (row,) = rows(con, "from language_bias where reading = 'strict'")
    errors = [f - np.nanmean(y, axis=0) for f, y in (EN, ES)]
    test = stats.ttest_rel(errors[1], errors[0])
    assert (row["language_a"], row["language_b"], row["n"]) == ("en", "es", N)
    assert row["bias"] == pytest.approx((errors[1] - errors[0]).mean(), abs=1e-9)
    assert row["p"] == pytest.approx(test.pvalue, abs=1e-9)
    assert row["p_holm"] == pytest.approx(row["p"])
    assert row["ci_low"] == pytest.approx(test.confidence_interval().low, abs=1e-6)


def test_raters_agree_by_language_and_pair(con: duckdb.DuckDBPyConnection) -> None:
    found = rows(con, "select language, judge_a, judge_b from judge_agreement")
    named = [*(f"human:{r}" for r in range(3)), "judge"]
    pairs = {(language, *sorted(pair)) for language in ("en", "es") for pair in combinations(named, 2)}
    assert {(row["language"], *sorted((row["judge_a"], row["judge_b"]))) for row in found} == pairs
