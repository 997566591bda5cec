"""Coverage of the intervals of corrected means and differences, by simulation.

`python -m tests.results.test_coverage` prints the figures of docs/measurements.md. test_corrected.py and
tests/judging/test_error_samples.py compare the estimators of regression_estimator.py with the views.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from scipy import stats

from tests.results import regression_estimator
from tests.results.regression_estimator import Array, Estimates, Labels

FRAMES, M, LABELS = 4000, 800, (50, 100, 250)
Random = np.random.Generator
LENIENT_Y, LENIENT_F = (0.05, 0.15, 0.30, 0.30, 0.20), (0.02, 0.08, 0.20, 0.30, 0.40)


@dataclass(frozen=True)
class Drawn:
    """Estimates of many frames, those of the labels alone, those of a wrong method, and the true value."""

    estimates: Estimates
    alone: Estimates
    wrong: Estimates
    truth: float

    @property
    def coverage(self) -> float:
        return covered(self.estimates, self.truth)

    @property
    def width(self) -> float:
        """Return the mean width against that of the labels alone."""
        return float((self.estimates.high - self.estimates.low).mean() / (self.alone.high - self.alone.low).mean())


def covered(found: Estimates, truth: float) -> float:
    return float(((found.low <= truth) & (truth <= found.high)).mean())


def cut(latent: Array, p: tuple[float, ...]) -> Array:
    """Return scores 1 to 5 with probabilities ``p`` from a standard normal variable."""
    return 1.0 + np.searchsorted(stats.norm.ppf(np.cumsum(p)[:-1]), latent)


def mean_of(p: tuple[float, ...]) -> float:
    return float(np.dot(np.arange(1, 6), p))


def latents(random: Random, m: int, rho: float) -> tuple[Array, Array]:
    u, e = random.standard_normal((2, FRAMES, m))
    return u, rho * u + np.sqrt(1 - rho**2) * e


def estimated(y: Array, f: Array, n: int, truth: float) -> Drawn:
    """Return estimates from labels of the first ``n`` answers; NaN is N/A."""
    m = f.shape[1]
    labels = Labels.of(y[:, :n], f[:, :n], np.nanmean(f, axis=1), m)
    judge, se = np.nanmean(f, axis=1), np.nanstd(f, axis=1, ddof=1) / np.sqrt(m)
    raw = Estimates(judge, se, judge - 1.96 * se, judge + 1.96 * se)
    return Drawn(regression_estimator.corrected(labels), regression_estimator.corrected(without(labels)), raw, truth)


def without(labels: Labels) -> Labels:
    """Return labels without a judge."""
    return Labels(labels.y, np.zeros_like(labels.h), labels.stratum, labels.sizes)


def plain(
    y: tuple[float, ...] = LENIENT_Y, f: tuple[float, ...] = LENIENT_F, rho: float = 0.6, m: int = M
) -> Callable[[Random, int], Drawn]:
    def draw(random: Random, n: int) -> Drawn:
        u, v = latents(random, m, rho)
        return estimated(cut(u, y), cut(v, f), n, mean_of(y))

    return draw


def with_strata(random: Random, n: int) -> Drawn:
    u, v = latents(random, M, 0.6)
    y, f = cut(u, LENIENT_Y), cut(v, LENIENT_F)
    band = np.searchsorted([2.5, 4.5], f)
    sizes = np.stack([(band == s).sum(1) for s in range(3)], axis=1).astype(float)
    place = np.stack([np.cumsum(band == s, axis=1) for s in range(3)], axis=2)
    wanted = np.round(np.array([0.4, 0.3, 0.3]) * n)
    drawn = np.take_along_axis(place, band[:, :, None], axis=2)[:, :, 0] <= wanted[band]
    order = np.argsort(~drawn, axis=1, kind="stable")[:, : drawn.sum(1).max()]
    kept = np.take_along_axis(drawn, order, axis=1)
    stratum = np.where(kept, np.take_along_axis(band, order, axis=1), -1)
    y, h = np.take_along_axis(y, order, axis=1), np.take_along_axis(f - f.mean(1, keepdims=True), order, axis=1)
    y, h = np.where(kept, y, np.nan), np.where(kept, h, 0)
    one = np.where(kept, 0, -1)
    unweighted = Labels(y, np.zeros_like(h), one, sizes.sum(1, keepdims=True))
    labels = Labels(y, h, stratum, sizes)
    found = [regression_estimator.corrected(one) for one in (labels, without(labels), unweighted)]
    return Drawn(*found, mean_of(LENIENT_Y))


@functools.cache
def true_without_na() -> float:
    random = np.random.default_rng(1)
    u, e = random.standard_normal((2, 10_000_000))
    kept = 0.3 * u + np.sqrt(1 - 0.09) * e <= stats.norm.ppf(0.95)
    return float(cut(u[kept], LENIENT_Y).mean())


def with_na(random: Random, n: int) -> Drawn:
    u, v = latents(random, M, 0.6)
    w = 0.3 * u + np.sqrt(1 - 0.09) * random.standard_normal(u.shape)
    w_judge = 0.5 * w + np.sqrt(0.75) * random.standard_normal(u.shape)
    y = np.where(w > stats.norm.ppf(0.95), np.nan, cut(u, LENIENT_Y))
    f = np.where(w_judge > stats.norm.ppf(0.97), np.nan, cut(v, LENIENT_F))
    return estimated(y, f, n, true_without_na())


def two_raters(random: Random, n: int) -> Drawn:
    u, v = latents(random, M, 0.6)
    own = random.standard_normal((2, *u.shape))
    y = cut(np.sqrt(0.7) * u + np.sqrt(0.3) * own, LENIENT_Y).mean(axis=0)
    return estimated(y, cut(v, LENIENT_F), n, mean_of(LENIENT_Y))


def two_cells(random: Random, n: int) -> Drawn:
    shared = random.standard_normal((FRAMES, M))
    sides = []
    for shift in (0.0, 0.2):
        u = np.sqrt(0.5) * shared + np.sqrt(0.5) * random.standard_normal(shared.shape)
        v = 0.6 * u + 0.8 * random.standard_normal(shared.shape)
        y, f = cut(u + shift, LENIENT_Y), cut(v + shift, LENIENT_F)
        sides.append(Labels.of(y[:, :n], f[:, :n], f.mean(axis=1), M))
    edges = stats.norm.ppf(np.cumsum(LENIENT_Y)[:-1])
    truth = float((stats.norm.cdf(edges) - stats.norm.cdf(edges - 0.2)).sum())
    found, alone = regression_estimator.difference(*sides), regression_estimator.difference(*map(without, sides))
    se = np.hypot(*(regression_estimator.corrected(side).se for side in sides))
    half = stats.t.ppf(0.975, n - 3) * se
    return Drawn(found, alone, Estimates(found.estimate, se, found.estimate - half, found.estimate + half), truth)


def error_rate(random: Random, n: int) -> Drawn:
    """1.5 % of 1,000 answers have an error; a detector finds 90 % of them and flags 0.5 % of the others."""
    share, m, most_flagged = 0.015, 1000, 50
    has_error = random.random((FRAMES, m)) < share
    flagged = random.random((FRAMES, m)) < np.where(has_error, 0.9, 0.005)
    strata = ((flagged, most_flagged), (~flagged, n))
    drawn = [part & (np.cumsum(part, axis=1) <= most) for part, most in strata]
    labels = np.stack([part.sum(1) for part in drawn], axis=1)
    errors = np.stack([(part & has_error).sum(1) for part in drawn], axis=1)
    sizes = np.stack([part.sum(1) for part, _ in strata], axis=1)
    one, whole = np.full((FRAMES, 1), n), np.full((FRAMES, 1), m)
    found = regression_estimator.rate(errors, labels, sizes)
    alone = regression_estimator.rate(has_error[:, :n].sum(1, keepdims=True), one, whole)
    return Drawn(found, alone, regression_estimator.rate(sizes[:, :1], whole, whole), share)


CEILING_Y, CEILING_F = (0.01, 0.02, 0.04, 0.13, 0.80), (0.0, 0.01, 0.02, 0.03, 0.94)
SAFETY_Y, SAFETY_F = (0.30, 0.05, 0.05, 0.10, 0.50), (0.25, 0.02, 0.03, 0.05, 0.65)
SETTINGS: dict[str, tuple[Callable[[Random, int], Drawn], tuple[int, ...]]] = {
    "S1 lenient judge": (plain(), LABELS),
    "S2 ceiling": (plain(CEILING_Y, CEILING_F, 0.5), LABELS),
    "S3 judge unrelated to the labels": (plain(rho=0.0), LABELS),
    "S4 judge ranks the other way": (plain(rho=-0.3), LABELS),
    "S5 judge always says 5": (plain(f=(0.0, 0.0, 0.0, 0.0, 1.0)), LABELS),
    "S6 safety, 200 answers": (plain(SAFETY_Y, SAFETY_F, 0.8, 200), LABELS[:2]),
    "S7 strata by the judge's score": (with_strata, LABELS),
    "S8 N/A": (with_na, LABELS),
    "S9 two raters": (two_raters, LABELS),
    "S10 difference of two cells": (two_cells, LABELS),
    "S11 error rate, 1,000 answers": (error_rate, LABELS),
}
BOUNDS: dict[tuple[str, int], tuple[str, Callable[[Drawn], float], float, float]] = {
    ("S1 lenient judge", 100): ("width against the labels alone", lambda drawn: drawn.width, 0, 0.90),
    ("S3 judge unrelated to the labels", 100): ("width against the labels alone", lambda drawn: drawn.width, 0, 1.03),
    ("S1 lenient judge", 250): (
        "raw mean of the judge covers",
        lambda drawn: covered(drawn.wrong, drawn.truth),
        0,
        0.10,
    ),
    ("S7 strata by the judge's score", 250): (
        "labels without weights cover",
        lambda drawn: covered(drawn.wrong, drawn.truth),
        0,
        0.93,
    ),
    ("S10 difference of two cells", 100): (
        "with variances added, covers",
        lambda drawn: covered(drawn.wrong, drawn.truth),
        0.97,
        1,
    ),
    ("S11 error rate, 1,000 answers", 100): (
        "rate of the detector covers",
        lambda drawn: covered(drawn.wrong, drawn.truth),
        0,
        0.93,
    ),
}


@pytest.mark.soak
@pytest.mark.parametrize(("name", "n"), [(name, n) for name, (_, sizes) in SETTINGS.items() for n in sizes])
def test_intervals_cover(name: str, n: int) -> None:
    drawn = drawn_of(name, n)
    assert drawn.coverage >= 0.93
    if (name, n) in BOUNDS:
        _, of, low, high = BOUNDS[name, n]
        assert low <= of(drawn) <= high


def drawn_of(name: str, n: int) -> Drawn:
    return SETTINGS[name][0](np.random.default_rng([20261124, n]), n)


def table() -> Iterator[str]:
    yield "| setting | " + " | ".join(f"n = {n}" for n in LABELS) + " | width |"
    notes = []
    yield "|---|" + "---:|" * (len(LABELS) + 1)
    for name, (_, sizes) in SETTINGS.items():
        drawn = {n: drawn_of(name, n) for n in sizes}
        cells = [f"{drawn[n].coverage:.3f}" if n in drawn else "" for n in LABELS]
        yield f"| {name} | {' | '.join(cells)} | {drawn[100].width:.2f} |"
        for n in sizes:
            if (name, n) in BOUNDS:
                label, of, _, _ = BOUNDS[name, n]
                notes.append(f"{name}, n = {n}: {label} {of(drawn[n]):.3f}")
    yield from notes


if __name__ == "__main__":
    for line in table():
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
