"""Corrected means and differences, and the judge's bias, against statsmodels, scipy and the estimator in numpy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import duckdb
import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats

from icl_local import store
from tests import reference
from tests.results import regression_estimator
from tests.results.labelled_frames import NA, Array, Frame, database, rows
from tests.results.regression_estimator import Labels

NAN = np.nan
RANDOM = np.random.default_rng(17)


def scores(*shape: int) -> Array:
    return RANDOM.integers(1, 6, shape).astype(float)


def first(y: Array, n: int) -> Array:
    """Return labels of the first ``n`` answers alone."""
    return np.where(np.arange(y.shape[-1]) < n, y, NAN)


def frames() -> dict[str, Frame]:
    f = scores(60)
    y = np.clip(f + RANDOM.integers(-1, 2, 60), 1, 5)
    with_na = np.where(RANDOM.random(60) < 0.2, NA, y)
    f_with_na = np.where(RANDOM.random(60) < 0.1, NA, np.where(RANDOM.random(60) < 0.1, NAN, f))
    strata = [f"multi {'abc'[i % 3]}" for i in RANDOM.integers(0, 30, 60)]
    return {
        "plain": Frame(f, first(y, 25)[None]),
        "constant judge": Frame(np.full(60, 5.0), first(y, 25)[None]),
        "perfect judge": Frame(y, first(y, 25)[None]),
        "constant labels": Frame(f, first(np.full(60, 4.2), 25)[None]),
        "not applicable": Frame(f_with_na, first(with_na, 30)[None]),
        "strata": Frame(f, np.where(np.array(strata) == "multi a", y, first(y, 35))[None], strata),
        "two raters": Frame(f, np.stack([first(y, 25), first(scores(60), 15)])),
        "nothing applies": Frame(f, first(np.full(60, NA), 25)[None]),
        "few": Frame(f, first(y, 9)[None]),
        "partly judged": Frame(f, first(y, 25)[None]),
    }


FRAMES = frames()


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    made = database(FRAMES)
    number = list(FRAMES).index("partly judged")
    sql = "delete from raw.judgments where judge_id = 'j' and starts_with(response_id, ?)"
    made.execute(sql, [f"{number} 3"])
    yield made
    made.close()


@pytest.fixture(scope="module")
def readings(con: duckdb.DuckDBPyConnection) -> dict[str, dict[str, Any]]:
    names = ("strict", "just_eval")
    return {reading: rows(con, "corrected_means", f"reading = '{reading}'") for reading in names}


@pytest.fixture
def means(readings: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return readings["strict"]


def labels_of(frame: Frame, *, na: float | None = None) -> Labels:
    """Return the labels of a frame; ``na`` is what N/A counts as."""
    f = np.asarray(frame.f, dtype=float)
    y = np.asarray(frame.y, dtype=float)
    f, y = (np.where(one == NA, NAN if na is None else na, one) for one in (f, y))
    there = ~np.isnan(np.asarray(frame.y, dtype=float)).all(axis=0)
    sums, counts = np.nansum(y, axis=0), (~np.isnan(y)).sum(axis=0)
    mean = np.divide(sums, counts, out=np.full(len(f), NAN), where=counts > 0)
    names = sorted(set(frame.stratum or ["multi"]))
    stratum = np.array([names.index(s) for s in frame.stratum or ["multi"] * len(f)])
    sizes = np.bincount(stratum, minlength=len(names)).astype(float)
    h = np.nan_to_num(f - np.nanmean(f))
    return Labels(mean[None, there], h[None, there], stratum[None, there], sizes[None])


@pytest.mark.parametrize("name", [name for name in FRAMES if name not in ("few", "nothing applies", "partly judged")])
@pytest.mark.parametrize("reading", ["strict", "just_eval"])
def test_the_view_is_the_estimator(readings: dict[str, dict[str, Any]], name: str, reading: str) -> None:
    row = readings[reading][name]
    true = regression_estimator.corrected(labels_of(FRAMES[name], na=5.0 if reading == "just_eval" else None))
    for column, value in (("corrected", true.estimate), ("se", true.se), ("ci_low", true.low), ("ci_high", true.high)):
        assert row[column] == pytest.approx(value[0], abs=1e-6 if "ci" in column else 1e-9)


def test_a_corrected_mean_is_the_intercept_of_a_regression(means: dict[str, Any]) -> None:
    row, frame = means["plain"], FRAMES["plain"]
    y, f = np.asarray(frame.y)[0, :25], np.asarray(frame.f)
    ols = sm.OLS(y, sm.add_constant((f - f.mean())[:25])).fit()
    assert row["corrected"] == pytest.approx(ols.params[0], abs=1e-9)
    assert row["se"] ** 2 == pytest.approx(ols.bse[0] ** 2 + (y.var(ddof=1) - ols.mse_resid) / 60, abs=1e-9)
    assert row["slope"] == pytest.approx(ols.params[1], abs=1e-9)
    assert row["lambda"] == pytest.approx(ols.params[1] * 35 / 60, abs=1e-9)
    assert row["r"] == pytest.approx(stats.pearsonr(y, f[:25]).statistic, abs=1e-9)
    assert row["se_frame"] ** 2 == pytest.approx(row["se"] ** 2 - y.var(ddof=1) / 60, abs=1e-9)
    assert row["gain"] == pytest.approx(y.var(ddof=1) / 25 / row["se"] ** 2, abs=1e-9)
    assert (row["n"], row["m"], row["n_na"], row["n_raters"]) == (25, 60, 0, 1)
    assert row["note"] == "fewer than 30 labels"


def test_a_judge_that_does_not_vary_costs_nothing(means: dict[str, Any]) -> None:
    row, y = means["constant judge"], np.asarray(FRAMES["constant judge"].y)[0, :25]
    assert row["corrected"] == pytest.approx(y.mean(), abs=1e-9)
    assert row["se"] == pytest.approx(stats.sem(y), abs=1e-9)
    assert "the judge does not vary" in row["note"]


def test_a_perfect_judge_leaves_the_error_of_the_queries_alone(means: dict[str, Any]) -> None:
    row, frame = means["perfect judge"], FRAMES["perfect judge"]
    y = np.asarray(frame.y)[0, :25]
    assert row["corrected"] == pytest.approx(np.mean(frame.f), abs=1e-9)
    assert row["se"] ** 2 == pytest.approx(y.var(ddof=1) / 60, abs=1e-9)


def test_equal_labels_have_the_interval_of_an_unseen_value(means: dict[str, Any]) -> None:
    row = means["constant labels"]
    assert row["corrected"] == pytest.approx(4.2, abs=1e-9)
    assert row["se"] == 0
    assert row["ci_low"] == pytest.approx(4.2 - 3.2 * (1 - 0.025 ** (1 / 25)), abs=1e-9)


def test_too_few_labels_and_a_frame_without_scores_correct_nothing(means: dict[str, Any]) -> None:
    assert means["few"]["corrected"] is None
    assert means["few"]["ci_low"] is None
    assert means["few"]["note"] == "fewer than 10 labels"
    assert (means["nothing applies"]["n_na"], means["nothing applies"]["corrected"]) == (25, None)
    partly = means["partly judged"]
    y = np.asarray(FRAMES["partly judged"].y)[0, :25]
    assert partly["corrected"] == pytest.approx(y.mean(), abs=1e-9)
    assert partly["note"].startswith("fewer than 30 labels; judged ")


def test_labels_outside_the_sample_do_not_count() -> None:
    frame = FRAMES["plain"]
    y = np.asarray(frame.y).copy()
    y[0, 40:] = 1.0
    found: Any = rows(database({"plain": Frame(frame.f, y, per_cell=25)}), "corrected_means")["plain"]
    assert found["n"] == 25


def test_a_judge_text_with_probabilities_is_not_used_more_often() -> None:
    """The text of 40 scores stands, not one of 32 scores that have a reading more."""
    con = database({"m": Frame(scores(40), scores(40)[None])})
    sql = "select n, m, round(judge_mean, 9), round(corrected, 9), note from corrected_means where reading = 'strict'"
    before = con.execute(sql).fetchall()
    con.execute("insert into raw.judge_templates select * replace ('t2' as template_sha256) from raw.judge_templates")
    con.execute("""
        insert into raw.judgments
        select * replace (
            '2 ' || judgment_id as judgment_id, 't2' as template_sha256, [[0.0, 0, 1, 0, 0, 0]] as probabilities
        )
        from raw.judgments where judge_id = 'j' order by response_id limit 32
    """)
    assert con.execute(sql).fetchall() == before


@pytest.mark.parametrize("constant", [False, True])
def test_differences_are_paired(constant: bool) -> None:
    f, y = [scores(50), scores(50)], [scores(50), scores(50)]
    if constant:
        f = [np.full(50, 4.0), np.full(50, 5.0)]
    labelled = [np.arange(50) < 30, (np.arange(50) >= 5) & (np.arange(50) < 40)]
    made = {
        f"m/{method}": Frame(f[i], np.where(labelled[i], y[i], NAN)[None], method=method)
        for i, method in enumerate(("zero-shot", "urial"))
    }
    con = database(made)
    row: Any = rows(con, "corrected_differences")["m"]
    both = labelled[0] & labelled[1]
    sides = [Labels.of(y[i][None, both], f[i][None, both], np.array([f[i].mean()]), 50) for i in (0, 1)]
    true = regression_estimator.difference(*sides)
    assert (row["n"], row["m"], row["note"]) == (25, 50, None)
    assert row["difference"] == pytest.approx(row["mean_b"] - row["mean_a"], abs=1e-12)
    assert row["judge_difference"] == pytest.approx(f[1].mean() - f[0].mean(), abs=1e-9)
    for column, value in (("difference", true.estimate), ("se", true.se), ("ci_low", true.low)):
        assert row[column] == pytest.approx(value[0], abs=1e-6 if "ci" in column else 1e-9)
    if constant:
        test = stats.ttest_rel(y[1][both], y[0][both])
        assert row["p"] == pytest.approx(test.pvalue, abs=1e-9)
        assert row["t"] == pytest.approx(test.statistic, abs=1e-9)


def test_a_difference_is_that_of_the_corrected_means_where_the_same_queries_are_labelled() -> None:
    y = [first(scores(50), 30) for _ in range(2)]
    made = {f"m/{i}": Frame(scores(50), y[i][None], method=m) for i, m in enumerate(("zero-shot", "urial"))}
    con = database(made)
    sql = "select corrected from corrected_means where reading = 'strict' order by method desc"
    (a,), (b,) = con.execute(sql).fetchall()
    row: Any = rows(con, "corrected_differences")["m"]
    assert row["difference"] == pytest.approx(b - a, abs=1e-9)


def test_a_mark_of_corrected_means_is_by_the_judge_template_that_the_tables_show() -> None:
    """By the few scores of the first template the labels alone decide; by the second, which scored all, the judge."""
    y = np.array([np.full(400, 3.0), np.resize([2.0, 3.0, 3.0, 4.0, 4.0], 400)])
    made = database(
        {
            "M/a": Frame(y[0], first(y[0], 15)[None], method="zero-shot"),
            "M/b": Frame(y[1], first(y[1], 15)[None], method="urial"),
        }
    )
    other = "select * replace ('other' as template_sha256, 'other' as name) from raw.judge_templates"
    made.execute(f"insert into raw.judge_templates {other}")
    copied = "* replace ('other ' || judgment_id as judgment_id, 'other' as template_sha256)"
    made.execute(f"insert into raw.judgments select {copied} from raw.judgments where judge_id = 'j'")
    made.execute(
        "delete from raw.judgments where judge_id = 'j' and template_sha256 <> 'other' "
        "and split_part(response_id, ' ', 2)::integer >= 40"
    )
    made.execute("set variable icl_judge = 'judge'")
    tests = made.execute("select template, p_holm < 0.05 from corrected_differences where reading = 'strict'")
    assert dict(tests.fetchall()) == {"multi": False, "other": True}
    assert made.execute("select distinct template from paper_scores where origin = 'ours'").fetchall() == [("other",)]
    marks = made.execute(store.sql_text("corrected_marks")).fetchall()
    made.close()
    assert marks == [("method", "en", "M", "urial", False, "helpfulness")]


def test_too_few_common_queries_are_no_difference() -> None:
    made = {
        f"m/{method}": Frame(scores(40), np.where(kept, scores(40), NAN)[None], method=method)
        for method, kept in (("zero-shot", np.arange(40) < 20), ("urial", np.arange(40) >= 11))
    }
    row: Any = rows(database(made), "corrected_differences")["m"]
    assert (row["n"], row["difference"], row["note"]) == (9, None, "label the same queries in both cells")


def test_the_bias_of_a_judge_is_a_t_test_with_holm(con: duckdb.DuckDBPyConnection) -> None:
    found: dict[str, Any] = rows(con, "judge_bias")
    row, frame = found["plain"], FRAMES["plain"]
    y, f = np.asarray(frame.y)[0, :25], np.asarray(frame.f)[:25]
    test = stats.ttest_1samp(f - y, 0)
    interval = test.confidence_interval()
    assert row["bias"] == pytest.approx((f - y).mean(), abs=1e-9)
    assert row["p"] == pytest.approx(test.pvalue, abs=1e-9)
    assert (row["ci_low"], row["ci_high"]) == (
        pytest.approx(interval.low, abs=1e-6),
        pytest.approx(interval.high, abs=1e-6),
    )
    assert row["slope"] == pytest.approx(stats.linregress(f, y).slope, abs=1e-9)
    assert row["rmse"] == pytest.approx(np.sqrt(((f - y) ** 2).mean()), abs=1e-9)
    assert row["exact_share"] == pytest.approx((f == y).mean(), abs=1e-9)
    assert [one["p_holm"] for one in found.values()] == pytest.approx(
        reference.holm([one["p"] for one in found.values()]), abs=1e-9
    )


def test_a_rater_can_be_left_out() -> None:
    frame = FRAMES["two raters"]
    con = database({"m": frame})
    con.execute("set variable icl_reference = 'human without 1'")
    row: Any = rows(con, "corrected_means")["m"]
    true = regression_estimator.corrected(labels_of(Frame(frame.f, np.asarray(frame.y)[:1])))
    assert (row["reference"], row["n_raters"], row["n"]) == ("human without 1", 1, 25)
    assert row["corrected"] == pytest.approx(true.estimate[0], abs=1e-9)


def test_a_judge_can_be_the_reference() -> None:
    frame = Frame(scores(40), first(scores(40), 20)[None])
    con = database({"m": frame})
    con.execute("update raw.judges set backend = 'openai', name = 'strong' where judge_id = 'r0'")
    assert rows(con, "corrected_means") == {}
    con.execute("set variable icl_reference = 'strong'")
    row: Any = rows(con, "corrected_means")["m"]
    assert (row["reference"], row["judge"], row["n"]) == ("strong", "judge", 20)
    true = regression_estimator.corrected(labels_of(frame))
    assert row["corrected"] == pytest.approx(true.estimate[0], abs=1e-9)


@pytest.mark.soak
def test_the_estimate_is_that_of_ppi_plus_plus() -> None:
    """Against the authors' package (PyPI ppi-python), which the extras leave out: it brings numba and scikit-learn."""
    ppi_py = pytest.importorskip("ppi_py")
    n, m = 250, 800
    f = scores(m)
    y = np.clip(f + RANDOM.integers(-2, 3, m), 1, 5)
    labels = Labels.of(y[None, :n], f[None, :n], np.array([f.mean()]), m)
    found = regression_estimator.corrected(labels)
    slope = np.cov(y[:n], f[:n], ddof=0)[0, 1] / f[:n].var()
    power = slope * (m - n) / m
    theirs = ppi_py.ppi_mean_pointestimate(y[:n], f[:n], f[n:], lam=power)
    assert found.estimate[0] == pytest.approx(theirs[0], abs=1e-9)
    low, high = ppi_py.ppi_mean_ci(y[:n], f[:n], f[n:], alpha=0.05, lam=power)
    assert found.se[0] == pytest.approx((high - low)[0] / 2 / 1.959964, rel=0.04)
