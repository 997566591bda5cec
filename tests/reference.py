"""Reference values for the views of scores and errors, computed from the raw tables in pandas."""

from __future__ import annotations

import functools
import gc
import itertools
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

CELL = ["model", "quantization", "method", "language", "dpo", "settings_id"]
ASPECTS = ["helpfulness", "clarity", "factuality", "depth", "engagement"]
METRICS = [*ASPECTS, "avg", "language", "safety"]
SHOWN = dict(zip(["helpful", "clear", "factual", "depth", "engaging", "avg", "lang", "safe"], METRICS, strict=True))


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Return statsmodels' corrected p values without its call of gc.collect, a third of a second in a large process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gc, "collect", lambda: 0)
        corrected: NDArray[np.float64] = multipletests(p_values, method="holm")[1]
    return corrected


@functools.cache
def raw(path: Path, table: str) -> pd.DataFrame:
    with duckdb.connect(str(path), read_only=True) as con:
        return con.execute(f"select * from raw.{table}").df()


def labels(value: object) -> list[str] | None:
    """Return a varchar[] value as a list; None for NULL in any form of pandas."""
    return list(value) if isinstance(value, np.ndarray | list) else None


def view(path: Path, name: str, **variables: str) -> pd.DataFrame:
    with duckdb.connect(str(path), read_only=True) as con:
        for variable, value in variables.items():
            con.execute(f"set variable icl_{variable} = ?", [value])
        return con.execute(f"select * from {name}").df()


@functools.cache
def responses(path: Path) -> pd.DataFrame:
    """Return one row per response with its cell and its query."""
    found = raw(path, "responses").merge(raw(path, "models")[["model_id", "label", "dpo", "size_class"]], on="model_id")
    found = found.merge(raw(path, "gguf_files")[["gguf_sha256", "quantization"]], on="gguf_sha256")
    queries = raw(path, "queries").drop(columns=["language"])
    return found.merge(queries, on="query_key").rename(columns={"label": "model"})


@functools.cache
def verdicts(path: Path, reading: str) -> pd.DataFrame:
    """Return one row per response, judge and template: metrics as columns, means over repeats of the last attempts."""
    judgments = raw(path, "judgments").merge(raw(path, "judge_templates")[["template_sha256", "metrics"]])
    judgments = judgments[judgments["scores"].notna()]
    judgments = judgments[judgments["attempt"] == judgments.groupby("judgment_id")["attempt"].transform("max")]
    judgments["scores"] = [np.ma.filled(np.ma.asarray(given, float), np.nan) for given in judgments["scores"]]
    scores = judgments.explode(["metrics", "scores", "not_applicable"])
    scores = scores.rename(columns={"metrics": "metric", "scores": "score"}).astype({"score": float})
    if reading == "just_eval":
        scores.loc[scores["not_applicable"].astype(bool), "score"] = 5.0
    keys = ["response_id", "judge_id", "template_sha256"]
    wide = scores.groupby([*keys, "metric"])["score"].mean().unstack("metric").reindex(columns=METRICS)
    wide["avg"] = wide[ASPECTS].mean(axis=1, skipna=False)
    judges = raw(path, "judges").rename(columns={"name": "judge"})[["judge_id", "judge"]]
    wide = wide.rename(columns={"language": "language score"}).reset_index().merge(judges, on="judge_id")
    described = responses(path)[["response_id", *CELL, "split", "dataset", "query_id"]]
    return wide.merge(described, on="response_id").assign(reading=reading)


@functools.cache
def means(path: Path) -> pd.DataFrame:
    """score_means."""
    parts = []
    for reading in ("strict", "just_eval"):
        wide = verdicts(path, reading)
        for metric in METRICS:
            column = "language score" if metric == "language" else metric
            grouped = wide.groupby([*CELL, "judge", "template_sha256", "reading"])[column]
            part = grouped.agg(["mean", "std", "count"]).reset_index().assign(metric=metric)
            parts.append(part[part["count"] > 0])
    return pd.concat(parts).rename(columns={"std": "sd", "count": "n"})


