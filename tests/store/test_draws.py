"""A cell whose draws are copies says what one draw says: no interval, test or place in a table knows the copies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.store.random_databases import Database, Put, Row, databases, puts
from tests.store.test_random_databases import Views, compare

COUNTS = {"n", "n_errors", "n_known_task", "n_responses"}  # of responses
VIEWS: dict[str, set[str]] = {
    **{view: set() for view in ("score_means", "score_breakdown", "paired_differences", "cell_pairs", "error_tests")},
    **dict.fromkeys(("cells", "error_rates", "error_breakdown", "errors_by_cell", "paper_errors"), COUNTS),
    "versus_paper": COUNTS | {"n_expected"},
}


@pytest.fixture(scope="module")
def views() -> Iterator[Views]:
    made = Views()
    yield made
    made.con.close()


def sampled(database: Database, *, draws: int) -> list[Put]:
    """Return the rows of ``database`` as if all but imports were sampled, each response copied as further draws."""
    named = replace(database, cells=tuple(replace(cell, stored_before=False) for cell in database.cells))
    drawn: set[object] = set()

    def copies(table: str, row: Row) -> list[tuple[str, Row]]:
        if table == "settings":
            return [(table, {**row, "temperature": 0.7, "top_p": 1.0, "min_p": 0.0})]
        if table == "responses" and row["settings_id"] is not None:
            drawn.add(row["response_id"])
        if row.get("response_id", row.get("key")) not in drawn:
            return [(table, row)]
        found = [row]
        for number in range(2, draws + 1):
            keys = {
                name: f"{row[name]}/{number}"
                for name in ("response_id", "key", "judgment_id", "verification_id")
                if name in row
            }
            found.append({**row, **keys})
        if table == "responses":
            found = [{**one, "draw_seed": 1, "draw": number} for number, one in enumerate(found, 1)]
        return [(table, one) for one in found]

    return [[made for table, row in put for made in copies(table, row)] for put in puts(named)]


@settings(
    max_examples=3, derandomize=True, database=None, deadline=None, phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
@given(databases())
def test_copies_of_a_draw_change_no_statistic(views: Views, database: Database) -> None:
    views.fill(sampled(database, draws=1))
    once = {name: views.rows(name) for name in VIEWS}
    views.fill(sampled(database, draws=2))
    for name, counts in VIEWS.items():
        found, true = (
            [{c: v for c, v in row.items() if c not in counts} for row in rows]
            for rows in (views.rows(name), once[name])
        )
        compare(name, found, true)
    assert all(
        row["n"] == 2 * row["n_queries"] for row in views.rows("error_rates") if row["settings_id"] != "imported"
    )
