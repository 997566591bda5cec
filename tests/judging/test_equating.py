"""Scores on the scale of another judge: maps, their errors, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

import icl_local
from icl_local import store
from icl_local.exceptions import ConfigError
from icl_local.judging import equate, equating
from icl_local.judging.equating import Array
from tests.results.labelled_frames import Frame, database

NAN = np.nan


def anchors(random: np.random.Generator, systems: int, queries: int, slope: float = 1.3) -> tuple[Array, ...]:
    """Return scores x and y, systems, queries, and the true mean of y of the system, (systems * queries,) each."""
    level = np.repeat(random.normal(3, 0.5, systems), queries)
    taste = np.repeat(random.normal(0, 0.1, systems), queries)
    shared = np.tile(random.normal(0, 0.4, queries), systems)
    true = level + shared + random.normal(0, 0.5, len(level))
    x = true + random.normal(0, 0.4, len(true))
    y = 1 + slope * (true - 1.5) + taste + slope * random.normal(0, 0.4, len(true))
    mean = 1 + slope * (level - 1.5) + taste
    return x, y, np.repeat(np.arange(systems), queries), np.tile(np.arange(queries), systems), mean


def line(x: Array, y: Array) -> tuple[float, float]:
    intercept, slope = equating.lines(equating.moments(x, y)[None], "linear")
    return float(intercept[0]), float(slope[0])


def test_the_linear_map_is_symmetric_and_a_regression_line_is_not() -> None:
    x, y, *_ = anchors(np.random.default_rng(1), 5, 100)
    (a, b), (back_a, back_b) = line(x, y), line(y, x)
    assert back_a + back_b * (a + b * 2.5) == pytest.approx(2.5, abs=1e-9)
    forth, back = stats.linregress(x, y), stats.linregress(y, x)
    assert abs(back.intercept + back.slope * (forth.intercept + forth.slope * 2.5) - 2.5) > 0.01


@pytest.mark.parametrize("at", [-1.0, 0.0, 2.0])
def test_the_error_of_the_map_is_that_of_normal_pairs(at: float) -> None:
    random = np.random.default_rng(2)
    x = random.standard_normal(4000)
    y = 0.6 * x + 0.8 * random.standard_normal(4000)
    queries = np.arange(4000)
    covariance = equating.map_covariance(x, y, queries, method="linear", samples=4000, stream=3)
    point = x.mean() + at * x.std()
    found = covariance[0, 0] + 2 * point * covariance[0, 1] + point**2 * covariance[1, 1]
    r = np.corrcoef(x, y)[0, 1]
    # Kolen and Brennan, linear equating with one group
    assert found == pytest.approx(y.var() * (1 - r) / 4000 * (2 + (1 + r) * at**2), rel=0.1)


def stored(path: Path, sql: str) -> list[dict[str, Any]]:
    return store.query(path, sql).dicts()


def study(folder: Path, x: Array, y: Array, systems: Array, **more: Frame) -> Path:
    """Return a database in which ``judge`` gives x and ``rater`` y, a cell for each system, and further cells."""
    frames = {f"s{s}": Frame(x[systems == s], y[systems == s][None]) for s in np.unique(systems)}
    con = database({**frames, **more})
    con.execute("update raw.judges set backend = 'imported', name = 'old' where judge_id = 'r0'")
    file = con.execute("select path from duckdb_databases() where path is not null").fetchall()[0][0]
    con.close()
    path = folder / "x.duckdb"
    path.write_bytes(Path(file).read_bytes())
    return path


def scale(values: Array) -> Array:
    return np.clip(np.round(values), 1, 5)


def test_a_map_that_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(equating, "MIN_QUERIES", 40)
    x, y, systems, queries, _ = anchors(np.random.default_rng(4), 6, 40)
    x, y = scale(x), scale(y)
    nothing = np.full((1, 40), NAN)
    cells = {
        "new": Frame(x[systems == 0], nothing),
        "weak": Frame(np.full(40, 1.0), nothing),
        "french": Frame(x[systems == 0], nothing, language="fr"),
    }
    path = study(tmp_path, x, y, systems, **cells)
    with pytest.raises(ConfigError, match="no answers in common"):
        equate(path, from_judge="judge", to_judge="judge")
    (made,) = equate(path, from_judge="judge", to_judge="old", seed=1, samples=200).dicts()
    again = equate(path, from_judge="judge", to_judge="old", seed=1, samples=200)
    assert len(stored(path, "from raw.equatings")) == 1
    assert again.dicts() == [made]
    a, b = line(x, y)
    assert (made["intercept"], made["slope"]) == (pytest.approx(a, abs=1e-9), pytest.approx(b, abs=1e-9))
    assert made["refused"] is None
    found = {row["model"]: row for row in stored(path, "from equated_means")}
    assert set(found) == {"new", "weak", *(f"s{s}" for s in range(6))}
    own = x[systems == 0]
    row, (kept,) = found["new"], stored(path, "from raw.equatings")
    variance = b**2 * own.var(ddof=1) / 40 + kept["tau"] ** 2
    variance += kept["var_a"] + 2 * own.mean() * kept["cov_ab"] + own.mean() ** 2 * kept["var_b"]
    assert row["equated"] == pytest.approx(a + b * own.mean(), abs=1e-9)
    assert row["se"] == pytest.approx(variance**0.5, abs=1e-9)
    assert row["ci_high"] == pytest.approx(row["equated"] + stats.t.ppf(0.975, 5) * variance**0.5, abs=1e-6)
    assert found["weak"]["equated"] is None
    assert "outside the anchor systems" in found["weak"]["refused"]
    table = icl_local.table(path, 1, judge="judge", equated_to="old")
    by_model = {row["model"]: row["helpful"] for row in table.dicts()}
    assert by_model["new"] == pytest.approx(row["equated"])
    assert by_model["weak"] is None
    assert any("judge on the scale of old (linear, 6 systems)" in note for note in table.notes)
    with pytest.raises(ConfigError, match="icl equate"):
        icl_local.table(path, 1, judge="judge", equated_to="nobody")
    assert queries.max() == 39


def refusal(x: Array, y: Array, systems: Array, queries: Array) -> Any:
    found = {
        "x": list(x),
        "y": list(y),
        "systems": list(systems),
        "queries": list(queries),
        "language": "en",
        "metric": "m",
    }
    return equating._row(found, method="linear", seed=1, samples=50)


@pytest.mark.parametrize("case", ["ceiling", "unrelated", "taste", "holds", "one system"])
def test_maps_are_refused(case: str) -> None:
    random = np.random.default_rng(6)
    x, y, systems, queries, _ = anchors(random, 1 if case == "one system" else 6, 300)
    if case == "ceiling":
        y = np.where(np.arange(len(y)) % 20 == 0, 4.0, 5.0)
    if case == "unrelated":
        y = random.permutation(y)
    if case == "taste":
        y = y + systems % 2
    row = refusal(x, y, systems, queries)
    reasons = {"ceiling": "end of its scale", "unrelated": "correlate", "taste": "left out"}
    if case in reasons:
        assert reasons[case] in row["refused"]
        assert row["slope"] is None
    else:
        assert row["refused"] is None
        assert (row["tau"] is None) == (case == "one system")


@pytest.mark.soak
def test_intervals_of_equated_means_cover() -> None:
    """15 anchor systems, slope 1.3, system effects of standard deviation 0.1; a new system of the same kind."""
    random, covered, frames = np.random.default_rng(20261124), 0, 1000
    for frame in range(frames):
        x, y, systems, queries, truth = anchors(random, 16, 100)
        new = systems == 15
        intercept, slope = line(x[~new], y[~new])
        covariance = equating.map_covariance(
            x[~new], y[~new], queries[~new], method="linear", samples=200, stream=frame
        )
        tau = equating.left_out_error(x[~new], y[~new], systems[~new], "linear") or 0.0
        mean = x[new].mean()
        variance = slope**2 * x[new].var(ddof=1) / 100 + tau**2
        variance += covariance[0, 0] + 2 * mean * covariance[0, 1] + mean**2 * covariance[1, 1]
        half = stats.t.ppf(0.975, 14) * variance**0.5
        covered += abs(intercept + slope * mean - truth[new][0]) <= half
    assert covered / frames >= 0.93