@functools.cache
def outcomes(path: Path) -> pd.DataFrame:
    """Return one row per response and error that it counts for."""
    described = responses(path)
    described = described[~described["finish_reason"].isin(["prompt_too_long", "error"])]
    described = described.assign(
        known=[labels(task) is not None for task in described["task"]],
        coding=["coding" in (labels(task) or []) for task in described["task"]],
    )
    found = raw(path, "critical_errors").merge(described, on="response_id")
    found = found[(found["error"] != "unintended_code") | found["known"]]
    return found.assign(failed=found["found"] & ~((found["error"] == "unintended_code") & found["coding"]))


@functools.cache
def rates(path: Path) -> pd.DataFrame:
    """error_rates without its intervals."""
    grouped = outcomes(path).groupby([*CELL, "error"])["failed"].agg(["sum", "count"]).reset_index()
    grouped = grouped.rename(columns={"sum": "n_errors", "count": "n"})
    return grouped.assign(percent=100.0 * grouped["n_errors"] / grouped["n"])


@functools.cache
def shown_cells(path: Path) -> pd.DataFrame:
    """Return the quantization and settings shown for each model, method, language and dpo."""
    counted = responses(path).groupby(CELL).agg(n=("response_id", "count"), last=("created_at", "max")).reset_index()
    counted = counted.sort_values(["n", "last", "quantization", "settings_id"], ascending=[False, False, True, True])
    return counted.drop_duplicates(["model", "method", "language", "dpo"])[CELL]


@functools.cache
def score_table(path: Path, *, judge: str, reading: str = "strict") -> pd.DataFrame:
    """Return table 3 of every model and language; tables 1 and 2 are parts of it."""
    found = means(path)
    found = found[(found["judge"] == judge) & (found["reading"] == reading)].merge(shown_cells(path), on=CELL)
    # of several templates the one with most scores, apart for safety
    found = found.assign(safety=found["metric"] == "safety")
    given = found.groupby([*CELL, "safety", "template_sha256"])["n"].sum().reset_index()
    given = given.sort_values(["n", "template_sha256"], ascending=[False, True]).drop_duplicates([*CELL, "safety"])
    found = found.merge(given[[*CELL, "safety", "template_sha256"]], on=[*CELL, "safety", "template_sha256"])
    wide = found.pivot_table(index=["language", "model", "method", "dpo"], columns="metric", values="mean")
    return wide.reindex(columns=METRICS).rename(columns={metric: name for name, metric in SHOWN.items()})


@functools.cache
def error_table(path: Path) -> pd.DataFrame:
    """Return table 8 of every model and language; tables 4 and 6 are parts of it."""
    found = rates(path).merge(shown_cells(path), on=CELL)
    return found.pivot_table(index=["language", "model", "method", "dpo"], columns="error", values="percent")


def pairs(path: Path) -> pd.DataFrame:
    """Return pairs of cells that differ in one of model, method, language, dpo: differs_in and both names."""
    names = ["model", "method", "language", "dpo"]
    cells = shown_cells(path).to_dict("records")
    rows = []
    for a, b in itertools.permutations(cells, 2):
        differing = [name for name in names if a[name] != b[name]]
        if len(differing) == 1:
            both = {f"{name}_{side}": cell[name] for side, cell in (("a", a), ("b", b)) for name in CELL}
            rows.append({"differs_in": differing[0], "a": str(a[differing[0]]), "b": str(b[differing[0]]), **both})
    return pd.DataFrame(rows)


def score_interval(mean: float, se: float, n: int, df: int) -> tuple[float, float]:
    """Interval of a mean on [1, 5]: Wilson's with the effective size, Student's t with ``df`` degrees of freedom."""
    if n < 2:
        return float("nan"), float("nan")
    if se == 0:
        unseen = stats.beta.ppf(0.975, 1, n)
        return mean - (mean - 1) * unseen, mean + (5 - mean) * unseen
    share, q = (mean - 1) / 4, stats.t.ppf(0.975, df)
    size = share * (1 - share) / (se / 4) ** 2 if 0 < share < 1 else n
    low, high = proportion_confint(share * size, size, alpha=2 * stats.norm.sf(q), method="wilson")
    return 1 + 4 * low, 1 + 4 * high
