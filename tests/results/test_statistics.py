"""The statistics that views compute in SQL, against scipy and statsmodels to 1e-9."""

from __future__ import annotations

import shutil
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.weightstats import DescrStatsW

from icl_local import resources
from icl_local.cli import icl
from icl_local.results import bootstrap
from tests import reference, synthetic

JUDGE = "openai:synthetic-judge"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A small study to write to."""
    return Path(shutil.copy(synthetic.made(80, 2), tmp_path / "b.duckdb"))


def same(ours: object, theirs: object) -> bool:
    return bool(np.isclose(float(ours), float(theirs), rtol=0, atol=1e-9, equal_nan=True))  # type: ignore[arg-type]


def cell_of(pair: pd.Series, side: str) -> dict[str, object]:
    return {name: pair[f"{name}_{side}"] for name in reference.CELL}


def part(frame: pd.DataFrame, cell: dict[str, object]) -> pd.DataFrame:
    return frame[np.logical_and.reduce([frame[name] == value for name, value in cell.items()])]


def test_intervals_of_means_are_those_of_scipy(study: Path) -> None:
    found = reference.view(study, "score_means")
    wide = reference.verdicts(study, "strict")
    for row in found[found["reading"] == "strict"].sample(25, random_state=1).to_dict("records"):
        column = "language score" if row["metric"] == "language" else row["metric"]
        scores = part(wide, {name: row[name] for name in reference.CELL})[column].dropna()
        assert row["n"] == len(scores)
        assert same(row["mean"], np.mean(scores))
        assert same(row["sd"], stats.tstd(scores))
        assert same(row["se"], stats.sem(scores))
        low, high = reference.score_interval(np.mean(scores), stats.sem(scores), len(scores), len(scores) - 1)
        assert row["ci_low"] == pytest.approx(low, abs=1e-7)
        assert row["ci_high"] == pytest.approx(high, abs=1e-7)


def test_wilson_intervals_are_those_of_statsmodels(study: Path, complicated: Path) -> None:
    for path in (study, complicated):
        found = reference.view(path, "error_rates")
        low, high = proportion_confint(found["n_errors"], found["n"], method="wilson")
        assert (np.abs(found["ci_low"] - 100 * low) < 1e-9).all()
        assert (np.abs(found["ci_high"] - 100 * high) < 1e-9).all()
        assert (found["ci_low"] >= 0).all()


@pytest.mark.parametrize("name", ["study", "complicated"])
def test_paired_differences_are_those_of_statsmodels(name: str, request: pytest.FixtureRequest) -> None:
    path = request.getfixturevalue(name)
    found = reference.view(path, "paired_differences")
    pairs = reference.pairs(path)
    kept = found[found["differs_in"] != "quantization"]
    templates = reference.raw(path, "judge_templates")[["template_sha256", "name"]]
    wide = reference.verdicts(path, "strict").merge(templates, on="template_sha256")
    checked = 0
    for row in kept[kept["reading"] == "strict"].sample(60, random_state=2).to_dict("records"):
        at = {name: row[name] for name in ("model", "method", "language", "dpo") if name != row["differs_in"]}
        pair = pairs[(pairs["differs_in"] == row["differs_in"]) & (pairs["a"] == row["a"]) & (pairs["b"] == row["b"])]
        if row["differs_in"] == "dpo":
            pair = pairs[(pairs["differs_in"] == "dpo") & ~pairs["dpo_a"].astype(bool)]
        pair = part(pair, {f"{name}_a": value for name, value in at.items()})
        assert len(pair) == 1
        column = "language score" if row["metric"] == "language" else row["metric"]
        judged = wide[(wide["judge"] == row["judge"]) & (wide["name"] == row["template"])]
        sides = [part(judged, cell_of(pair.iloc[0], side)).set_index("query_id")[column] for side in "ab"]
        both = pd.concat(sides, axis=1, join="inner", keys=["a", "b"]).dropna()
        change = (both["b"] - both["a"]).to_numpy()
        assert row["n"] == len(change)
        described = DescrStatsW(change)
        assert same(row["difference"], described.mean)
        assert same(row["mean_a"], both["a"].mean())
        assert same(row["mean_b"], both["b"].mean())
        if len(change) > 1:
            assert same(row["se"], described.std_mean)
        if len(change) > 1 and np.std(change) > 1e-12:
            assert same(row["dz"], described.mean / np.std(change, ddof=1))
            paired = stats.ttest_rel(both["b"], both["a"])
            assert same(row["t"], paired.statistic)
            assert same(row["p"], paired.pvalue)
            low, high = paired.confidence_interval()
            assert row["ci_low"] == pytest.approx(low, abs=1e-6)
            assert row["ci_high"] == pytest.approx(high, abs=1e-6)
        checked += 1
    assert checked == 60


def test_every_pair_of_cells_that_differ_in_one_thing_is_compared_once(complicated: Path) -> None:
    found = reference.view(complicated, "cell_pairs")
    kept = found[found["differs_in"] != "quantization"]
    assert (
        kept.groupby("differs_in").size().to_dict()
        == (reference.pairs(complicated).groupby("differs_in").size() // 2).to_dict()
    )
    assert set(kept[kept["differs_in"] == "method"]["a"]) == {"zero-shot", "urial"}
    assert set(kept[kept["differs_in"] == "dpo"]["a"]) == {"false"}
    assert not set(kept[kept["differs_in"] == "language"]["b"]) & {"en"}


def test_mcnemar_and_holm_are_those_of_statsmodels(study: Path) -> None:
    found = reference.view(study, "error_tests")
    outcomes = reference.outcomes(study)
    pairs = reference.pairs(study)
    for row in found[found["differs_in"] != "quantization"].sample(40, random_state=3).to_dict("records"):
        at = {name: row[name] for name in ("model", "method", "language", "dpo") if name != row["differs_in"]}
        pair = pairs[pairs["differs_in"] == row["differs_in"]]
        if row["differs_in"] == "dpo":
            pair = pair[~pair["dpo_a"].astype(bool)]
        else:
            pair = pair[(pair["a"] == row["a"]) & (pair["b"] == row["b"])]
        pair = part(pair, {f"{name}_a": value for name, value in at.items()}).iloc[0]
        own = outcomes[outcomes["error"] == row["error"]]
        sides = [part(own, cell_of(pair, side)).set_index("query_id")["failed"] for side in "ab"]
        both = pd.concat(sides, axis=1, join="inner", keys=["a", "b"]).astype(bool)
        table = pd.crosstab(both["a"], both["b"]).reindex(index=[False, True], columns=[False, True], fill_value=0)
        assert row["n"] == len(both)
        assert (row["only_a"], row["only_b"]) == (table.loc[True, False], table.loc[False, True])
        assert same(row["difference"], 100 * (both["b"].mean() - both["a"].mean()))
        assert same(row["p"], mcnemar(table, exact=True).pvalue)
    for _, family in found.groupby("family"):
        corrected = reference.holm(family["p"])
        assert (np.abs(family["p_holm"] - corrected) < 1e-9).all()
        assert (family["n_tests"] == len(family)).all()
    assert set(found["family"]) == {"table_4", "table_6", "table_8", "method", "model", "language", "quantization"}
    assert set(found[found["family"] == "table_8"]["differs_in"]) == {"dpo"}


@pytest.mark.parametrize(
    "only_a, only_b", [(0, 0), (0, 1), (1, 0), (3, 3), (0, 40), (12, 30), (180, 3), (400, 460), (1, 2999), (5000, 5200)]
)
def test_mcnemar_holds_from_no_to_thousands_of_discordant_pairs(only_a: int, only_b: int) -> None:
    with duckdb.connect() as con:
        con.execute(resources.read_text("db", "macros/statistics.sql"))
        found = con.execute("select main.mcnemar_p(?, ?)", [only_a, only_b]).fetchone()
    assert found is not None
    assert same(found[0], mcnemar([[0, only_a], [only_b, 0]], exact=True).pvalue)


def test_quantization_effect_compares_the_same_queries(study: Path) -> None:
    found = reference.view(study, "quantization_effect").set_index(["metric", "reading"])
    texts = reference.responses(study)
    own = texts[(texts["model"] == "Llama3.2 1B") & (texts["method"] == "urial") & ~texts["dpo"]]
    sides = own.pivot_table(index="query_id", columns="quantization", values="text", aggfunc="first")
    same_text = found.loc["same_text"].iloc[0]
    assert same(same_text["mean_b"], 100 * (sides["Q8_0"] == sides["Q4_K_M"]).mean())
    assert (found["quantization_a"] == "Q8_0").all()
    assert (found["quantization_b"] == "Q4_K_M").all()
    wide = reference.verdicts(study, "just_eval")
    wide = wide[(wide["model"] == "Llama3.2 1B") & (wide["method"] == "urial") & ~wide["dpo"]]
    scores = wide.pivot_table(index="query_id", columns="quantization", values="avg")
    change = (scores["Q4_K_M"] - scores["Q8_0"]).dropna()
    row = found.loc[("avg", "just_eval")]
    assert row["n"] == len(change)
    assert same(row["difference"], change.mean())
    high = stats.ttest_rel(scores["Q4_K_M"], scores["Q8_0"], nan_policy="omit").confidence_interval().high
    assert row["ci_high"] == pytest.approx(high, abs=1e-6)


def test_readings_differ_by_what_was_not_applicable(study: Path) -> None:
    means = reference.view(study, "score_means")
    means = means[(means["metric"] == "factuality") & (means["language"] == "en")]
    by_reading = means.pivot_table(index=reference.CELL, columns="reading", values=["mean", "n"])
    assert (by_reading["n"]["just_eval"] > by_reading["n"]["strict"]).all()
    assert (by_reading["mean"]["just_eval"] > by_reading["mean"]["strict"]).all()


def test_the_bootstrap_repeats_itself_and_agrees_with_scipy(copy: Path) -> None:
    path = copy
    count = bootstrap.run(path, samples=2000, seed=7)
    first = reference.view(path, "bootstrap_intervals")
    assert count == len(first) > 100
    assert bootstrap.run(path, samples=2000, seed=7) == count
    assert len(reference.view(path, "bootstrap_intervals")) == count
    bootstrap.run(path, samples=2000, seed=8)
    both = reference.view(path, "bootstrap_intervals").pivot_table(
        index=[*reference.CELL, "metric"], columns="seed", values=["ci_low", "mean"]
    )
    assert (both["ci_low"][7] != both["ci_low"][8]).any()
    assert (both["mean"][7] == both["mean"][8]).all()
    means = reference.view(path, "score_means").query("reading == 'strict'")
    joined = first.merge(means, on=[*reference.CELL, "judge", "metric"], suffixes=("", "_view"))
    assert (np.abs(joined["mean"] - joined["mean_view"]) < 1e-9).all()
    row = joined[joined["metric"] == "avg"].sort_values(reference.CELL).iloc[0]
    scores = part(reference.verdicts(path, "strict"), {name: row[name] for name in reference.CELL})["avg"].dropna()
    theirs = stats.bootstrap((scores,), np.mean, n_resamples=20_000, method="percentile", rng=1)
    spread = stats.sem(scores)
    # the 2.5 % quantile of 2,000 draws has a standard error of 0.06 spreads; 1.96 spreads are not 1.64
    assert row["ci_low"] == pytest.approx(theirs.confidence_interval.low, abs=0.25 * spread)
    assert row["ci_high"] == pytest.approx(theirs.confidence_interval.high, abs=0.25 * spread)
    assert row["se"] == pytest.approx(theirs.standard_error, rel=0.1)


def test_a_bootstrap_row_does_not_depend_on_other_cells(copy: Path) -> None:
    path = copy
    bootstrap.run(path, samples=200, seed=1)
    before = reference.view(path, "bootstrap_intervals")
    with duckdb.connect(str(path)) as con:
        con.execute("delete from raw.bootstraps")
        con.execute(
            "delete from raw.responses where model_id in (select model_id from raw.models where label like 'Euro%')"
        )
    bootstrap.run(path, samples=200, seed=1)
    after = reference.view(path, "bootstrap_intervals")
    keys = [*reference.CELL, "metric"]
    kept = before[~before["model"].str.startswith("Euro")].set_index(keys)["ci_low"].sort_index()
    pd.testing.assert_series_equal(kept, after.set_index(keys)["ci_low"].sort_index(), check_exact=True)


def test_the_bootstrap_command_prints_its_intervals(copy: Path) -> None:
    result = CliRunner().invoke(icl, ["bootstrap", "--samples", "100", "--format", "csv", "--db", str(copy)])
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("quantization,model,method,language,dpo,judge,metric,mean,se,ci_low,ci_high,n\n")
    assert "EuroLLM 9B,urial,fr,false,openai:synthetic-judge,avg," in result.stdout
    header, difference, *_ = (
        CliRunner()
        .invoke(icl, ["bootstrap", "--pairs", "--samples", "100", "--format", "csv", "--db", str(copy)])
        .stdout.splitlines()
    )
    assert header == "differs_in,a,b,model,method,language,dpo,judge,metric,difference,se,ci_low,ci_high,n"
    assert difference.count(",") == header.count(",")


def test_bootstrap_rows_of_two_settings_and_readings_are_told_apart(copy: Path) -> None:
    with duckdb.connect(str(copy)) as con:
        con.execute("""
            update raw.responses set settings_id = 'other'
            where gguf_sha256 in (select gguf_sha256 from raw.gguf_files where quantization = 'Q8_0');
            update raw.gguf_files set quantization = 'Q4_K_M';
        """)
    for reading in ("strict", "just_eval"):
        bootstrap.run(copy, samples=100, reading=reading)
    found = bootstrap.intervals(copy, samples=100, seed=0)
    assert found.columns[:3] == ("settings_id", "reading", "model")
    names = [row[: found.columns.index("mean")] for row in found.rows]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("pairs", [False, True])
def test_bootstrap_rows_of_two_judge_templates_are_told_apart(copy: Path, pairs: bool) -> None:
    """Which of them comes first does not depend on the order in which they were stored."""
    with duckdb.connect(str(copy)) as con:
        con.execute("""
            insert into raw.judge_templates
            select * replace ('0' || template_sha256 as template_sha256) from raw.judge_templates where name = 'multi';
            insert into raw.judgments
            select
                judgment.* replace (
                    '0' || judgment.judgment_id as judgment_id, '0' || judgment.template_sha256 as template_sha256
                )
            from raw.judgments as judgment
            join raw.judge_templates as template on template.template_sha256 = '0' || judgment.template_sha256;
        """)
    bootstrap.run(copy, samples=100, pairs=pairs)
    found = bootstrap.intervals(copy, samples=100, seed=0, pairs=pairs)
    assert "template_sha256" in found.columns
    names = [row[: found.columns.index("difference" if pairs else "mean")] for row in found.rows]
    assert len(set(names)) == len(names)
    with duckdb.connect(str(copy)) as con:
        con.execute("create table turned as select * from raw.bootstraps order by bootstrap_id desc")
        con.execute("delete from raw.bootstraps; insert into raw.bootstraps select * from turned; drop table turned")
    assert bootstrap.intervals(copy, samples=100, seed=0, pairs=pairs).rows == found.rows
