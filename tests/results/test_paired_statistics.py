"""Statistics that stand up to a reviewer: small n, ceilings, repeated queries, one response against one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats
from statsmodels.stats.proportion import confint_proportions_2indep

from icl_local.results import bootstrap
from icl_local.store import Store
from icl_local.store.database import query, reader
from tests import reference
from tests.store.rows import error_row, response

Rows = list[tuple[str, dict[str, object]]]
TIME = "2026-11-01T00:00:00+00:00"


def base(*, models: tuple[str, ...] = ("m",), files: dict[str, str] | None = None) -> Rows:
    """Models, files (sha256 -> type), settings, judges and two judge texts called multi."""
    metrics = ["helpfulness", "clarity", "factuality", "depth", "engagement"]
    rows: Rows = [("models", {"model_id": m, "label": m, "variant": "base", "dpo": False}) for m in models]
    for sha256, quantization in (files or {"g": "Q4_0"}).items():
        file = {"gguf_sha256": sha256, "file_name": sha256, "source": "file", "bytes": 1}
        rows.append(("gguf_files", {**file, "quantization": quantization}))
    settings = {"backend": "llama.cpp", "repetition_penalty": 1.1, "penalty_rule": "transformers"}
    rows.append(("settings", {"settings_id": "s", **settings, "max_tokens": 64, "stop_on_loop": False}))
    rows.append(("judges", {"judge_id": "j", "name": "judge", "backend": "local", "model": "j"}))
    for name in ("t1", "t2"):
        rows.append(("judge_templates", {"template_sha256": name, "name": "multi", "text": name, "metrics": metrics}))
    for method in ("zero-shot", "urial"):
        for language in ("en", "es"):
            prompt = {"prompt_id": f"{method} {language}", "method": method, "language": language}
            rows.append(("prompts", {**prompt, "head": "h", "tail": "t", "stops": ["# Query:"]}))
    return rows


def answered(
    key: str,
    query_id: str,
    method: str,
    *,
    text: str = "",
    looping: bool = False,
    scores: dict[str, float] | None = None,
    language: str = "en",
    sha256: str = "g",
    dataset: str = "just-eval",
    settings_id: str = "s",
) -> Rows:
    """One response with its errors and, by judge text, a verdict of five equal scores."""
    query_key = f"{dataset} {language} {query_id}"
    asked = {"query_key": query_key, "dataset": dataset, "query_id": query_id, "language": language}
    rows: Rows = [
        ("queries", {**asked, "split": "multi", "task": [], "instruction": text or query_id}),
        (
            "responses",
            response(
                key,
                model_id="m",
                query_key=query_key,
                method=method,
                language=language,
                prompt_id=f"{method} {language}",
                gguf_sha256=sha256,
                settings_id=settings_id,
                created_at=TIME,
            ),
        ),
    ]
    rows += [("critical_errors", error_row(key, name, found=looping)) for name in ("infinite_loop", "unintended_code")]
    for template, score in (scores or {}).items():
        verdict = {"judgment_id": f"{key} {template}", "attempt": 1, "response_id": key, "judge_id": "j"}
        given = {"repeat": 0, "status": "ok", "scores": [score] * 5, "not_applicable": [False] * 5}
        rows.append(("judgments", {**verdict, "template_sha256": template, **given, "created_at": TIME}))
    return rows


def filled(path: Path, *parts: Rows, **named: Any) -> Path:
    with Store(path) as target:
        target.put([*base(**named), *(row for part in parts for row in part)])
    return path


def test_two_texts_of_a_query_do_not_multiply_pairs(tmp_path: Path) -> None:
    """Eight queries answered by both methods, and answered once more under an edited query text."""
    parts = []
    for i in range(8):
        for method in ("zero-shot", "urial"):
            looping = method == "zero-shot" and i < 6
            parts += [answered(f"{method}{i}{v}", f"q{i}", method, text=f"{v} {i}?", looping=looping) for v in "ab"]
    db = filled(tmp_path / "x.duckdb", *parts)
    found = query(db, "select n, only_a, only_b, p from error_tests where error = 'infinite_loop'").rows
    assert found == [(8, 6, 0, pytest.approx(0.03125))]


def test_two_judge_texts_of_one_name_are_two_instruments(tmp_path: Path) -> None:
    parts = [
        answered(f"{method}{i}", f"q{i}", method, scores={"t1": 1.0 + i % 4, "t2": 2.0 + i % 3 + (method == "urial")})
        for i in range(13)
        for method in ("zero-shot", "urial")
    ]
    db = filled(tmp_path / "x.duckdb", *parts)
    found = query(
        db,
        "select template_sha256, n, difference from paired_differences "
        "where metric = 'avg' and reading = 'strict' order by all",
    ).rows
    assert found == [("t1", 13, 0.0), ("t2", 13, 1.0)]


def test_across_languages_the_most_used_text_of_a_name_is_compared(tmp_path: Path) -> None:
    parts = [answered(f"en{i}", f"q{i}", "urial", scores={"t1": 3.0, "t2": 1.0}) for i in range(4)]
    parts += [answered(f"en{i}", f"q{i}", "urial", scores={"t1": 3.0}) for i in range(4, 6)]
    parts += [answered(f"es{i}", f"q{i}", "urial", language="es", scores={"t2": 4.0}) for i in range(6)]
    db = filled(tmp_path / "x.duckdb", *parts)
    sql = "select differs_in, n, difference from paired_differences where metric = 'avg' and reading = 'strict'"
    assert query(db, sql).rows == [("language", 6, 1.0)]


def test_a_judge_text_with_probabilities_is_not_used_more_often(tmp_path: Path) -> None:
    """In English t1 scores four queries, with probabilities (a reading more), and t2 five: Spanish meets t2."""
    parts = [answered(f"en{i}", f"q{i}", "urial", scores={"t1": 3.0, "t2": 1.0}) for i in range(4)]
    for table, row in (row for part in parts for row in part):
        if table == "judgments" and row["template_sha256"] == "t1":
            row["probabilities"] = [[0.0, 0.0, 1.0, 0.0, 0.0, 0.0]] * 5
    parts += [answered("en4", "q4", "urial", scores={"t2": 1.0})]
    parts += [answered(f"es{i}", f"q{i}", "urial", language="es", scores={"t2": 4.0}) for i in range(5)]
    db = filled(tmp_path / "x.duckdb", *parts)
    sql = "select n, difference from paired_differences where metric = 'avg' and reading = 'strict'"
    assert query(db, sql).rows == [(5, 3.0)]


def test_a_comparison_across_gguf_types_carries_no_corrected_p(tmp_path: Path) -> None:
    parts = [answered(f"z{i}", f"q{i}", "zero-shot", scores={"t1": 1.0}) for i in range(9)]
    parts += [answered(f"u{i}", f"q{i}", "urial", sha256="h", scores={"t1": 4.0 + i % 2}) for i in range(9)]
    files = {"g": "Q4_0", "h": "F16"}
    db = filled(tmp_path / "x.duckdb", *parts, files=files)
    sql = "select p < 0.001, p_holm, unlike from paired_differences where metric = 'avg' and reading = 'strict'"
    assert query(db, sql).rows == [(True, None, "GGUF types differ (Q4_0, F16)")]
    with Store(db) as target:  # the same type, though fewer answers: this pair is alike
        for i in range(5):
            target.put(answered(f"v{i}", f"q{i}", "urial", scores={"t1": 3.0 + i % 2}))
    found = query(db, "select n, p_holm is not null, unlike from paired_differences where differs_in = 'method'").rows
    assert set(found) == {(5, True, None)}


@pytest.mark.parametrize(
    ("types", "settings", "unlike"),
    [
        (("Q4_0", "Q4_0"), ({"kv_type": "f16"}, {"kv_type": "f32"}), ("KV f16", "KV f32")),
        (("F32", "F32"), ({"kv_type": "f16"}, {"kv_type": "f32"}), ("KV f16", "KV f32")),
        (("Q4_0", "F32"), ({"kv_type": "f16"}, {"kv_type": "f32"}), None),  # each the default of its type
        (("Q4_0", "Q4_0"), ({"chat_date": "2024-07-26"}, {"chat_date": "2025-02-03"}),
         ("date 2024-07-26", "date 2025-02-03")),
        (("Q4_0", "Q4_0"), ({}, {"chat_date": "2025-02-03"}), None),  # a template without a date
        (("Q4_0", "Q4_0"), ({"kv_type": "f16"}, {"penalty_rule": "server:own"}), ("KV f16", "server:own")),
    ],
)  # fmt: skip
def test_cells_with_another_kv_type_or_date_are_unlike(
    tmp_path: Path, types: tuple[str, str], settings: tuple[dict[str, str], ...], unlike: tuple[str, str] | None
) -> None:
    named = [("settings", {"settings_id": f"s{i}", "backend": "-", "max_tokens": 64, **settings[i]}) for i in (0, 1)]
    zero = answered("z", "q", "zero-shot", sha256="a", settings_id="s0")
    other = answered("u", "q", "zero-shot" if types[0] != types[1] else "urial", sha256="b", settings_id="s1")
    db = filled(tmp_path / "x.duckdb", named, zero, other, files=dict(zip("ab", types, strict=True)))
    wanted = unlike and f"settings differ (max_tokens 64, {unlike[0]}; max_tokens 64, {unlike[1]})"
    assert query(db, "select unlike from cell_pairs").rows == [(wanted,)]


def twenty_texts(path: Path, *, copies: int) -> Path:
    """20 texts answered by both methods; every text is that of ``copies`` queries with equal scores."""
    parts = [
        answered(f"{method}{i}-{c}", f"q{i}-{c}", method, text=f"{i}?", scores={"t1": 1.0 + (7 * i + len(method)) % 5})
        for i in range(20)
        for c in range(copies)
        for method in ("zero-shot", "urial")
    ]
    return filled(path, *parts)


def test_a_query_twice_leaves_the_error_as_it_was(tmp_path: Path) -> None:
    def study(copies: int) -> list[tuple[Any, ...]]:
        db = twenty_texts(tmp_path / f"{copies}.duckdb", copies=copies)
        means = "select method, mean, se, df from score_means where metric = 'avg' and reading = 'strict' order by 1"
        pairs = "select difference, se, df from paired_differences where metric = 'avg' and reading = 'strict'"
        return [*query(db, means).rows, *query(db, pairs).rows]

    for once, twice in zip(study(1), study(2), strict=True):
        assert twice[-1] == once[-1] == 19
        assert twice[-2] == pytest.approx(once[-2], abs=1e-9)


def resampled(db: Path, *, samples: int, seed: int) -> dict[str, tuple[Any, ...]]:
    """Return mean, se, ci_low, ci_high and n of avg by method, and of the difference between the methods."""
    for pairs in (False, True):
        bootstrap.run(db, samples=samples, seed=seed, pairs=pairs)
    columns, where = "se, ci_low, ci_high, n", f"where metric = 'avg' and samples = {samples} and seed = {seed}"
    found = query(
        db,
        f"select method, mean, {columns} from bootstrap_intervals {where} union all "
        f"select 'difference', difference, {columns} from bootstrap_differences {where}",
    )
    assert len(found.rows) == 3
    return {name: tuple(values) for name, *values in found.rows}


def test_the_bootstrap_of_repeated_texts_has_the_clustered_error(tmp_path: Path) -> None:
    """With clusters of one size the variance of a sample's mean is (C - 1) / C times the clustered se squared."""
    db, samples = twenty_texts(tmp_path / "x.duckdb", copies=2), 20_000
    exact = dict(query(db, "select method, se from score_means where metric = 'avg' and reading = 'strict'").rows)
    sql = "select se from paired_differences where metric = 'avg' and reading = 'strict'"
    exact["difference"] = query(db, sql).rows[0][0]
    for name, (_, se, _, _, n) in resampled(db, samples=samples, seed=1).items():
        assert n == 40
        # a standard deviation of S draws has a relative standard error of 1 / sqrt(2 S)
        assert se == pytest.approx(exact[name] * (19 / 20) ** 0.5, rel=5 / (2 * samples) ** 0.5)


