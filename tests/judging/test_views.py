"""The judge's views against the same figures worked out otherwise in Python."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from icl_local import store
from icl_local.judging.ledger import Attempt, Task
from icl_local.judging.parse import AspectScore, Verdict, no_verdict
from icl_local.judging.template import Template, Templates
from icl_local.store.database import Store
from tests.judge_rows import database, response_rows

METRICS = ("helpfulness", "clarity", "factuality", "depth", "engagement", "language")
JUDGES = ("openai:a", "local:b.gguf")


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """40 Spanish responses, two judges, the first twice; some scores are missing, some responses in English."""
    rng = random.Random(4)
    path = database(tmp_path_factory.mktemp("views") / "v.duckdb", response_rows(40, language="es"))
    template = Templates().get(split="multi", language="es")
    responses = store.query(path, "select response_id from responses order by 1").rows
    given: dict[tuple[str, int, str, str], float | None] = {}
    records = [("judge_templates", template.row())]
    with Store(path) as target:
        for judge, repeat in ((JUDGES[0], 0), (JUDGES[0], 1), (JUDGES[1], 0)):
            records.append(("judges", {"judge_id": judge, "name": judge, "backend": "openai", "model": judge}))
            for (response_id,) in responses:
                scores = []
                for metric in METRICS:
                    score = None if rng.random() < 0.1 else float(rng.randint(1, 5))
                    given[judge, repeat, response_id, metric] = score
                    scores.append(AspectScore(metric, score, score is None, "because"))
                key = f"{judge}{repeat}{response_id}"
                task = Task(key, 1, response_id, template, repeat)
                failed = Attempt(task, no_verdict("http_error", template.aspects, "500"), False, {"cost_usd": 0.25})
                again = replace(task, attempt=2)
                kept = Attempt(again, Verdict("ok", tuple(scores)), True, {"cost_usd": 0.5, "prompt_tokens": 10})
                records += [failed.record(judge), kept.record(judge)]
        target.put(records)
    return path, given


def table(path, sql: str) -> list[dict]:
    found = store.query(path, sql)
    return [dict(zip(found.columns, row, strict=True)) for row in found.rows]


def test_scores_are_one_row_a_response_judge_repeat_and_aspect(judged):
    path, given = judged
    rows = table(path, "select * from scores")
    assert {(r["judge"], r["repeat"], r["response_id"], r["metric"]): r["score"] for r in rows} == given
    assert len(rows) == len(given)
    assert all(row["attempt"] == 2 and row["not_applicable"] == (row["score"] is None) for row in rows)


def test_attempts_and_ledger_count_every_attempt_and_its_cost(judged):
    path, _ = judged
    attempts = table(path, "select status, transient, scored from judgments")
    assert Counter(a["status"] for a in attempts) == {"http_error": 120, "ok": 120}
    assert all(a["transient"] != a["scored"] for a in attempts)
    ledger = {row["judge"]: row for row in table(path, "select * from judge_ledger")}
    assert {judge: row["status"] for judge, row in ledger.items()} == dict.fromkeys(JUDGES, "ok")
    first = ledger[JUDGES[0]]
    assert (first["n_judgments"], first["n_attempts"]) == (80, 160)
    assert (first["cost_usd"], first["prompt_tokens"]) == (60.0, 800)


def paired(given, a, b, metric) -> tuple[list[float], list[float]]:
    keys = [r for (judge, repeat, r, m) in given if (judge, repeat) == a and m == metric]
    pairs = [(given[*a, r, metric], given[*b, r, metric]) for r in keys]
    kept = [pair for pair in pairs if None not in pair]
    return [x for x, _ in kept], [y for _, y in kept]


def cohen_quadratic(a: list[float], b: list[float]) -> float:
    """From the confusion matrix, as Cohen (1968) defines it."""
    observed = np.zeros((5, 5))
    for x, y in zip(a, b, strict=True):
        observed[int(x) - 1, int(y) - 1] += 1
    expected = np.outer(observed.sum(1), observed.sum(0)) / observed.sum()
    weights = np.subtract.outer(np.arange(5), np.arange(5)) ** 2
    return 1 - (weights * observed).sum() / (weights * expected).sum()


def krippendorff_interval(a: list[float], b: list[float]) -> float:
    """From the coincidence matrix over values, as Krippendorff (2011) defines it."""
    coincidences: Counter[tuple[float, float]] = Counter()
    for x, y in zip(a, b, strict=True):
        coincidences[x, y] += 1
        coincidences[y, x] += 1
    totals = Counter()
    for (x, _), count in coincidences.items():
        totals[x] += count
    n = sum(totals.values())
    observed = sum(count * (x - y) ** 2 for (x, y), count in coincidences.items())
    expected = sum(totals[x] * totals[y] * (x - y) ** 2 for x, y in itertools.product(totals, totals)) / (n - 1)
    return 1 - observed / expected


def test_agreement_of_judges_and_self_consistency_match_their_definitions(judged):
    path, given = judged
    rows = table(path, "select * from judge_agreement")
    assert len(rows) == 3 * len(METRICS)
    for row in rows:
        raters = (row["judge_a"], row["repeat_a"]), (row["judge_b"], row["repeat_b"])
        a, b = paired(given, *raters, row["metric"])
        assert row["n"] == len(a)
        assert row["exact_agreement"] == pytest.approx(np.mean(np.equal(a, b)))
        assert row["mean_difference"] == pytest.approx(np.mean(b) - np.mean(a))
        assert row["kappa_quadratic"] == pytest.approx(cohen_quadratic(a, b))
        assert row["alpha_interval"] == pytest.approx(krippendorff_interval(a, b))


def test_the_pooled_length_effect_is_the_least_squares_line(judged):
    path, given = judged
    lengths = dict(store.query(path, "select response_id, length(text) from responses").rows)
    rows = table(path, "select * from length_effect")
    assert len(rows) == 3 * len(METRICS)
    for row in rows:
        points = [
            (lengths[r] / 1000, score)
            for (judge, repeat, r, metric), score in given.items()
            if (judge, repeat, metric) == (row["judge"], row["repeat"], row["metric"]) and score is not None
        ]
        x, y = np.array(points).T
        design = np.column_stack([np.ones_like(x), x])
        (intercept, slope), *_ = np.linalg.lstsq(design, y, rcond=None)
        assert row["n"] == len(x)
        assert row["slope_pooled"] == pytest.approx(slope)
        assert row["intercept"] == pytest.approx(intercept)
        assert row["r2"] == pytest.approx(np.corrcoef(x, y)[0, 1] ** 2)


def test_language_score_beside_the_identified_language(judged):
    path, given = judged
    rows = table(path, "select * from language_agreement")
    assert len(rows) == 3
    for row in rows:
        scores = [
            score
            for (judge, repeat, _, metric), score in given.items()
            if (judge, repeat, metric) == (row["judge"], row["repeat"], "language") and score is not None
        ]
        # every text was identified as English, so the identifier never says "the right language"
        assert (row["n"], row["both_yes"], row["identifier_only"], row["identified_share"]) == (len(scores), 0, 0, 0.0)
        assert row["agreement"] == pytest.approx(np.mean(np.array(scores) < 4))
        assert row["kappa"] == pytest.approx(0.0)


def test_judges_that_always_agree_have_agreement_one_and_undefined_kappa_where_nothing_varies(tmp_path):
    path = database(tmp_path / "t.duckdb", response_rows(3))
    template = Templates().get(split="multi", language="en")
    responses = store.query(path, "select response_id from responses order by 1").rows
    with Store(path) as target:
        target.put([("judge_templates", template.row())])
        for judge in JUDGES:
            target.put([("judges", {"judge_id": judge, "name": judge, "backend": "openai", "model": judge})])
            for number, (response_id,) in enumerate(responses):
                given = {"depth": float(number + 1), "clarity": 3.0}
                scores = tuple(AspectScore(metric, given.get(metric)) for metric in METRICS[:5])
                task = Task(judge + response_id, 1, response_id, template, 0)
                target.put([Attempt(task, Verdict("ok", scores)).record(judge)])
    rows = {row["metric"]: row for row in table(path, "select * from judge_agreement")}
    found = {
        metric: [row[k] for k in ("exact_agreement", "kappa_quadratic", "alpha_interval")]
        for metric, row in rows.items()
    }
    assert found == {"depth": [1, 1, 1], "clarity": [1, None, None]}


def test_an_aspect_of_a_users_own_prompt_is_kept_beside_the_studys(tmp_path):
    path = database(tmp_path / "t.duckdb", response_rows(2))
    template = Template("multi", '${instruction} ${candidate} {"wit": {"reason": ""}, "clarity": {"reason": ""}}', "en")
    responses = [response_id for (response_id,) in store.query(path, "select response_id from responses").rows]
    with Store(path) as target:
        target.put([("judge_templates", template.row())])
        target.put([("judges", {"judge_id": "j", "name": "j", "backend": "openai", "model": "j"})])
        for response_id, wit, status in ((responses[0], 2.0, "ok"), (responses[1], None, "incomplete")):
            verdict = Verdict(status, (AspectScore("wit", wit, reason="dry"), AspectScore("clarity", 4.0)))
            target.put([Attempt(Task("j" + response_id, 1, response_id, template, 0), verdict).record("j")])
    rows = table(path, "select metric, score, reason from scores order by metric, score")
    assert [tuple(row.values()) for row in rows] == [
        ("clarity", 4.0, None),
        ("clarity", 4.0, None),
        ("wit", 2.0, "dry"),
        ("wit", None, "dry"),
    ]
    (means,) = table(path, "select metric, mean, n, n_expected from score_means where reading = 'strict'")
    assert tuple(means.values()) == ("clarity", 4.0, 2, 2)
