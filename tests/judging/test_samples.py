"""Samples of answers: which are drawn, what is stored, and what a plan says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from scipy import stats

from icl_local import store
from icl_local.cli import icl
from icl_local.exceptions import ConfigError
from icl_local.exchange import merge
from icl_local.judging import draw_sample, list_samples, samples
from icl_local.store import Selection, Store, upkeep
from tests.judge_rows import database, response_rows


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two methods in English and one in French, 40 queries each, and 6 safety queries."""
    cells = [response_rows(40, method=method) for method in ("urial", "zero-shot")]
    path = tmp_path_factory.mktemp("samples") / "s.duckdb"
    return database(path, *cells, response_rows(40, language="fr"), response_rows(6, split="safety"))


@pytest.fixture
def db(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(store.spool_folder(made), store.spool_folder(tmp_path / "s.duckdb"))
    return Path(shutil.copy(made, tmp_path / "s.duckdb"))


def drawn(db: Path, name: str = "PILOT") -> dict[tuple[Any, ...], set[str]]:
    """Return the queries drawn, by method, language and stratum."""
    sql = (
        "select method, language, stratum, query_id from raw.sample_items join raw.samples using (sample_id) "
        "join responses using (response_id) where name = ? and place <= per_cell"
    )
    found: dict[tuple[Any, ...], set[str]] = {}
    for *cell, query in store.query(db, sql, [name]).rows:
        found.setdefault(tuple(cell), set()).add(query)
    return found


def test_every_cell_gets_the_same_queries_and_a_larger_sample_holds_the_smaller(db: Path) -> None:
    draw_sample(db, "PILOT", Selection(), per_cell=10, seed=1)
    small = drawn(db)
    assert {len(queries) for (_, _, stratum), queries in small.items() if stratum == "multi"} == {10}
    assert len({frozenset(queries) for (_, _, stratum), queries in small.items() if stratum == "multi"}) == 1
    assert len(small["urial", "en", "safety"]) == 6
    draw_sample(db, "PILOT", Selection(), per_cell=20, seed=1)
    large = drawn(db)
    assert all(queries <= large[cell] for cell, queries in small.items())
    assert len(large["urial", "fr", "multi"]) == 20
    frame = store.query(db, "select count(*), count(distinct sample_id), max(n_stratum) from raw.sample_items").rows
    assert frame == [(126, 1, 40)]
    (listed,) = list_samples(db).dicts()
    assert (listed["sample"], listed["per_cell"], listed["drawn"], listed["labels"]) == ("PILOT", 20, 66, 0)


def test_a_name_stands_for_one_seed_strata_and_frame(db: Path) -> None:
    draw_sample(db, "PILOT", Selection(language="en"), per_cell=5, seed=1)
    for options, why in (
        ({"seed": 2}, "has seed 1"),
        ({"by": "task"}, "is by split alone"),
        ({"chosen": Selection(language="en", method="urial")}, "has another frame"),
    ):
        given: dict[str, Any] = {"chosen": Selection(language="en"), "seed": 1, **options}
        with pytest.raises(ConfigError, match=f"sample PILOT {why}.*under a new name"):
            draw_sample(db, "PILOT", per_cell=5, **given)
    with pytest.raises(ConfigError, match="no answered response"):
        draw_sample(db, "NONE", Selection(split="safety", method="zero-shot"), per_cell=5, seed=1)


def test_a_plan_stores_nothing_and_says_what_labels_would_give(db: Path) -> None:
    plan = draw_sample(db, "PILOT", Selection(method="urial"), per_cell=20, seed=1, plan=True)
    assert list_samples(db).rows == []
    rows = {(row["language"], row["stratum"]): row for row in plan.dicts()}
    half = stats.t.ppf(0.975, 18) * np.sqrt((1 - 0.25 * (1 - 20 / 40)) / 20)
    assert rows["en", "multi"]["half_width"] == pytest.approx(half)
    assert (rows["en", "safety"]["answers"], rows["en", "safety"]["drawn"]) == (6, 6)
    assert rows["en", "safety"]["half_width"] is None  # with 3 labels it would be wider than the scale
    assert any("46 labels, 1.1 hours at 90 seconds" in note for note in plan.notes)
    assert any("1 row has fewer than 20 answers" in note for note in plan.notes)


def test_the_command_draws_plans_and_lists(db: Path) -> None:
    draw = ["sample", "draw", "PILOT", "--per-cell", "20", "--seed", "1", "--method", "urial", "--db", str(db)]
    planned = CliRunner().invoke(icl, [*draw, "--plan", "--format", "csv"], catch_exceptions=False)
    assert len(planned.stdout.splitlines()) == 4
    assert "46 labels, 1.1 hours" in planned.stderr
    drawn = CliRunner().invoke(icl, draw, catch_exceptions=False)
    assert "next: icl browse --rate PILOT" in drawn.stderr
    listed = CliRunner().invoke(icl, ["sample", "list", "--format", "json", "--db", str(db)], catch_exceptions=False)
    assert [row["drawn"] for row in json.loads(listed.stdout)] == [46]
    alone = CliRunner().invoke(icl, ["browse", "--rate", "PILOT", "--db", str(db)])
    assert "--rate and --rater belong together" in alone.stderr


def test_tasks_are_strata_within_a_split(db: Path) -> None:
    with store.writer(db, wait_seconds=1) as con:
        con.execute("update raw.queries set task = if(query_id::int < 10, ['math', 'coding'], ['writing']) "
                    "where split = 'multi'")  # fmt: skip
    draw_sample(db, "PILOT", Selection(method="urial", language="en"), per_cell=4, seed=1, by="task")
    sizes = store.query(db, "select distinct stratum, n_stratum from raw.sample_items order by 1").rows
    assert sizes == [("multi: math", 10), ("multi: writing", 30), ("safety: none", 6)]


def test_a_sample_is_merged_rebuilt_copied_and_loses_what_is_forgotten(db: Path, made: Path, tmp_path: Path) -> None:
    other = Path(shutil.copy(made, tmp_path / "other.duckdb"))
    for per_cell in (10, 20):
        draw_sample(db, "PILOT", Selection(), per_cell=per_cell, seed=1)
        with Store(other) as target:
            merge.merge(target, db)
        assert [row["per_cell"] for row in list_samples(other).dicts()] == [per_cell]
    items = "select count(*) from raw.sample_items"
    upkeep.snapshot(other, tmp_path / "copy.duckdb")
    assert store.query(tmp_path / "copy.duckdb", items).rows == [(126,)]
    ((gone,),) = store.query(db, "select min(response_id) from raw.sample_items").rows
    upkeep.forget(db, [gone])
    db.unlink()
    assert store.query(db, items).rows == [(125,)]
    assert not [finding for finding in upkeep.check(db) if "sample" in finding.message]


def test_over_many_seeds_every_response_is_drawn_alike_and_estimates_average_to_the_mean() -> None:
    """2,000 seeds, 10 of 40: each response 0.25 of the time, the mean of means that of the frame, by 4 se."""
    scores = np.random.default_rng(1).integers(1, 6, size=40)
    frame = [{"cell_id": "c", "split": "multi", "task": None, "query_id": str(i)} for i in range(40)]
    times, means = np.zeros(40), []
    for seed in range(2_000):
        samples._place(frame, seed=seed, by=None)
        chosen = np.array([row["place"] <= 10 for row in frame])
        times += chosen
        means.append(scores[chosen].mean())
    assert np.all(np.abs(times / 2_000 - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 2_000))
    assert abs(np.mean(means) - scores.mean()) < 4 * np.std(means) / np.sqrt(2_000)


def test_probabilities_and_equatings_come_through_the_spool(db: Path) -> None:
    judgment = {
        "judgment_id": "x", "attempt": 1, "response_id": "r", "judge_id": "j", "template_sha256": "t", "repeat": 0,
        "status": "ok", "probabilities": [[0.1, 0.2, 0.3, 0.4, 0.0, float("nan")]], "created_at": store.now(),
    }  # fmt: skip
    equating = {
        "equating_id": "e", "from_judge_id": "a", "from_template_sha256": "t", "to_judge_id": "b",
        "to_template_sha256": "t", "language": "en", "metric": "depth", "method": "equipercentile", "n": 300,
        "n_queries": 100, "n_systems": 3, "map": [1.0, 2.1, 3.0, 3.9, 5.0], "samples": 2000, "seed": 1,
        "created_at": store.now(),
    }  # fmt: skip
    with Store(db) as target:
        target.put([("judgments", judgment), ("equatings", equating)])
    db.unlink()  # read from the spool
    ((given,),) = store.query(db, "select probabilities from raw.judgments").rows
    assert given[0][:5] == [0.1, 0.2, 0.3, 0.4, 0.0]
    assert np.isnan(given[0][5])
    assert store.query(db, "select map, refused from raw.equatings").rows == [([1.0, 2.1, 3.0, 3.9, 5.0], None)]
