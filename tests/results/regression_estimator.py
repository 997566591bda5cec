"""The estimators of corrected_means, corrected_differences and corrected_error_rates once more, in numpy, for many
frames at once.

Arrays have a row for each frame and a column for each labelled answer. The formulas: regression estimator of survey
sampling, Cochran, Sampling Techniques, 1977, chapter 7.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Labels:
    """Labels ``y`` (frames, n) float64, NaN for N/A; distances ``h`` (frames, n) of the judge's scores from their mean.

    ``stratum`` (frames, n) int numbers the strata, -1 where a frame has fewer labels; ``sizes`` (frames, strata) are
    the answers in them.
    """

    y: Array
    h: Array
    stratum: NDArray[np.int64]
    sizes: Array

    @classmethod
    def of(cls, y: Array, f: Array, frame_mean: Array, m: int) -> Labels:
        """Return labels of frames of ``m`` answers in one stratum; a judge's score ``f`` of NaN is none."""
        h = np.nan_to_num(f - frame_mean[:, None])
        return cls(y, h, np.zeros(y.shape, dtype=np.int64), np.full((len(y), 1), float(m)))


@dataclass(frozen=True)
class Fit:
    """What a regression leaves: ``estimate`` and ``label_mean`` (frames,); ``z``, ``e``, ``w`` (frames, n)."""

    estimate: Array
    label_mean: Array
    z: Array
    e: Array
    w: Array
    h_mean: Array
    v: Array
    slopes: NDArray[np.int64]
    varies: NDArray[np.bool_]


def fit(labels: Labels) -> Fit:
    """Fit the regression of z on h in each frame; a judge that hardly varies on the labels has slope 0."""
    there = labels.stratum >= 0
    counts = np.stack([(labels.stratum == s).sum(1) for s in range(labels.sizes.shape[1])], axis=1)
    m = labels.sizes.sum(1, keepdims=True)
    share = np.divide(labels.sizes, counts * m, out=np.zeros(counts.shape), where=counts > 0)
    w = np.where(there, np.take_along_axis(share, np.maximum(labels.stratum, 0), axis=1), 0.0)
    applies = there & ~np.isnan(labels.y)
    weight = (w * applies).sum(1, keepdims=True)
    mean = (w * np.where(applies, labels.y, 0)).sum(1, keepdims=True) / weight
    z = np.where(applies, labels.y - mean, 0) / weight
    h_mean = (w * labels.h).sum(1, keepdims=True)
    centred = np.where(there, labels.h - h_mean, 0)
    v = (w * centred**2).sum(1, keepdims=True)
    others = [len(row) - np.unique(row, return_counts=True)[1].max() for row in map(_kept, labels.h, there)]
    slopes = (np.array(others) >= 8).astype(np.int64)
    beta = np.where(slopes[:, None] == 1, (w * centred * z).sum(1, keepdims=True) / np.where(v > 0, v, 1), 0)
    e = z - beta * centred
    filled = np.where(applies, labels.y, np.nan)
    varies = np.nanmax(filled, axis=1) > np.nanmin(filled, axis=1)
    estimate = (mean - beta * h_mean)[:, 0]
    return Fit(estimate, mean[:, 0], z, e, w, h_mean[:, 0], v[:, 0], slopes, varies)


def sampling_variance(e: Array, w: Array, labels: Labels, slopes: NDArray[np.int64]) -> tuple[Array, Array, Array]:
    """Return the variance of the mean residual about its frame, the pooled variance of e, degrees of freedom."""
    n = (labels.stratum >= 0).sum(1)
    strata = labels.sizes.shape[1]
    df = n - strata - slopes
    pooled = n / df * (w * e**2).sum(1)
    total = np.zeros(len(e))
    for s in range(strata):
        inside = labels.stratum == s
        n_s, m_s = inside.sum(1), labels.sizes[:, s]
        mean = np.where(inside, e, 0).sum(1) / np.maximum(n_s, 1)
        own = (np.where(inside, e - mean[:, None], 0) ** 2).sum(1) / np.maximum(n_s - 1, 1)
        variance = np.where(n_s < 10, pooled, (n - strata) / df * own)
        total += (m_s / labels.sizes.sum(1)) ** 2 * (1 - n_s / m_s) * variance / np.maximum(n_s, 1)
    return total, pooled, df


