"""Samples drawn by an error: flagged answers and others, labelled yes or no, and the error rate that they correct."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import icl_local
from icl_local import store
from icl_local.cli import icl
from icl_local.exceptions import ConfigError, InputError
from icl_local.judging import draw_sample, list_samples, open_rating
from icl_local.judging.rating import Rating
from icl_local.store import Selection, Store
from tests.judge_rows import database, response_rows
from tests.results import regression_estimator

FLAGGED, TRUE = 30, {*range(24), 60, 61}  # numbers of queries: the detector flags the first; people find an error


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cell of 120 answers, and a sample of 20 flagged and 20 other ones that ana has labelled."""
    rows = response_rows(120)
    path = database(tmp_path_factory.mktemp("errors") / "e.duckdb", rows)
    detected = {"error": "infinite_loop", "detector_version": "1"}
    with Store(path) as target:
        for number, answer in enumerate(row for table, row in rows if table == "responses"):
            found = number < FLAGGED
            target.put([("critical_errors", {**detected, "response_id": answer["response_id"], "found": found})])
    draw_sample(path, "LOOPS", Selection(), per_cell=20, seed=1, by="infinite_loop")
    with open_rating(path, "LOOPS", "ana") as rating:
        for number in range(40):
            label(rating, number)
    return path


def label(rating: Rating, number: int) -> None:
    asked = int(rating.items[number].text.split()[-1].removesuffix("."))
    rating.save({"id": rating.item(number)["id"], "scores": {"infinite_loop": int(asked in TRUE)}, "seconds": 3})


def test_flagged_answers_and_others_are_strata_and_a_rater_is_asked_yes_or_no(db: Path) -> None:
    strata = "select stratum, n_stratum, count(*) from raw.sample_items where place <= 20 group by all order by 1"
    assert store.query(db, strata).rows == [("flagged", 30, 20), ("others", 90, 20)]
    assert list_samples(db).dicts()[0]["by"] == "infinite_loop"
    with open_rating(db, "LOOPS", "ben") as rating:
        shown = rating.item(0)
        for wrong in ("N/A", 2, True, 0.0, "1"):
            with pytest.raises(InputError, match="a score is one of 0, 1"):
                rating.save({"id": shown["id"], "scores": {"infinite_loop": wrong}})
    assert shown["marks"] == [0, 1]
    assert shown["scale"] == ["no infinite loop", "an infinite loop"]
    assert "repeating itself" in shown["aspects"][0]["line"]
    assert not {"flagged", "stratum", "strata"} & {*shown, *map(str, shown.values())}


def test_the_view_is_the_estimator(db: Path) -> None:
    (row,) = store.query(db, "from corrected_error_rates").dicts()
    labels = (
        "select stratum = 'others', sum(scores[1]), count(*) "
        "from raw.judgments join raw.sample_items using (response_id) group by all order by 1"
    )
    (_, *flagged), (_, *others) = store.query(db, labels).rows
    errors, n = np.array([flagged, others]).T[:, None, :]
    true = regression_estimator.rate(errors, n, np.array([[30, 90]]))
    assert [row["corrected"], row["ci_low"], row["ci_high"]] == pytest.approx(
        [100 * bound[0] for bound in (true.estimate, true.low, true.high)], abs=1e-9
    )
    assert (row["detected"], row["n"], row["m"], row["m_flagged"]) == (25, 40, 120, 30)
    assert (row["confirmed"], row["missed"]) == pytest.approx(tuple(100 * errors[0] / n[0]))
    assert row["note"] == "fewer than 30 labels in a stratum"


def test_trust_prints_the_corrected_rate_without_a_judge(db: Path) -> None:
    result = CliRunner().invoke(icl, ["trust", "--sample", "LOOPS", "--db", str(db)], catch_exceptions=False)
    (row,) = store.query(db, "from corrected_error_rates").dicts()
    assert "Error rates corrected by labels" in result.stdout
    assert f"{row['corrected']:.2f}" in result.stdout
    refused = CliRunner().invoke(icl, ["sample", "draw", "X", "--per-cell", "1", "--seed", "1", "--by", "task",
                                       "--errors", "infinite_loop", "--db", str(db)])  # fmt: skip
    assert "--by or --errors, not both" in refused.stderr


def test_a_plan_says_how_far_missed_errors_could_move_the_rate(db: Path) -> None:
    plan = draw_sample(db, "MORE", Selection(), per_cell=45, seed=1, by="infinite_loop", plan=True)
    widths = {row["stratum"]: row["half_width"] for row in plan.dicts()}
    others = 100 * 0.75 * np.sqrt(1 / 2) * regression_estimator.wilson(np.array(0), np.array(45), 1)
    assert widths == pytest.approx({"flagged": 0, "others": others})
    with pytest.raises(ConfigError, match="no answered response"):  # the detector of code counted none of them
        draw_sample(db, "CODE", Selection(), per_cell=5, seed=1, by="unintended_code")


def test_few_labels_give_no_rate_and_labels_of_a_score_sample_no_error(db: Path) -> None:
    draw_sample(db, "PILOT", Selection(), per_cell=12, seed=1)
    with open_rating(db, "PILOT", "cleo") as rating:
        rating.save({"id": rating.item(0)["id"], "scores": {a["metric"]: 4 for a in rating.item(0)["aspects"]}})
    progress = store.query(db, "select distinct sample, rater from sample_progress order by all").rows
    assert progress == [("LOOPS", "ana"), ("PILOT", "cleo")]
    draw_sample(db, "SECOND", Selection(), per_cell=20, seed=2, by="infinite_loop")
    rows = {row["sample"]: row for row in store.query(db, "from corrected_error_rates").dicts()}
    assert rows["SECOND"]["corrected"] is None
    assert rows["SECOND"]["note"].startswith("fewer than 10 labels in a stratum")
    (table,) = icl_local.trust(db, sample="LOOPS")
    assert table.dicts()[0]["corrected"] == rows["LOOPS"]["corrected"]
    with pytest.raises(ConfigError, match="name a judge with --judge"):
        icl_local.trust(db, sample="PILOT")
