"""`icl sql` reads this database and nothing else, within a time limit."""

from __future__ import annotations

from pathlib import Path

import pytest

from icl_local import store
from icl_local.exceptions import StoreError, StoreLocked
from icl_local.store import database
from icl_local.store.database import query

# ---------------------------------------------------------------------------------------------------- reading

HARMFUL = """
create table t (x int)
delete from raw.responses
drop view main.responses
copy raw.responses to '{folder}/out.csv'
copy (select 1) to '{db}.wal' (use_tmp_file false)
copy (select 1) to '{db}' (use_tmp_file false)
explain analyze copy (select 1) to '{db}.wal' (use_tmp_file false)
/* x */ explain analyze copy (select 1) to '{db}.wal' (use_tmp_file false)
explain (analyze) copy (select 1) to '{db}.wal' (use_tmp_file false)
select 1; copy (select 1) to '{db}.wal' (use_tmp_file false)
with x as (copy (select 1) to '{db}.wal' (use_tmp_file false)) from x
with x as(\u00a0copy (select 1) to '{db}' (use_tmp_file false)) from x
explain analyze with x as (copy (select 1) to '{db}.wal' (use_tmp_file false)) from x
from query('with x as (copy (select 1) to ''{db}.wal'' (use_tmp_file false)) from x')
from json_execute_serialized_sql(json_serialize_sql('select 1'))
from query('from json_execute_serialized_sql(''{{}}'')')
with x as (delete from raw.responses returning 1) from x
export database '{folder}/all'
import database '{folder}'
attach '{folder}/other.duckdb'
install httpfs
load httpfs
load '{folder}/x.duckdb_extension'
set enable_external_access = true
reset lock_configuration
pragma enable_profiling
call enable_logging()
checkpoint
select * from read_csv('/etc/passwd')
select * from read_text('/etc/hostname')
select * from read_blob('/etc/hostname')
from '/etc/passwd'
from glob('/etc/*')
from sniff_csv('/etc/passwd')
from parquet_metadata('/etc/passwd')
from read_duckdb('{folder}/other.duckdb')
from duckdb_secrets()
from python_variable
begin

""".strip("\n").split("\n")


@pytest.mark.parametrize("sql", HARMFUL)
def test_a_query_cannot_write_or_reach_out(made: Path, tmp_path: Path, sql: str) -> None:
    python_variable = [1]
    files = {path: path.stat().st_size for path in (*made.parent.iterdir(), *tmp_path.iterdir())}
    with pytest.raises(StoreError) as raised:
        query(made, sql.format(db=made, folder=tmp_path))
    assert "\n" not in str(raised.value)
    assert {path: path.stat().st_size for path in (*made.parent.iterdir(), *tmp_path.iterdir())} == files
    assert python_variable == [1]


@pytest.mark.parametrize(
    "sql",
    [
        "select 1;",
        "from main.responses",
        "with x as (select 1) from x",
        "show tables",
        "describe main.responses",
        "summarize main.responses",
        "explain select 1",
        "explain analyze select 1",
        "values (1)",
    ],
)
def test_every_form_of_reading_is_allowed(made: Path, sql: str) -> None:
    assert query(made, sql).rows


def test_unsafe_reads_other_files_and_still_cannot_change_the_database(made: Path, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a\n1\n")
    assert query(made, f"from '{tmp_path}/x.csv'", unsafe=True).rows == [(1,)]
    with pytest.raises(StoreError, match="read-only"):
        query(made, "delete from raw.responses", unsafe=True)


def test_a_query_that_ignores_its_timeout_is_reported(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_STUCK_SECONDS", 0.0)
    stuck: list[bool] = []
    with pytest.raises(StoreError, match="took longer"):
        query(made, "select length(repeat('ab', 30000000))", timeout=0.001, on_stuck=lambda: stuck.append(True))
    assert stuck == [True]


def test_a_query_is_ended_at_its_timeout(made: Path) -> None:
    with pytest.raises(StoreError, match=r"took longer than 0.2 s; narrow it or raise --timeout"):
        query(made, "select count(*) from range(1000000) a, range(1000000) b where hash(a, b) = 1", timeout=0.2)


def test_a_wrong_query_is_one_line(made: Path) -> None:
    with pytest.raises(StoreError, match=r"^Binder Error: .*colour") as raised:
        query(made, "select colour\nfrom main.responses")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["Corruption", '"lock on file"', '"No space left"', '"replaying WAL"'])
def test_a_wrong_query_that_quotes_a_fault_of_files_is_still_a_wrong_query(made: Path, name: str) -> None:
    with pytest.raises(StoreError, match="does not exist") as caught:
        query(made, f"from {name}")
    assert type(caught.value) is StoreError


def test_parameters_types_and_limit(made: Path) -> None:
    rows = query(made, "select response_id, exact from main.responses where response_id > ? order by 1", ["1"], limit=1)
    assert rows == store.Rows(["response_id", "exact"], ["VARCHAR", "BOOLEAN"], [("2", None)])


def test_queries_of_a_reading_see_what_was_put_and_keep_the_file_open(tmp_path: Path) -> None:
    path = tmp_path / "x.duckdb"
    with store.Store(path) as target:
        target.put([("datasets", {"dataset": "d", "source": "s", "created_at": store.now()})])
        with target.reading():
            assert target.rows("select dataset from raw.datasets").rows == [("d",)]
            with pytest.raises(StoreLocked), store.writer(path, wait_seconds=0):
                pass
        with store.writer(path, wait_seconds=0) as con:
            assert con.execute("select count(*) from raw.datasets").fetchall() == [(1,)]


def test_a_spool_folder_without_a_file_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "x.duckdb"
    with store.Store(path):
        pass
    path.unlink()
    assert store.spool_folder(path).exists()
    assert not store.exists(path)
    with pytest.raises(StoreError, match=r"is gone and its spool holds no rows.*to start again"):
        query(path, "select 1")
