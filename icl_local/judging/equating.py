"""Scores of one judge on the scale of another, from answers that both scored (anchors).

Maps from x to y by metric: ``mean`` y = x + mean(y) - mean(x); ``linear`` keeps standard scores: slope sd(y) / sd(x).
A regression line would not be symmetric and would shrink to the mean. Kolen and Brennan, Test Equating, 2014, ch. 2, 7.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from icl_local import store
from icl_local.exceptions import ConfigError
from icl_local.identity import key_of
from icl_local.judging.samples import sample_id_of
from icl_local.results import Table, table_of

METHODS = ("linear", "mean")
MIN_ANCHORS, MIN_QUERIES = 200, 100
MAX_SHARE, MIN_SD = 0.90, 0.3  # of one score, and of the scores: a judge at the ceiling has no scale
MIN_WITHIN, MAX_TAU = 0.3, 0.25

Array = NDArray[np.float64]
_GRAIN = ("language", "metric")
_SHOWN = (
    "language", "metric", "from_template", "to_template", "n", "n_queries", "n_systems", "r_within", "intercept",
    "slope", "tau", "refused",
)  # fmt: skip


def equate(
    path: Path,
    *,
    from_judge: str,
    to_judge: str,
    sample: str | None = None,
    method: str = "linear",
    seed: int = 0,
    samples: int = 2000,
) -> Table:
    """Store a map from one judge's scores to another's for each language, metric and pair of templates.

    ``sample``: anchors are the answers of this sample, else all that both scored. A map that does not hold is stored
    with the reason, as refused. The same anchors, seed and ``samples`` give the same row. Raises ConfigError without
    common answers, UnknownName, StoreError.
    """
    with store.reader(path):  # the queries share its open file
        if sample is not None:
            sample_id_of(path, sample)
        names = [_name(path, judge) for judge in (from_judge, to_judge)]
        anchors = store.named(path, "equate_anchors", [*names, sample]).dicts()
    if not anchors or names[0] == names[1]:
        raise ConfigError(
            f"{names[0]} and {names[1]} have scored no answers in common; let one score the other's: "
            "icl sample draw ANCHORS --judged-by JUDGE, icl judge --sample ANCHORS"
        )
    rows = [_row(found, method=method, seed=seed, samples=samples) for found in anchors]
    with store.Store(path) as target:
        target.put([("equatings", row) for row in rows])
    shown = [{**found, **row} for found, row in zip(anchors, rows, strict=True)]
    return table_of(f"{names[0]} on the scale of {names[1]}", _SHOWN, shown)


def _name(path: Path, judge: str) -> str:
    (name,) = store.Selection(judge=judge).stored(lambda name: store.named(path, name))["judge"] or [""]
    return name


def _row(found: Mapping[str, Any], *, method: str, seed: int, samples: int) -> dict[str, object]:
    x, y = (np.array(found[name], dtype=np.float64) for name in "xy")
    systems = np.unique(found["systems"], return_inverse=True)[1]
    queries = np.unique(found["queries"], return_inverse=True)[1]
    grain = {name: value for name, value in found.items() if name.endswith(("_id", "sha256")) or name in _GRAIN}
    key = key_of(kind="equating", **grain, method=method, x=found["x"], y=found["y"], seed=seed, samples=samples)
    intercept, slope = (float(value[0]) for value in lines(moments(x, y)[None], method))
    stream = int(key_of(kind="equating-stream", **grain, method=method, seed=seed), 16)
    (var_a, cov_ab), (_, var_b) = map_covariance(x, y, queries, method=method, samples=samples, stream=stream)
    means = np.stack([system_means(one, systems) for one in (x, y)])
    tau = left_out_error(x, y, systems, method)
    r_within = within_correlation(x, y, systems)
    counts = {"n": len(x), "n_queries": int(queries.max()) + 1, "n_systems": means.shape[1]}
    refused = _refusal(x, y, counts, r_within, tau)
    values = {"intercept": intercept, "slope": slope, "var_a": var_a, "cov_ab": cov_ab, "var_b": var_b}
    return {
        "equating_id": key,
        **grain,
        "method": method,
        **counts,
        "r_within": r_within,
        **{name: None if refused else float(value) for name, value in values.items()},
        "tau": tau,
        "mean_low": float(means[0].min()),
        "mean_high": float(means[0].max()),
        "refused": refused,
        "samples": samples,
        "seed": seed,
    }


def moments(x: Array, y: Array) -> Array:
    """Return n and the sums of x, y, x² and y², (5,) float64."""
    return np.array([len(x), x.sum(), y.sum(), x @ x, y @ y])


def lines(sums: Array, method: str) -> tuple[Array, Array]:
    """Return intercepts and slopes (k,) of maps from sums (k, 5); slope NaN where x does not vary."""
    n, mean_x, mean_y = sums[:, 0], sums[:, 1] / sums[:, 0], sums[:, 2] / sums[:, 0]
    squares = [np.maximum(0, sums[:, i + 2] / n - sums[:, i] ** 2 / n**2) for i in (1, 2)]
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = np.sqrt(squares[1] / squares[0]) if method == "linear" else np.ones(len(sums))
    return mean_y - slope * mean_x, slope


def map_covariance(x: Array, y: Array, queries: NDArray[np.int64], *, method: str, samples: int, stream: int) -> Array:
    """Return the covariance (2, 2) of intercept and slope over bootstrap samples of queries, all systems together."""
    columns = [np.ones_like(x), x, y, x * x, y * y]
    by_query = np.stack([np.bincount(queries, weights=column) for column in columns], axis=1)
    count = len(by_query)
    drawn = np.random.default_rng(stream).multinomial(count, np.full(count, 1 / count), size=samples)
    covariance: Array = np.cov(np.stack(lines(drawn.astype(np.float64) @ by_query, method)))
    return covariance


def system_means(scores: Array, systems: NDArray[np.int64]) -> Array:
    """Return the mean (systems,) of each system's scores."""
    means: Array = np.bincount(systems, weights=scores) / np.bincount(systems)
    return means


