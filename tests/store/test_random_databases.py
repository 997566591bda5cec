"""Random databases: every view shows what is true of the description, and counts a query once in a cell."""

from __future__ import annotations

import math
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from icl_local.store import ingest, schema, spool
from tests import shared
from tests.store.random_databases import (
    DATASETS,
    N_QUERIES,
    WEIGHTS,
    Answer,
    Asked,
    Attempt,
    Cell,
    Database,
    Put,
    Row,
    Verdict,
    databases,
    puts,
)
from tests.store.truth import VIEWS, Truth

# views that no response, judgment or cell reaches, and those of fixed figures
NOT_MODELLED = {
    "choices": "scorings; tests/running/test_choices.py",
    "alt_test": "labels of samples; tests/results/test_agreement.py",
    "decoding_errors": "sampled responses; tests/whole/test_draws.py",
    "draw_diversity": "sampled responses; tests/whole/test_draws.py",
    "corrected_differences": "labels of samples; tests/results/test_corrected.py",
    "corrected_error_rates": "labels of samples; tests/judging/test_error_samples.py",
    "corrected_means": "labels of samples; tests/results/test_corrected.py",
    "answers": "numbers of cells and queries, which query_scores and response_errors go through",
    "bootstrap_differences": "shows rows of icl bootstrap --pairs as they are",
    "bootstrap_intervals": "shows rows of icl bootstrap as they are",
    "expectations": "the newest expectation of a query, which rules read; tests/judging/test_rules.py",
    "equated_means": "maps of icl equate; tests/judging/test_equating.py",
    "judge_bias": "labels of samples; tests/results/test_corrected.py",
    "label_residuals": "labels of samples; tests/results/test_corrected.py",
    "language_bias": "labels of samples; tests/results/test_agreement.py",
    "rater_alpha": "labels of samples; tests/results/test_agreement.py",
    "rater_influence": "labels of samples; tests/results/test_agreement.py",
    "sample_labels": "labels of samples; tests/results/test_agreement.py",
    "instruments": "numbers of judges and templates, which score_means and paired_differences go through",
    "judge_batches": "submissions to a server, which no score goes through",
    "method_cells": "what method_effects and variance_components go through",
    "method_effects": "methods with parameters; tests/results/test_methods.py",
    "metric_means": "metrics that judges of the study do not have; tests/judging/test_rules.py",
    "metric_scores": "what metric_means is over",
    "outcome_tests": "metrics that judges of the study do not have; tests/judging/test_rules.py",
    "printed_values": "the paper's figures alone",
    "probes": "shows rows of the probe as they are",
    "published_audit": "the paper's figures alone",
    "published_errors": "the paper's figures alone",
    "published_scores": "the paper's figures alone",
    "published_token_shift": "published figures alone",
    "published_statements": "the paper's sentences alone",
    "quantization_gate": "comparisons of converted files, before any response",
    "query_scores": "what score_means and paired_differences are over",
    "text_statistics": "means over paper_values, chosen by the paper's sentences; tests/results/test_tables.py",
    "reference_probabilities": "scorings; tests/running/test_scoring.py",
    "sample_progress": "samples are drawn and labelled by people; tests/judging/test_rating.py",
    "shifted_tokens": "scorings; tests/results/test_shift.py",
    "statement_cells": "paper_values chosen by the paper's sentences; tests/results/test_tables.py",
    "text_intervals": "a regression for each sentence; tests/results/test_paired_statistics.py",
    "token_positions": "scorings; tests/results/test_shift.py",
    "token_shift": "scorings; tests/results/test_shift.py",
    "token_shift_by_position": "scorings; tests/results/test_shift.py",
    "token_shift_pairs": "scorings; tests/results/test_shift.py",
    "training_curves": "steps of a DPO run",
    "translation_agreement": "translations are made before queries",
    "translation_candidates": "translations are made before queries",
    "translation_engines": "translations are made before queries",
    "translation_review": "translations are made before queries",
    "variance_components": "repeated measures; tests/results/test_methods.py",
    "verdict_scores": "what variance_components is over",
}

