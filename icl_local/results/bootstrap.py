"""Seeded percentile bootstrap of score means or paired differences, written to raw.bootstraps.

Queries of one text are drawn together: a sample of C clusters is a multinomial draw over their distinct pairs of sum
and size. Each mean has its own random stream, derived from the seed and the row's key, so a row does not depend on the
rest of the database. The cluster bootstrap: Cameron, Gelbach and Miller, Review of Economics and Statistics 90, 2008.
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from icl_local import identity, store
from icl_local.results import paper_tables
from icl_local.results.tables import APART, Table, table_of

_GRAIN = ("cell_id", "baseline_cell_id", "judge_id", "template_sha256", "reading", "metric")
_KEYS = ("model", "method", "language", "dpo", "judge", "metric")
_ERROR = ("se", "ci_low", "ci_high", "n")
_DRAWS = 4_000_000  # numbers in memory at once


def run(
    database: Path,
    *,
    samples: int = 10_000,
    seed: int = 0,
    judge: str | None = None,
    reading: str = "strict",
    pairs: bool = False,
) -> int:
    """Write one row per cell, judge, template and metric; what is stored of the same scores, samples and seed is kept.

    ``pairs``: one row per pair of cells instead, over the differences on the queries that both have a score for.
    Return the number of means. Raises UnknownName for a judge that has scored nothing.
    """
    with paper_tables.open_views(database, judge=judge, reading=reading) as views:
        histograms = views.named("score_histograms", pairs)
        stored = {row["bootstrap_id"] for row in views.named("stored_bootstraps", samples, seed)}
    keyed = {identity.key_of(kind="bootstrap", **found, samples=samples, seed=seed): found for found in histograms}
    new = [(key, found) for key, found in keyed.items() if key not in stored]
    if new:
        with store.Store(database) as target:
            target.put([("bootstraps", _row(key, found, samples=samples, seed=seed)) for key, found in new])
    return len(histograms)


def intervals(database: Path, *, samples: int, seed: int, pairs: bool = False) -> Table:
    """Return the stored intervals of that many samples with that seed.

    One row for each mean; with ``pairs``, one for each paired difference. Judge templates are named where two of one
    judge scored the same.
    """
    columns = ("differs_in", "a", "b", *_KEYS, "difference", *_ERROR) if pairs else (*_KEYS, "mean", *_ERROR)
    apart = ("reading",) if pairs else (*APART, "reading")
    view = "bootstrap_differences" if pairs else "bootstrap_intervals"
    same = ("cell_id_a", "cell_id_b") if pairs else ("cell_id",)
    with paper_tables.open_views(database) as views:
        rows = [row for row in views.rows(view) if (row["samples"], row["seed"]) == (samples, seed)]
    scored = Counter(tuple(row[name] for name in (*same, "judge", "reading", "metric")) for row in rows)
    if max(scored.values(), default=1) > 1:
        apart = (*apart, "template", "template_sha256")
    return table_of("", columns, rows, if_varying=apart)


def resampled_means(
    sums: NDArray[np.float64],
    sizes: NDArray[np.int64],
    counts: NDArray[np.int64],
    *,
    samples: int,
    stream: int,
) -> NDArray[np.float64]:
    """Return the means (samples,) float64 of bootstrap samples of clusters of scores.

    ``counts`` (k,) clusters have ``sizes`` (k,) scores that add up to ``sums`` (k,).
    """
    n = int(counts.sum())
    random = np.random.default_rng(stream)
    at_once = max(1, _DRAWS // len(sums))
    parts = []
    for start in range(0, samples, at_once):
        drawn = random.multinomial(n, counts / n, size=min(at_once, samples - start))
        parts.append(drawn @ sums / (drawn @ sizes))
    return np.concatenate(parts)


def _row(key: str, found: Mapping[str, Any], *, samples: int, seed: int) -> dict[str, object]:
    grain = {name: found[name] for name in _GRAIN if found[name] is not None}
    stream = int(identity.key_of(kind="bootstrap-stream", **grain, seed=seed), 16)
    sums = np.array(found["sums"], dtype=np.float64)
    sizes, counts = np.array(found["sizes"], dtype=np.int64), np.array(found["counts"], dtype=np.int64)
    n = int(sizes @ counts)
    means = resampled_means(sums, sizes, counts, samples=samples, stream=stream)
    low, high = np.quantile(means, [0.025, 0.975])
    return {
        "bootstrap_id": key,
        **grain,
        "mean": float(sums @ counts / n),
        "se": float(means.std(ddof=1)) if samples > 1 else 0.0,
        "ci_low": float(low),
        "ci_high": float(high),
        "n": n,
        "samples": samples,
        "seed": seed,
    }
