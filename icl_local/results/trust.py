"""Trust in a judge: agreement with human raters or another judge, bias, corrected means, differences.

The numbers come from SQL views, which read the variable icl_reference: human, or the name of a judge.
"""

from pathlib import Path
from typing import Any

from icl_local.exceptions import ConfigError, UnknownName
from icl_local.results.paper_tables import HUMAN, SCORES, Views, no_labels, open_views
from icl_local.results.tables import APART, Table, table_of

_METRICS = list(SCORES.values())
_CELL = ("model", "method", "language", "dpo")
# title, view, columns of the layout
_PARTS = {
    "Agreement": (
        "judge_agreement",
        ("language", "metric", "judge_a", "judge_b", "n", "kappa_quadratic", "kappa_low", "kappa_high",
         "alpha_interval", "r", "share_top", "mean_difference"),
    ),
    "Bias: judge's score minus label": (
        "judge_bias",
        (*_CELL, "metric", "bias", "ci_low", "ci_high", "p_holm", "n", "r", "rmse", "exact_share"),
    ),
    "Corrected means": (
        "corrected_means",
        (*_CELL, "metric", "judge_mean", "corrected", "ci_low", "ci_high", "n", "m", "r", "gain", "note"),
    ),
    "Differences of corrected means": (
        "corrected_differences",
        ("differs_in", "a", "b", *_CELL, "metric", "judge_difference", "difference", "ci_low", "ci_high", "p_holm", "n",
         "note"),
    ),
    "Judge's bias between languages": (
        "language_bias",
        ("model", "method", "dpo", "language_a", "language_b", "metric", "bias", "ci_low", "ci_high", "p_holm", "n"),
    ),
    "Agreement among raters": (
        "rater_alpha", ("language", "metric", "n_items", "n_raters", "alpha", "ci_low", "ci_high"),
    ),
    "Could the judge replace a rater": (
        "alt_test", ("language", "metric", "n_raters", "winning_rate", "passed", "advantage", "n", "note"),
    ),
    "Error rates corrected by labels, %": (
        "corrected_error_rates",
        (*_CELL, "error", "detected", "corrected", "ci_low", "ci_high", "confirmed", "missed", "n", "m", "note"),
    ),
}  # fmt: skip
_ALWAYS = 4  # the first parts are shown without rows too
_NOTES = {
    "judge_agreement": "share top: of the scores, those that are 5; where it is high, kappa and alpha are low.",
    "corrected_means": "judge mean: of all m answers. A gain of 2: the n labels count for 2n.",
    "corrected_error_rates": (
        "detected: of all m answers. confirmed: of the labelled answers that were detected; missed: of the others."
    ),
}


def trust_tables(
    database: Path, *, judge: str | None, reference: str, sample: str | None, reading: str, whole: bool
) -> list[Table]:
    """Return agreement, bias, corrected means and differences of ``judge`` against ``reference``.

    After them, where there are labels for it: its bias between languages, the raters among themselves, the
    alternative annotator test, and the error rates of samples drawn by an error; without a judge those rates alone.

    ``reference``: human, all raters but one (human without ana), or a judge that scored a sample. ``sample``: one
    sample instead of all. ``whole``: every column of the views. Raises ConfigError without a sample or its labels,
    UnknownName, StoreError.
    """
    with open_views(database, judge=judge, reading=reading, reference=reference) as views:
        samples = [str(row["sample"]) for row in views.named("samples")]
        if not samples:
            raise no_labels(views)
        if sample is not None and sample not in samples:
            raise UnknownName.among("sample", sample, samples)
        of_sample = {"sample": sample} if sample else {}
        rates = _part(views, list(_PARTS)[-1], of_sample, reference, whole=whole)
        if judge is None:
            if not rates.rows:
                judges = [str(one["name"]) for one in views.named("stored_names") if one["kind"] == "judge"]
                known = ", ".join(name for name in judges if not name.startswith(HUMAN)) or "icl judge makes scores"
                raise ConfigError(
                    f"name a judge with --judge ({known}); error rates alone need labels: icl sample draw --errors"
                )
            return [rates]
        (named,) = views.named("trust_names")
        name, against = str(named["judge"]), str(named["reference"])
        if name == against:
            raise ConfigError(f"{name} cannot be its own reference; name human or another judge with --reference")
        chosen = {"judge": name, "reading": reading, **of_sample}
        if not any(_matches(row, chosen) for row in views.rows("corrected_means")):
            if rates.rows:
                return [rates]
            raise no_labels(views, sample)
        parts = [*(_part(views, title, chosen, against, whole=whole) for title in list(_PARTS)[:-1]), rates]
        return [part for place, part in enumerate(parts) if part.rows or place < _ALWAYS]


def _part(views: Views, title: str, chosen: dict[str, str], reference: str, *, whole: bool) -> Table:
    view, columns = _PARTS[title]
    shown = tuple(views.columns(view)) if whole else columns
    if view == "judge_agreement":
        found = [row for row in views.rows(view) if _of_both(row, chosen["judge"], reference)]
    else:
        found = [row for row in views.rows(view) if _matches(row, chosen)]
    found.sort(key=_place)
    if not whole:
        shown = tuple(name for name in shown if any(row[name] is not None for row in found))
    notes = (_NOTES[view],) if view in _NOTES else ()
    raters = ", ".join(filter(None, (chosen.get("judge"), reference)))
    apart = [] if whole else [name for name in ("sample", *APART) if name in views.columns(view)]
    return table_of(f"{title} ({raters})", shown, found, if_varying=apart, notes=notes)


def _place(row: dict[str, Any]) -> tuple[object, ...]:
    """Return where a row stands: by cell as in the tables, then by metric, then by the names of two raters."""
    methods = {"zero-shot": 0, "urial": 1, "instruct": 2}
    names = ("sample", "differs_in", "a", "b", "language", "language_a", "language_b", "model")
    metric, method = row.get("metric"), row.get("method")
    return (
        *(str(row.get(name) or "") for name in names),
        bool(row.get("dpo")),
        methods.get(str(method), len(methods)),
        str(method),
        _METRICS.index(metric) if metric in _METRICS else -1,
        *(row.get(name) or "" for name in ("judge_a", "judge_b")),
    )


def _matches(row: dict[str, Any], chosen: dict[str, str]) -> bool:
    return all(row[name] == value for name, value in chosen.items() if name in row)


def _of_both(row: dict[str, Any], judge: str, reference: str) -> bool:
    """Return whether both raters of a pair are the judge, its reference or one of the human raters behind it."""
    raters = (row["judge_a"], row["judge_b"])
    people = reference.startswith(HUMAN)
    return all(name in (judge, reference) or (people and name.startswith(f"{HUMAN}:")) for name in raters)