def test_the_bootstrap_is_naive_resampling_of_clusters(tmp_path: Path) -> None:
    """60 queries in 23 clusters of 1 to 5; a tenth of the answers of urial have no score."""
    random, samples = np.random.default_rng(8), 20_000
    frame = pd.DataFrame({"cluster": np.sort(random.integers(0, 25, 60))})
    level = random.integers(1, 5, 25)[frame["cluster"]]
    frame["zero-shot"] = level + random.integers(0, 2, 60)
    frame["urial"] = np.where(random.random(60) < 0.1, np.nan, 5 - level + random.integers(0, 2, 60))
    frame["difference"] = frame["urial"] - frame["zero-shot"]
    parts = [
        answered(
            f"{method}{i}",
            f"q{i}",
            method,
            text=f"{row['cluster']}?",
            scores={} if np.isnan(row[method]) else {"t1": float(row[method])},
        )
        for i, row in frame.iterrows()
        for method in ("zero-shot", "urial")
    ]
    found = resampled(filled(tmp_path / "x.duckdb", *parts), samples=samples, seed=2)
    for name, (mean, se, low, high, n) in found.items():
        clusters = frame.dropna(subset=name).groupby("cluster")[name].agg(["sum", "size"]).to_numpy()
        drawn = clusters[random.integers(0, len(clusters), (samples, len(clusters)))].sum(axis=1)
        naive = drawn[:, 0] / drawn[:, 1]
        assert n == frame[name].count()
        assert mean == pytest.approx(frame[name].mean(), abs=1e-9)
        # five standard errors of a difference between two standard deviations, and between two 2.5 % quantiles of
        # a normal distribution, of S draws each: sd / sqrt(S) and 3.8 sd / sqrt(S)
        assert se == pytest.approx(naive.std(), abs=5 * naive.std() / samples**0.5)
        expected = np.quantile(naive, [0.025, 0.975])
        assert np.abs(expected - [low, high]).max() < 5 * 3.8 * naive.std() / samples**0.5


