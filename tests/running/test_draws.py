"""Sampled responses: their keys, whole and in shards, a further seed, verified, and nothing of it where greedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import icl_local
from icl_local import store
from icl_local.exceptions import ConfigError
from icl_local.running import Decoding, verify_responses
from icl_local.store import upkeep

SAMPLED: dict[str, Any] = {"temperature": 1.0, "top_p": 0.95, "draws": 3}


def run(db: Path, model: Path, query_file: Path, **options: Any) -> None:
    how = {"threads": 1, "probe": False, "verify": 0, "max_tokens": 5, "parallel": 8, "limit": 8, "progress": None}
    assert icl_local.run(db, model=str(model), queries=str(query_file), **how | options).done


def rows(db: Path, order: str = "response_id") -> list[tuple[Any, ...]]:
    sql = f"select response_id, tokens, text, draw_seed, draw, cell_id from raw.responses order by {order}"
    return store.query(db, sql).rows


def test_draws_are_the_same_whole_and_in_shards_and_a_further_seed_adds_some(
    tmp_path: Path, model: Path, query_file: Path
) -> None:
    whole, shards = tmp_path / "whole.duckdb", tmp_path / "shards.duckdb"
    run(whole, model, query_file, **SAMPLED)
    for shard in ("1/2", "2/2"):
        run(shards, model, query_file, shard=shard, **SAMPLED, parallel=3)
    assert rows(whole) == rows(shards)
    assert len(rows(whole)) == 3 * 8
    assert len({tuple(row[1]) for row in rows(whole)}) > 16
    run(whole, model, query_file, **SAMPLED, draw_seed=1)
    assert {row[3:5] for row in rows(whole)} == {(seed, number) for seed in (0, 1) for number in (1, 2, 3)}
    assert (len(rows(whole)), len({row[5] for row in rows(whole)})) == (6 * 8, 1)
    assert not upkeep.check(whole)


def test_sampled_responses_are_decoded_again_by_verify(tmp_path: Path, model: Path, query_file: Path) -> None:
    db = tmp_path / "v.duckdb"
    run(db, model, query_file, limit=4, **SAMPLED, min_p=0.01)
    found = verify_responses(db, weights=[model], threads=1)
    assert (len(found.rows), found.n_equal) == (12, 12)


def test_greedy_rows_have_no_draw(tmp_path: Path, model: Path, query_file: Path) -> None:
    db = tmp_path / "g.duckdb"
    run(db, model, query_file, limit=2)
    assert {row[3:5] for row in rows(db)} == {(None, None)}
    assert store.query(db, "select temperature, top_p, min_p from raw.settings").rows == [(None, None, None)]
    assert store.query(db, "select distinct draw from responses").rows == [(0,)]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": -0.1}, r"--temperature must be in \[0, 5\], not -0.1"),
        ({"temperature": 5.1}, r"--temperature must be in \[0, 5\], not 5.1"),
        ({"temperature": 1.0, "top_p": 0.0}, r"--top-p must be in \(0, 1\], not 0"),
        ({"temperature": 1.0, "min_p": 1.0}, r"--min-p must be in \[0, 1\), not 1"),
        ({"temperature": 1.0, "draws": 0}, "--draws must be at least 1, not 0"),
        ({"draws": 2}, "--draws 2: greedy draws are all equal; give --temperature"),
        ({"min_p": 0.1}, "--top-p and --min-p are for sampling; give --temperature"),
        ({"top_p": 0.9}, "--top-p and --min-p are for sampling; give --temperature"),
    ],
)
def test_settings_of_draws_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Decoding(**settings)
