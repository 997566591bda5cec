"""Seeded percentile bootstrap of every score mean, written to raw.bootstraps.

A bootstrap sample of n scores is a multinomial draw over their distinct values. Each mean has its own random stream,
derived from the seed and the row's key, so a row does not depend on the rest of the database.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from icl_local import identity, store
from icl_local.results import paper_tables
from icl_local.results.tables import Table

_GRAIN = ("cell_id", "judge_id", "template_sha256", "reading", "metric")
_DRAWS = 4_000_000  # numbers in memory at once


def run(
    database: Path, *, samples: int = 10_000, seed: int = 0, judge: str | None = None, reading: str = "strict"
) -> int:
    """Write one row per cell, judge, template and metric, unless the same scores, samples and seed have one already.

    Return the number of means. Raises UnknownName for a judge that has scored nothing.
    """
    with paper_tables.open_views(database, judge=judge, reading=reading) as views:
        histograms = views.named("score_histograms")
    if histograms:
        with store.Store(database) as target:
            target.put([("bootstraps", _row(found, samples=samples, seed=seed)) for found in histograms])
    return len(histograms)


def intervals(database: Path, *, samples: int, seed: int) -> Table:
    """Return the stored intervals of that many samples with that seed, one row for each mean."""
    columns = ("model", "method", "language", "dpo", "judge", "metric", "mean", "se", "ci_low", "ci_high", "n")
    with paper_tables.open_views(database) as views:
        rows = [row for row in views.rows("bootstrap_intervals") if (row["samples"], row["seed"]) == (samples, seed)]
    return Table("", columns, [tuple(row[name] for name in columns) for row in rows])


def resampled_means(
    scores: NDArray[np.float64], counts: NDArray[np.int64], *, samples: int, stream: int
) -> NDArray[np.float64]:
    """Return the means (samples,) float64 of bootstrap samples of scores (k,), each given counts (k,) times."""
    n = int(counts.sum())
    random = np.random.default_rng(stream)
    at_once = max(1, _DRAWS // len(scores))
    parts = [
        random.multinomial(n, counts / n, size=min(at_once, samples - start)) @ scores / n
        for start in range(0, samples, at_once)
    ]
    return np.concatenate(parts)


def _row(found: Mapping[str, Any], *, samples: int, seed: int) -> dict[str, object]:
    scores, counts = np.array(found["scores"], dtype=np.float64), np.array(found["counts"], dtype=np.int64)
    grain = {name: found[name] for name in _GRAIN}
    key = identity.key_of(
        kind="bootstrap", **grain, scores=found["scores"], counts=found["counts"], samples=samples, seed=seed
    )
    stream = int(identity.key_of(kind="bootstrap-stream", **grain, seed=seed), 16)
    means = resampled_means(scores, counts, samples=samples, stream=stream)
    low, high = np.quantile(means, [0.025, 0.975])
    return {
        "bootstrap_id": key,
        **grain,
        "mean": float(scores @ counts / counts.sum()),
        "se": float(means.std(ddof=1)) if samples > 1 else 0.0,
        "ci_low": float(low),
        "ci_high": float(high),
        "n": int(counts.sum()),
        "samples": samples,
        "seed": seed,
        "created_at": store.now(),
    }