def left_out_error(x: Array, y: Array, systems: NDArray[np.int64], method: str) -> float | None:
    """Return the root mean squared error of a system's mean by the map of the others; None for one system."""
    count = int(systems.max()) + 1
    if count < 2:
        return None
    errors = []
    for system in range(count):
        out = systems == system
        intercept, slope = lines(moments(x[~out], y[~out])[None], method)
        errors.append(intercept[0] + slope[0] * x[out].mean() - y[out].mean())
    error = float(np.sqrt(np.mean(np.square(errors))))
    return error if np.isfinite(error) else None


def within_correlation(x: Array, y: Array, systems: NDArray[np.int64]) -> float | None:
    """Return the correlation of the distances from the systems' means; None where one does not vary."""
    dx, dy = (scores - system_means(scores, systems)[systems] for scores in (x, y))
    scale = float(np.sqrt((dx @ dx) * (dy @ dy)))
    return float(dx @ dy) / scale if scale > 1e-12 else None


def _refusal(x: Array, y: Array, counts: Mapping[str, int], r_within: float | None, tau: float | None) -> str | None:
    """Return why a map does not hold, None if it does."""
    if counts["n"] < MIN_ANCHORS or counts["n_queries"] < MIN_QUERIES:
        return f"{counts['n']} anchors of {counts['n_queries']} queries; {MIN_ANCHORS} of {MIN_QUERIES} are needed"
    for side, scores in (("from", x), ("to", y)):
        share = np.unique(scores, return_counts=True)[1].max() / len(scores)
        if share > MAX_SHARE:
            return f"the judge given as --{side} has one value in {share:.0%} of its scores: at the end of its scale"
        if scores.std() < MIN_SD:
            return f"the judge given as --{side} hardly varies: standard deviation {scores.std():.2f}, below {MIN_SD}"
    if r_within is None or r_within < MIN_WITHIN:
        return f"the judges correlate {r_within or 0:.2f} within systems, below {MIN_WITHIN}"
    if tau is not None and tau > MAX_TAU:
        return f"the error for a system left out is {tau:.2f}, above {MAX_TAU}"
    return None