READ_BY_OTHERS = {
    "answers",
    "instruments",
    "metric_scores",
    "printed_values",
    "published_errors",
    "published_scores",
    "query_scores",
}

# views whose n is over several cells, by what it counts: bounded by the responses of the whole database
OVER_CELLS = {"exactness", "judge_agreement", "judge_ledger", "language_agreement", "length_effect", "lineage"}


class Views:
    """The views as tables, each made from those it reads: planning nested views takes most of the time."""

    def __init__(self) -> None:
        self.con = duckdb.connect(config={"threads": 1})
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(schema, "views", dict)
            schema.upgrade(self.con, Path("memory"))
        with duckdb.connect(str(shared.empty_database()), read_only=True) as empty:
            self.sql = dict(empty.execute("select view_name, sql from duckdb_views() where not internal").fetchall())
        self.order = [view for view in schema.views() if view in VIEWS.keys() | READ_BY_OTHERS]
        self.tables = list(ingest.columns(self.con))

    def fill(self, rows: Iterable[Put]) -> None:
        """Replace the rows by those put, which go through a spool."""
        for name in self.tables:
            if name not in schema.INTERNAL or name == "spool_files":
                self.con.execute(f"delete from raw.{name}")
        with tempfile.TemporaryDirectory() as folder:
            writer = spool.Spool(Path(folder))
            for put in rows:
                writer.append(put)
            ingest.Ingest(self.con, Path(folder), ingest.columns(self.con)).run()
            writer.close()
        for name in self.order:
            self.con.execute(f"create or replace table main.{name} as {self.sql[name].split(' AS ', 1)[1]}")

    def rows(self, name: str) -> list[Row]:
        origin = "where origin = 'ours'" if name.startswith("paper_") and name != "paper_cells" else ""
        found = self.con.execute(f"select * from main.{name} {origin}")
        columns = [column[0] for column in found.description]
        return [dict(zip(columns, row, strict=True)) for row in found.fetchall()]


@pytest.fixture(scope="module")
def views() -> Iterator[Views]:
    made = Views()
    yield made
    made.con.close()


def plain(value: Any) -> Any:
    """Return a value without what the two sides may write differently: NaN or NULL, numpy's numbers, -0."""
    if isinstance(value, bool) or value is None:
        return value
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, int | float):
        return None if math.isnan(value) else value + 0.0
    return list(value) if isinstance(value, tuple) else value


def sortable(row: Row) -> tuple[list[str], list[str]]:
    """Return a key that goes by numbers last, so that rounding cannot change the order."""
    values = [row[name] for name in sorted(row)]
    exact = ["" if isinstance(value, float) else str(value) for value in values]
    return exact, [f"{value:.6g}" if isinstance(value, float) else "" for value in values]


def compare(name: str, found: list[Row], true: list[Row]) -> None:
    if not true:
        assert not found, f"{name} has rows: {found[:2]}"
        return
    names = sorted(true[0])
    sides = []
    for rows in (found, true):
        side = [{column: plain(row[column]) for column in names} for row in rows]
        sides.append(sorted(side, key=sortable))
    assert len(found) == len(true), f"{name}: {len(found)} rows, {len(true)} are true"
    for row, truth in zip(*sides, strict=True):
        for column in names:
            a, b = row[column], truth[column]
            if isinstance(a, float) and isinstance(b, float):
                same = math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-6)
            else:
                same = a == b
            assert same, f"{name}.{column} is {a}, true is {b}\nfound: {row}\ntrue:  {truth}"