def test_resampled_means_have_the_mean_of_naive_resampling() -> None:
    sums, sizes, counts = np.array([2.0, 3.0, 9.0]), np.array([1, 1, 2]), np.array([9, 7, 4])
    clusters = np.repeat(np.column_stack([sums, sizes]), counts, axis=0)
    samples = 50_000
    drawn = clusters[np.random.default_rng(3).integers(0, 20, (samples, 20))].sum(axis=1)
    naive = drawn[:, 0] / drawn[:, 1]
    ours = bootstrap.resampled_means(sums, sizes, counts, samples=samples, stream=4)
    assert ours.shape == (samples,)
    assert ours.mean() == pytest.approx(naive.mean(), abs=5 * naive.std() * (2 / samples) ** 0.5)
    assert ours.std() == pytest.approx(naive.std(), abs=5 * naive.std() / samples**0.5)


def test_a_bootstrap_is_computed_once_and_again_only_for_other_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = twenty_texts(tmp_path / "x.duckdb", copies=2)
    first = resampled(db, samples=200, seed=5)
    with monkeypatch.context() as patch:
        patch.setattr(bootstrap, "resampled_means", lambda *_, **__: pytest.fail("computed again"))
        bootstrap.run(db, samples=200, seed=5)
        bootstrap.run(db, samples=200, seed=5, pairs=True)
    with duckdb.connect(str(db)) as con:
        con.execute("delete from raw.bootstraps")
    with Store(db) as target:
        target.put(answered("one more", "one more", "urial", scores={"t1": 3.0}))
    second = resampled(db, samples=200, seed=5)
    assert {name for name in first if second[name] != first[name]} == {"urial"}


