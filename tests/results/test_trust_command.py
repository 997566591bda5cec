"""`icl trust`, `icl tables --corrected` and `icl judge --sample` on a small study with labels."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import numpy as np
import pytest
from click.testing import CliRunner

import icl_local
from icl_local import results
from icl_local.cli import icl
from icl_local.exceptions import ConfigError, UnknownName
from icl_local.results import trust
from tests import synthetic
from tests.results.labelled_frames import Frame
from tests.results.labelled_frames import database as frames_database

JUDGE = "openai:synthetic-judge"


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """80 queries a cell; a human rater has labelled 30 in each English cell, one less than the judge."""
    path = tmp_path_factory.mktemp("labelled") / "x.duckdb"
    path.write_bytes(synthetic.made(80, 2).read_bytes())
    with duckdb.connect(str(path)) as con:
        con.execute("""
            insert into raw.samples values ('s', 'PILOT', 1, 30, null, '{}', timestamp '2026-11-20');
            insert into raw.sample_items
            select
                's', response_id, split, count(*) over (partition by cell_id, split),
                row_number() over (partition by cell_id, split order by hash(query_id))
            from main.responses where language = 'en' and split = 'multi';
            insert into raw.judges by name
            select 'ana' as judge_id, 'human:ana' as name, 'human' as backend, 'ana' as model;
            insert into raw.judgments by name
            select
                judgment_id || ' ana' as judgment_id, 1 as attempt, response_id, 'ana' as judge_id, template_sha256,
                0 as repeat, 'ok' as status, list_transform(scores, lambda score: greatest(1, score - 1)) as scores,
                not_applicable, timestamp '2026-11-21' as created_at
            from main.verdicts
            join raw.sample_items using (response_id)
            where place <= 30 and scores is not null;
        """)
    return path


def test_trust_shows_agreement_bias_corrected_means_and_differences(labelled: Path) -> None:
    agreement, bias, means, differences = icl_local.trust(labelled, judge=JUDGE)
    assert {row["judge_b"] for row in agreement.dicts()} == {JUDGE}
    assert all(0 < row["bias"] <= 1 + 1e-12 for row in bias.dicts())  # a mean of ones, in any order of its sum
    assert all(row["corrected"] < row["judge_mean"] for row in means.dicts())
    assert {row["n"] for row in means.dicts()} <= set(range(20, 31))
    assert {"method", "dpo"} <= {row["differs_in"] for row in differences.dicts()}
    of_one_type = {row["quantization"] for row in means.dicts() if row["model"] == "EuroLLM 1.7B"}
    assert (means.columns[0], bias.columns[0], of_one_type) == ("quantization", "quantization", {"Q4_K_M"})
    assert "note" not in differences.columns


@pytest.mark.parametrize("output_format", ["text", "json"])
def test_the_command_prints_its_parts_in_order(labelled: Path, output_format: str) -> None:
    arguments = ["trust", "--judge", JUDGE, "--sample", "PILOT", "--format", output_format, "--db", str(labelled)]
    result = CliRunner().invoke(icl, arguments)
    assert result.exit_code == 0, result.output
    if output_format == "json":
        assert len(json.loads("[" + result.stdout.replace("]\n\n[", "],[") + "]")) == 4
    else:
        assert result.stdout.index("Agreement") < result.stdout.index("Bias") < result.stdout.index("Corrected means")


def test_rows_of_two_samples_name_theirs(labelled: Path, tmp_path: Path) -> None:
    copy = tmp_path / "x.duckdb"
    copy.write_bytes(labelled.read_bytes())
    with duckdb.connect(str(copy)) as con:
        con.execute("insert into raw.samples select * replace ('t' as sample_id, 'SECOND' as name) from raw.samples")
        con.execute("insert into raw.sample_items select * replace ('t' as sample_id) from raw.sample_items")
    for table in icl_local.trust(copy, judge=JUDGE)[1:]:
        assert table.columns[0] == "sample"
        assert [row["sample"] for row in table.dicts()] == sorted(row["sample"] for row in table.dicts())
    assert all("sample" not in table.columns for table in icl_local.trust(labelled, judge=JUDGE))


def test_pairs_of_raters_stand_in_the_order_of_their_names(labelled: Path, tmp_path: Path) -> None:
    copy = tmp_path / "x.duckdb"
    copy.write_bytes(labelled.read_bytes())
    with duckdb.connect(str(copy)) as con:
        for rater in ("eva", "bob", "zoe"):
            con.execute(
                "insert into raw.judges by name "
                "select ? as judge_id, 'human:' || judge_id as name, 'human' as backend, judge_id as model",
                [rater],
            )
            con.execute(
                "insert into raw.judgments by name select * replace (judgment_id || ? as judgment_id, ? as judge_id) "
                "from raw.judgments where judge_id = 'ana'",
                [rater, rater],
            )
    agreement, *_ = icl_local.trust(copy, judge=JUDGE)
    for metric in {row["metric"] for row in agreement.dicts()}:
        pairs = [(row["judge_a"], row["judge_b"]) for row in agreement.dicts() if row["metric"] == metric]
        assert len(pairs) == 10
        assert pairs == sorted(pairs)


def test_rows_without_raters_stand_before_those_with_some() -> None:
    rows = [
        {"judge_a": "bob", "judge_b": "eva"},
        {"judge_a": None, "judge_b": None},
        {"judge_a": "ana", "judge_b": None},
    ]
    assert [row["judge_a"] for row in sorted(rows, key=trust._place)] == [None, "ana", "bob"]


def test_without_a_judge_the_judges_are_listed(labelled: Path) -> None:
    with pytest.raises(ConfigError, match=rf"name a judge with --judge \({JUDGE}\)"):
        icl_local.trust(labelled)


def test_labels_in_two_languages_by_several_raters_are_shown_after_the_rest() -> None:
    random = np.random.default_rng(7)
    f = random.integers(1, 6, 40).astype(float)
    frames = {
        f"m/{language}": Frame(f, np.clip(f + random.integers(-1, 2, (3, 40)), 1, 5), language=language)
        for language in ("en", "es")
    }
    con = frames_database(frames)
    file = con.execute("select path from duckdb_databases() where path is not null").fetchall()[0][0]
    con.close()
    titles = [table.title.split(" (")[0] for table in icl_local.trust(file, judge="judge")]
    assert titles[4:] == [
        "Judge's bias between languages",
        "Agreement among raters",
        "Could the judge replace a rater",
    ]


def test_table_1_corrected_has_the_corrected_means(labelled: Path) -> None:
    plain = icl_local.table(labelled, 1)
    table, by_language = results.build_tables(labelled, ["1", "2"], corrected=True)
    means = {
        (row["model"], row["method"]): row["corrected"]
        for row in icl_local.query(labelled, "from corrected_means where metric = 'avg' and reading = 'strict'").dicts()
        if row["in_paper_tables"] and not row["dpo"]
    }
    assert [(row["model"], row["method"]) for row in table.dicts()] == [
        (r["model"], r["method"]) for r in plain.dicts()
    ]
    for row in table.dicts():
        assert row["avg"] == pytest.approx(means[row["model"], row["method"]], abs=1e-9), row
    assert "safe" not in table.columns
    assert by_language.dicts()[-1]["language"] != "en"
    whole = icl_local.table(labelled, 1, corrected=True, whole=True)
    found = sorted(row["corrected"] for row in whole.dicts() if row["metric"] == "avg")
    assert found == pytest.approx(sorted(means.values()), abs=1e-9)


def test_what_cannot_be_corrected_is_refused(labelled: Path) -> None:
    with pytest.raises(ConfigError, match="labels need a sample"):
        icl_local.trust(synthetic.small(), judge=JUDGE)
    with pytest.raises(UnknownName, match="PILOT"):
        icl_local.trust(labelled, judge=JUDGE, sample="PLIOT")
    with pytest.raises(ConfigError, match="stored probabilities"):
        icl_local.trust(labelled, judge=JUDGE, reading="expected")
    with pytest.raises(ConfigError, match="its own reference"):
        icl_local.trust(labelled, judge=JUDGE, reference=JUDGE)
    with pytest.raises(ConfigError, match="tables 1, 2, 3"):
        icl_local.table(labelled, 4, corrected=True)


def test_answers_without_labels_come_with_the_command_that_labels_them(labelled: Path, tmp_path: Path) -> None:
    copy = tmp_path / "x.duckdb"
    copy.write_bytes(labelled.read_bytes())
    with duckdb.connect(str(copy)) as con:
        con.execute("delete from raw.judgments where judge_id = 'ana'")
    command = rf"no answer of PILOT has a label; make some: icl browse --rate PILOT --rater YOUR-NAME --db {copy}$"
    with pytest.raises(ConfigError, match=command):
        icl_local.trust(copy, judge=JUDGE)
    for whole in (False, True):
        with pytest.raises(ConfigError, match=command):
            icl_local.table(copy, 1, corrected=True, whole=whole)
    with pytest.raises(ConfigError, match="labels need a sample; draw one: icl sample draw"):
        icl_local.table(synthetic.small(), 1, corrected=True)


def test_a_judge_can_score_a_sample_alone(labelled: Path) -> None:
    result = icl_local.judge(
        labelled, judge="openai:other@http://localhost:1", plan=True, sample="PILOT", progress=None
    )
    assert result.preview is not None
    cells = icl_local.query(labelled, "select count(distinct cell_id) from corrected_means").rows[0][0]
    assert {row["split"]: row["missing"] for row in result.preview.dicts()} == {"multi": 30 * cells, "all": 30 * cells}
