"""Samples with labels, written straight into a database in memory: each frame is a cell of one model."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tests import shared

Array = NDArray[np.float64]
NA = 0.0  # in ``f`` and ``y``: the judge or rater said N/A; NaN: no score, no label


@dataclass(frozen=True)
class Frame:
    """Answers of a cell to queries 0, 1, ...: judge's scores ``f`` (m,), labels ``y`` (raters, m), ``stratum`` (m,).

    The first ``per_cell`` of a stratum are drawn.
    """

    f: Sequence[float] | Array
    y: Sequence[Sequence[float]] | Array
    stratum: Sequence[str] | None = None
    per_cell: int = 10_000
    method: str = "urial"
    language: str = "en"


def database(frames: Mapping[str, Frame], *, metric: str = "helpfulness") -> duckdb.DuckDBPyConnection:
    """Return a database of the frames: model -> Frame; models of one name before a slash are one model.

    The judge is called judge, the raters are human:0, human:1, ...; all score ``metric`` alone.
    """
    folder = tempfile.mkdtemp(dir=os.environ[shared.FOLDER])
    path = shutil.copy(shared.empty_database(), Path(folder) / "frames.duckdb")
    con = duckdb.connect(str(path), config={"threads": 1})
    tables: dict[str, list[dict[str, object]]] = {}

    def put(table: str, **row: object) -> None:
        tables.setdefault(table, []).append(row)

    time = pd.Timestamp("2026-11-01")
    for language in sorted({frame.language for frame in frames.values()}):
        for i in range(max(len(frame.f) for frame in frames.values())):
            asked = {"dataset": "d", "query_id": str(i), "language": language, "split": "multi"}
            put("queries", query_key=f"{language}{i}", **asked, instruction=f"question {i}")
        put("judge_templates", template_sha256=f"t {language}", name="multi", text=language, metrics=[metric])
    put("judges", judge_id="j", name="judge", backend="openai", model="j")
    for r in range(max(len(frame.y) for frame in frames.values())):
        put("judges", judge_id=f"r{r}", name=f"human:{r}", backend="human", model=str(r))
    drawn = max(frame.per_cell for frame in frames.values())
    put("samples", sample_id="s", name="S", seed=1, per_cell=drawn, filters="{}", created_at=time)
    for model in {name.split("/")[0] for name in frames}:
        put("models", model_id=model, label=model, variant="base", dpo=False)
    for cell, (name, frame) in enumerate(frames.items()):
        of_cell = {"model_id": name.split("/")[0], "method": frame.method, "language": frame.language}
        named = {"weights": name, "recipe": frame.method, "dataset": "d", "settings_id": "imported"}
        put("cells", cell_id=f"c{cell}", **named, **of_cell, created_at=time)
        strata = list(frame.stratum or ["multi"] * len(frame.f))
        for i, stratum in enumerate(strata):
            key, text = f"{cell} {i}", {"text": str(i), "raw_text": str(i), "finish_reason": "stop"}
            asked = {"query_key": f"{frame.language}{i}", "run_id": "r", "cell_id": f"c{cell}", "created_at": time}
            put("responses", response_id=key, **of_cell, **text, **asked)
            place, size = strata[: i + 1].count(stratum), strata.count(stratum)
            put("sample_items", sample_id="s", response_id=key, stratum=stratum, n_stratum=size, place=place)
            for judge_id, score in (("j", frame.f[i]), *((f"r{r}", row[i]) for r, row in enumerate(frame.y))):
                if not np.isnan(score) or judge_id == "j":
                    scored = [None if np.isnan(score) or score == NA else float(score)]
                    verdict = {"status": "ok", "scores": scored, "not_applicable": [bool(score == NA)]}
                    keys = {"judgment_id": f"{key} {judge_id}", "attempt": 1, "repeat": 0, "judge_id": judge_id}
                    template = {"template_sha256": f"t {frame.language}"}
                    put("judgments", response_id=key, **keys, **template, **verdict, created_at=time)
    for table, found in tables.items():
        con.register("given", pd.DataFrame(found))
        con.execute(f"insert into raw.{table} by name select * from given")
        con.unregister("given")
    return con


def rows(con: duckdb.DuckDBPyConnection, view: str, where: str = "reading = 'strict'") -> dict[str, dict[str, object]]:
    """Return the rows of a view by model."""
    found = con.execute(f"select * from main.{view} where {where}")
    names = [column[0] for column in found.description]
    return {row["model"]: row for row in (dict(zip(names, values, strict=True)) for values in found.fetchall())}