def test_clustered_errors_are_those_of_ols(tmp_path: Path) -> None:
    scores = np.random.default_rng(4).integers(1, 6, 60).astype(float)
    clusters = np.array([i % 47 for i in range(60)])
    parts = [
        answered(f"r{i}", f"q{i}", "urial", text=f"{cluster}?", scores={"t1": score})
        for i, (score, cluster) in enumerate(zip(scores, clusters, strict=True))
    ]
    db = filled(tmp_path / "x.duckdb", *parts)
    fitted = sm.OLS(scores, np.ones(60)).fit(cov_type="cluster", cov_kwds={"groups": pd.factorize(clusters)[0]})
    # statsmodels multiplies by (n - 1) / (n - K) = 1 with K = 1
    found = query(db, "select se, df from score_means where metric = 'avg' and reading = 'strict'").rows
    assert found == [(pytest.approx(fitted.bse[0], abs=1e-9), 46)]


def test_rows_of_an_earlier_detector_are_not_pooled(tmp_path: Path) -> None:
    parts = [answered(f"r{i}", f"q{i}", "urial", looping=i == 0) for i in range(4)]
    db = filled(tmp_path / "x.duckdb", *parts)
    with Store(db) as target:
        later = [("critical_errors", error_row(f"r{i}", "infinite_loop", version="2")) for i in range(1, 3)]
        target.put(later)
    assert query(db, "select n_errors, n from error_rates where error = 'infinite_loop'").rows == [(0, 2)]