@dataclass(frozen=True)
class Estimates:
    """Estimates of frames with their standard errors and 95 % intervals; ``alone``: those of the labels alone."""

    estimate: Array
    se: Array
    low: Array
    high: Array


def corrected(labels: Labels) -> Estimates:
    """Return the corrected means."""
    found = fit(labels)
    n = (labels.stratum >= 0).sum(1)
    variance, pooled, df = sampling_variance(found.e, found.w, labels, found.slopes)
    variance = variance + n / (n - 1) * (found.w * found.z**2).sum(1) / labels.sizes.sum(1)
    slope_part = np.divide(pooled * found.h_mean**2, n * found.v, out=np.zeros(len(n)), where=found.v > 0)
    variance = np.where(found.varies, variance + np.where(found.slopes == 1, slope_part, 0), 0)
    estimate = np.clip(found.estimate, 1, 5)
    return Estimates(estimate, np.sqrt(variance), *score_interval(estimate, np.sqrt(variance), n, df))


def difference(a: Labels, b: Labels) -> Estimates:
    """Return the differences b - a of corrected means, whose columns are the same queries."""
    fit_a, fit_b = fit(a), fit(b)
    n = (a.stratum >= 0).sum(1)
    slopes = fit_a.slopes + fit_b.slopes
    variance, _, df = sampling_variance(fit_b.e - fit_a.e, fit_a.w, a, slopes)
    variance = variance + n / (n - 1) * (fit_a.w * (fit_b.z - fit_a.z) ** 2).sum(1) / a.sizes.sum(1)
    estimate, se = fit_b.estimate - fit_a.estimate, np.sqrt(variance)
    half = np.where(se > 0, stats.t.ppf(0.975, df) * se, 4 * (1 - 0.025 ** (1 / n)))
    return Estimates(estimate, se, estimate - half, estimate + half)


def rate(errors: Array, n: Array, m: Array) -> Estimates:
    """Return shares of answers with an error: ``errors`` in ``n`` labels of ``m`` answers, each (frames, strata).

    The interval is MOVER's on Wilson's (Zou & Donner, Statistics in Medicine, 2008).
    """
    labelled, m_all = np.maximum(n, 1), m.sum(1)
    share, weight = errors / labelled, m / m_all[:, None]
    estimate = (weight * share).sum(1)
    bounds = []
    for side in (-1, 1):
        far = np.where(n > 0, share - wilson(errors, labelled, side), 0)
        parts = (weight**2 * (1 - n / np.maximum(m, 1)) * far**2).sum(1)
        whole = estimate - wilson(estimate * m_all, m_all, side)
        bounds.append(estimate + side * np.sqrt(whole**2 + parts))
    return Estimates(estimate, np.full(len(m), np.nan), *bounds)


def wilson(errors: Array, n: Array, side: int) -> Array:
    """Return the lower (``side`` -1) or upper (1) bound of Wilson's 95 % interval of a share."""
    low, high = proportion_confint(errors, n, method="wilson")
    return np.asarray(low if side < 0 else high)


def score_interval(mean: Array, se: Array, n: NDArray[np.int64], df: NDArray[np.int64]) -> tuple[Array, Array]:
    """Return Wilson's interval with the effective size of means on [1, 5]."""
    u, q, p = (mean - 1) / 4, stats.t.ppf(0.975, df), 1 - 0.025 ** (1 / n)
    inside = (u > 0) & (u < 1) & (se > 0)
    k = np.where(inside, u * (1 - u) / np.where(se > 0, se / 4, 1) ** 2, n)
    centre = (u + q**2 / (2 * k)) / (1 + q**2 / k)
    half = q * np.sqrt(u * (1 - u) / k + q**2 / (4 * k**2)) / (1 + q**2 / k)
    low = np.where(se > 0, 1 + 4 * (centre - half), mean - (mean - 1) * p)
    return low, np.where(se > 0, 1 + 4 * (centre + half), mean + (5 - mean) * p)


def _kept(row: Array, there: NDArray[np.bool_]) -> Array:
    return row[there]
