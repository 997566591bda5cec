"""Power of a number of queries: the smallest difference that they show, its price, and the labels needed."""

import math
from pathlib import Path

from icl_local import store

SIZES = (100, 300, 1000)  # queries a cell
WIDTHS = (0.2, 0.1)  # wanted half-widths of a corrected mean
GUESSED_SD = 1.0  # of differences between two methods on one query
CORRELATION = 0.5  # of judge and people
ANSWERS = 800  # of a cell
_HALF = 1.959963984540054  # quantile of 97.5 %
_BOTH_QUANTILES = _HALF + 0.8416212335729143  # 5 % two-sided, 80 % power


def smallest_difference(n: int, sd: float) -> float:
    """Return the difference that a paired test of ``n`` queries finds with 80 % power; ``sd`` of the differences."""
    return _BOTH_QUANTILES * sd / math.sqrt(n)


def labels_needed(half_width: float, *, r: float = CORRELATION, m: int = ANSWERS) -> int:
    """Return the labels, of ``m`` answers with standard deviation 1, for half a 95 % interval of a corrected mean.

    ``r``: correlation of judge and people. Solves half_width² = z²(1 - r²(1 - n/m))/n for n; at most ``m``.
    """
    free = half_width**2 - _HALF**2 * r**2 / m
    return m if free <= 0 else min(m, math.ceil(_HALF**2 * (1 - r**2) / free))


def notes(path: Path, judge: str, usd_per_verdict: float | None) -> list[str]:
    """Return sentences on what 100, 300 and 1,000 queries a cell show and cost; it only reads the database."""
    seen = store.named(path, "seen_differences", [judge]).rows[0] if store.exists(path) else (None, 0)
    sd = seen[0] or GUESSED_SD
    source = f"median of {seen[1]} pairs here" if seen[0] else "a guess"
    found = ", ".join(f"{smallest_difference(n, sd):.2f} with {n:,}" for n in SIZES)
    lines = [
        f"smallest difference of two methods found with 80 % power, by queries a cell: {found} (paired, standard "
        f"deviation of differences {sd:.2f}, {source})"
    ]
    if usd_per_verdict is not None:
        lines.append("price a cell: " + ", ".join(f"${usd_per_verdict * n:.2f} for {n:,}" for n in SIZES))
    labels = ", ".join(f"{labels_needed(width)} for ± {width:g}" for width in WIDTHS)
    lines.append(
        f"labels a cell that correct its mean: {labels} (of {ANSWERS} answers, standard deviation 1, judge and people "
        f"correlate {CORRELATION}); icl sample draw --plan"
    )
    return lines