def test_printed_means_are_measured_quantities(study: Path) -> None:
    found = query(
        study,
        "select p.ours, p.published, p.difference_low, p.difference_high, p.published_se, m.sd, m.se, m.df, p.metric "
        "from versus_paper as p join score_means as m on m.model = p.model and m.method = p.method "
        "and m.language = p.language and m.dpo = p.dpo and m.metric = p.metric and m.judge = p.judge "
        "and m.reading = p.reading and m.in_paper_tables and m.n = p.n where p.n >= 30",
    ).rows
    assert len(found) > 100
    for ours, printed, low, high, printed_se, sd, se, df, metric in found:
        variance = sd**2 / (200 if metric == "safety" else 800) + 0.01**2 / 12
        assert printed_se == pytest.approx(variance**0.5, abs=1e-9)
        half = stats.t.ppf(0.975, df) * (se**2 + variance) ** 0.5
        assert (low, high) == (
            pytest.approx(ours - printed - half, abs=1e-6),
            pytest.approx(ours - printed + half, abs=1e-6),
        )


def test_printed_rates_are_compared_by_newcombes_interval(study: Path) -> None:
    found = query(
        study,
        "select ours, published, n, difference_low, difference_high from versus_paper "
        "where metric in ('infinite_loop', 'unintended_code') and ours is not null",
    ).rows
    assert len(found) == 70
    for ours, printed, n, low, high in found:
        expected = confint_proportions_2indep(
            round(ours * n / 100), n, round(10 * printed), 1000, method="newcomb", compare="diff"
        )
        assert (low, high) == (
            pytest.approx(100 * expected[0], abs=1e-6),
            pytest.approx(100 * expected[1], abs=1e-6),
        )


def test_length_effect_is_ols_with_a_dummy_per_cell_clustered_by_query(tmp_path: Path) -> None:
    random = np.random.default_rng(6)
    frame = pd.DataFrame(
        [
            {
                "cell": method,
                "query": i,
                "text": "x" * int(random.integers(20, 900)),
                "score": float(random.integers(1, 6)),
            }
            for method in ("zero-shot", "urial")
            for i in range(30)
        ]
    )
    parts = [
        [
            (table, {**values, "text": row["text"]} if table == "responses" else values)
            for table, values in answered(
                f"{row['cell']}{row['query']}", f"q{row['query']}", row["cell"], scores={"t1": row["score"]}
            )
        ]
        for row in frame.to_dict("records")
    ]
    db = filled(tmp_path / "x.duckdb", *parts)
    design = pd.get_dummies(frame["cell"]).astype(float).assign(x=frame["text"].str.len() / 1000)
    fitted = sm.OLS(frame["score"], design).fit(cov_type="cluster", cov_kwds={"groups": frame["query"]})
    found = query(db, "select slope_per_1000_characters, slope_se from length_effect where metric = 'depth'").rows
    assert found == [(pytest.approx(fitted.params["x"], abs=1e-9), pytest.approx(fitted.bse["x"], abs=1e-9))]