def check_counts(name: str, found: list[Row], truth: Truth) -> None:
    """No n is above the number of queries of the cell, or of the queries that both cells of a pair have."""
    if not found:
        return
    counted = [column for column in found[0] if (column == "n" or column.startswith("n_")) and column not in _NO_COUNTS]
    counted += [column for column in found[0] if column in ("done", "only_a", "only_b")]
    if not counted or name in OVER_CELLS:
        assert name not in OVER_CELLS or all(row.get("n", 0) <= len(truth.scores) for row in found)
        return
    queries: dict[str, set[str]] = defaultdict(set)
    for row in truth.responses:
        queries[row["cell_id"]].add(row["query_id"])
    for row in found:
        if "cell_id_a" in row:
            limit = len(queries[row["cell_id_a"]] & queries[row["cell_id_b"]])
        else:
            keys = [
                key
                for key in ("cell_id", "model", "method", "language", "dpo", "quantization")
                if row.get(key) is not None
            ]
            alike = [c for c, cell in truth.cells.items() if all(cell[key] == row[key] for key in keys)]
            limit = max((len(queries[c]) for c in alike), default=0)
        for column in counted:
            assert (row[column] or 0) <= limit, f"{name}.{column} is {row[column]} of {limit} queries: {row}"


_NO_COUNTS = {"n_tests", "n_others", "n_wanted", "n_tokens", "n_parallel", "n_attempts"}


def check(views: Views, database: Database) -> None:
    views.fill(puts(database))
    assert views.con.execute("select count(*) from raw.rejected_rows").fetchone() == (0,)
    truth = Truth(database)
    for name, rows_of in VIEWS.items():
        found = views.rows(name)
        compare(name, found, rows_of(truth))
        if name != "throughput":  # n_done there is a process's own count, also of what was forgotten
            check_counts(name, found, truth)


def check_random_databases(views: Views, examples: int, phases: tuple[Phase, ...]) -> None:
    @settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        phases=phases,
        suppress_health_check=list(HealthCheck),
    )
    @given(databases())
    def every_view_is_true(database: Database) -> None:
        check(views, database)

    every_view_is_true()


def test_every_view_is_modelled_or_left_out_for_a_reason(views: Views) -> None:
    assert set(views.sql) == VIEWS.keys() | NOT_MODELLED.keys()
    assert not VIEWS.keys() & NOT_MODELLED.keys()


def test_the_most_used_judge_text_is_that_with_most_scored_queries_not_attempts(views: Views) -> None:
    """In English t1 scores two queries at once, t2 one of them after two failed calls: French meets t1."""
    ok, failed = Attempt("ok", 0), Attempt("http_error", 0)
    t1, t2 = Verdict(0, 0, 0, (ok,)), Verdict(0, 1, 0, (failed, failed, ok))
    query = Asked(text=0, split="multi", task=None, topic=None, tags=None, source_set=None, difficulty=None)

    def answer(number: int, *verdicts: Verdict) -> Answer:
        return Answer(
            query=number,
            finish="stop",
            length=40,
            start=0,
            spoken=None,
            found=(False, False, False),
            detector="1.10.0",
            scanned_before=False,
            retried=False,
            forgotten=False,
            earlier=False,
            verified=None,
            verdicts=verdicts,
        )

    english = Cell(
        weights=WEIGHTS[0],
        method="urial[k=1]",
        edit=0,
        dataset="own",
        language="en",
        settings=0,
        stored_before=False,
        run=0,
        day=0,
        answers=(answer(0, t1, t2), answer(1, t1)),
    )
    french = replace(english, language="fr", answers=(answer(0, t1), answer(1, t1)))
    queries = ((query,) * N_QUERIES,) * len(DATASETS)
    check(views, Database(queries, (english, french), ()))
    compared = {(row["template_sha256"], row["n"]) for row in views.rows("paired_differences")}
    assert compared == {("t1", 2)}


def test_views_show_what_is_true_of_random_databases(views: Views) -> None:
    check_random_databases(views, 25, (Phase.generate,))


@pytest.mark.soak
def test_views_show_what_is_true_of_many_random_databases(views: Views) -> None:
    check_random_databases(views, 600, (Phase.generate, Phase.shrink))