@pytest.mark.parametrize("name", ["study", "complicated"])
def test_holm_is_statsmodels_over_all_metrics_of_a_table(name: str, request: pytest.FixtureRequest) -> None:
    columns = "family, judge, template, reading, p, p_holm, n_tests"
    sql = f"select {columns} from paired_differences where p is not null and unlike is null"
    found = pd.DataFrame(query(request.getfixturevalue(name), sql).rows, columns=columns.split(", "))
    families = found.groupby(["family", "judge", "template", "reading"])
    assert {"table_1", "table_2", "table_3", "model", "language"} <= set(found["family"])
    for _, family in families:
        corrected = reference.holm(family["p"])
        assert (np.abs(family["p_holm"] - corrected) < 1e-9).all()
        assert (family["n_tests"] == len(family)).all()


STATEMENTS = (
    "Medium models, three languages, zero-shot: five-aspect mean",
    "Small less medium models, English, instruct: five-aspect mean",
    "Small less medium models, English, URIAL: safety",
    "DPO, Llama3.2 1B, URIAL: infinite loops in percentage points",
)


@pytest.mark.parametrize("statement", STATEMENTS)
def test_intervals_of_sentences_are_those_of_a_regression_on_cells(complicated: Path, statement: str) -> None:
    """A sentence is a weighted sum of cell means whose models and languages share queries: OLS on the cells, clustered
    by query, and the t test of the weights.
    """
    with reader(complicated) as con:
        found = con.execute("select * from text_intervals where origin = 'ours' and statement = ?", [statement]).df()
        rows = con.execute(
            """
            with
            answers as (
                select response_id, cell_id, same.first_id
                from responses
                join (
                    select query_key, min(query_id) over (partition by dataset, language, instruction) as first_id
                    from raw.queries
                ) as same using (query_key)
            ),
            observed as (
                select response_id, judge_id, template_sha256, reading, metric, score
                from (unpivot response_scores on avg, safety into name metric value score)
                union all
                select response_id, null, null, null, error, 100.0 * failed::integer from response_errors
            )
            select cells.cell_id, sign, first_id as query, score
            from statement_cells as cells
            join published_statements as claims on claims.statement = cells.statement
            join answers on answers.cell_id = cells.cell_id
            join observed on observed.response_id = answers.response_id and observed.metric = cells.metric
            where origin = 'ours' and claims.text = ?
                and observed.template_sha256 is not distinct from cells.template_sha256
                and observed.judge_id is not distinct from cells.judge_id
                and observed.reading is not distinct from cells.reading
            """,
            [statement],
        ).df()
    dummies = pd.get_dummies(rows["cell_id"]).astype(float)
    signs = rows.groupby("cell_id")["sign"].first()
    weights = signs / signs.groupby(signs).transform("size")
    fit = sm.OLS(rows["score"], dummies).fit(cov_type="cluster", cov_kwds={"groups": pd.factorize(rows["query"])[0]})
    tested = fit.t_test(weights[dummies.columns].to_numpy())
    (row,) = found.to_dict("records")
    assert row["n_cells"] == dummies.shape[1]
    assert row["df"] == rows["query"].nunique() - 1
    assert row["value"] == pytest.approx(float(tested.effect[0]), abs=1e-9)
    assert row["se"] == pytest.approx(float(np.ravel(tested.sd)[0]), abs=1e-9)
    half = stats.t.ppf(0.975, row["df"]) * row["se"]
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((row["value"] - half, row["value"] + half), abs=1e-6)
