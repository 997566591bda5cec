"""Databases merged by key, and one query shown with its answers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from icl_local import store
from icl_local.exceptions import ConfigError, InputError, StoreError
from icl_local.exchange import merge
from icl_local.results import answers
from icl_local.store import Selection, upkeep
from icl_local.store.database import Store
from tests.exchange.rows import LOOP, bring_in, command, error_row, output, own_cell, rows, verdict


@pytest.fixture(scope="module")
def two_databases(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two databases with one response in common, one of each alone, and one whose text differs."""
    folder = tmp_path_factory.mktemp("merge")
    mine, other = (Path(shutil.copy(empty_database, folder / f"{name}.duckdb")) for name in "ab")
    with Store(mine) as target:
        target.put(own_cell("same", "Same.") + own_cell("differs", "Mine.") + own_cell("mine", "Only here."))
    with Store(other) as target:
        target.put(own_cell("same", "Same.") + own_cell("differs", LOOP) + own_cell("theirs", "Only there."))
        target.put(verdict("theirs", {"depth": 3.0}) + verdict("differs", {"depth": 1.0}))
        target.put([("critical_errors", error_row("differs", "9.0", found=True, unit="x"))])
    return folder


class TestMerge:
    @pytest.fixture
    def both(self, two_databases: Path, tmp_path: Path) -> tuple[Path, Path]:
        shutil.copytree(two_databases, tmp_path, dirs_exist_ok=True)
        return tmp_path / "a.duckdb", tmp_path / "b.duckdb"

    def test_rows_come_by_key_and_texts_that_differ_are_reported(self, both: tuple[Path, Path]) -> None:
        mine, other = both
        with Store(mine) as target:
            done = merge.merge(target, other)
        assert done.differing == ("differs",)
        assert done.added["responses"] == done.added["queries"] == done.added["judgments"] == 1
        assert "prompts" not in done.added
        assert rows(mine, "response_id, text", "response_id") == [
            ("differs", "Mine."),
            ("mine", "Only here."),
            ("same", "Same."),
            ("theirs", "Only there."),
        ]
        kept = "select found, detector_version from raw.critical_errors where response_id = 'differs'"
        assert store.query(mine, kept).rows == [(False, "1.0")]
        assert store.query(mine, "select response_id, score from scores").rows == [("theirs", 3.0)]
        assert upkeep.check(mine) == []
        with Store(mine) as target:
            assert merge.merge(target, other) == merge.Merged({}, ("differs",), 0)
        before = rows(mine, "*")
        mine.unlink()  # the spool has them too
        assert rows(mine, "*") == before

    def test_a_view_in_the_place_of_a_table_reads_no_file(self, both: tuple[Path, Path], tmp_path: Path) -> None:
        mine, other = both
        (tmp_path / "secret").write_text("secret")
        with duckdb.connect(str(other)) as con:
            con.execute("drop table raw.prompts")
            con.execute(
                "create view raw.prompts as "
                f"select content as prompt_id, '' as method, '' as language, '' as head, ['a'] as stops "
                f"from read_text('{tmp_path / 'secret'}')"
            )
        with Store(mine) as target, pytest.raises(StoreError, match="disabled"):
            merge.merge(target, other)
        assert not store.query(mine, "from raw.prompts where prompt_id = 'secret'").rows

    def test_the_name_of_a_parquet_file_is_not_run_as_sql(self, both: tuple[Path, Path], tmp_path: Path) -> None:
        folder = tmp_path / "tables"
        folder.mkdir()
        for name in ("queries", 'x" as select 1; create table raw.made (a int); --'):
            duckdb.sql("select 1 as unknown").write_parquet(str(folder / f"{name}.parquet"))
        before = rows(both[0], "*")
        with Store(both[0]) as target, pytest.raises(StoreError):
            merge.merge(target, folder)
        assert rows(both[0], "*") == before
        (folder / "queries.parquet").unlink()
        with Store(both[0]) as target:
            assert merge.merge(target, folder) == merge.Merged({}, (), 0)

    @pytest.mark.parametrize("ours_ended", [True, False])
    def test_a_verdict_counts_wherever_the_same_attempt_ended(self, both: tuple[Path, Path], ours_ended: bool) -> None:
        mine, other = both
        ended = verdict("same", {"depth": 4.0})
        failed = [
            (table, {**row, "status": "quota", "scores": None} if table == "judgments" else row) for table, row in ended
        ]
        for path, records in ((mine, ended if ours_ended else failed), (other, failed if ours_ended else ended)):
            with Store(path) as target:
                target.put(records)
        for _ in range(2):  # the second time there is nothing to bring
            with Store(mine) as target:
                merge.merge(target, other)
            found = "select status, scores from raw.judgments where response_id = 'same'"
            assert store.query(mine, found).rows == [("ok", [4.0])]
        mine.unlink()  # the spool says the same
        assert store.query(mine, found).rows == [("ok", [4.0])]

    def test_a_spool_and_exported_tables_give_what_the_database_holds(
        self, both: tuple[Path, Path], new_database: Callable[[str], Path], tmp_path: Path
    ) -> None:
        _, other = both
        command("export", "--format", "parquet", "--what", "all", "-o", tmp_path / "tables", db=other)
        tables = ("responses", "queries", "critical_errors", "judgments", "prompts", "judges")
        sums = " union all ".join(f"select count(*), bit_xor(hash(t)) from raw.{table} as t" for table in tables)
        theirs = store.query(other, sums).rows
        assert [count for count, _ in theirs] == [3, 3, 3, 2, 1, 1]
        for name, source in (("from-spool", store.spool_folder(other)), ("from-tables", tmp_path / "tables")):
            with Store(new_database(name)) as target:
                merge.merge(target, source)
                assert target.rows(sums).rows == theirs
        assert not list(tmp_path.glob(".merge-*"))

    def test_an_answer_replaces_an_error_and_never_the_reverse(self, new_database: Callable[[str], Path]) -> None:
        failed, done = new_database("failed"), new_database("done")
        with Store(failed) as target:
            target.put(own_cell("r", "", finish_reason="error"))
        with Store(done) as target:
            target.put(own_cell("r", "Answer."))
            assert merge.merge(target, failed).differing == ()
        with Store(failed) as target:
            assert merge.merge(target, done).differing == ()
        assert rows(failed, "text") == rows(done, "text") == [("Answer.",)]

    def test_rows_forgotten_here_stay_so_and_other_tombstones_are_ignored(self, both: tuple[Path, Path]) -> None:
        mine, other = both
        with Store(mine) as target:
            merge.merge(target, other)
        upkeep.forget(mine, ["theirs"])
        upkeep.forget(other, ["same"])
        merged = command("db merge", other, db=mine)
        assert f"nothing new in {other}\n1 response stays forgotten here; icl db forget --allow-again" in merged.stderr
        assert {response_id for (response_id,) in rows(mine, "response_id")} == {"differs", "mine", "same"}

    def test_a_source_that_cannot_be_merged_is_reported(self, db: Path, tmp_path: Path) -> None:
        (tmp_path / "notes").mkdir()
        (tmp_path / "notes.duckdb").write_text("no database")
        for source, error, message in (
            (db, ConfigError, "is the database itself"),
            (tmp_path / "none", InputError, "none does not exist; give a database"),
            (tmp_path / "notes", InputError, "holds neither a spool"),
            (tmp_path / "notes.duckdb", StoreError, r"notes\.duckdb"),
        ):
            with Store(db) as target, pytest.raises(error, match=message):
                merge.merge(target, source)

    def test_the_command_lists_what_differs(self, both: tuple[Path, Path]) -> None:
        mine, other = both
        result = command("db merge", other, db=mine)
        assert "1 response differs" in result.stderr
        assert "Tiny 1B" in result.stdout


@pytest.fixture(scope="module")
def asked_once(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = Path(shutil.copy(empty_database, tmp_path_factory.mktemp("show") / "show.duckdb"))
    with Store(path) as target:
        target.put(own_cell("0", "Own answer \x1b[31m[red]."))
        target.put([("critical_errors", error_row("0", "9.0", found=True))])
    bring_in(path, output(0, "Their answer.", instruction="Another text"))
    return path


class TestShow:
    def test_prompt_and_answers_side_by_side(self, asked_once: Path) -> None:
        shown = command("show", "0", "--dataset", "set", db=asked_once).stdout
        assert "Question 0?" in shown
        assert "prompt · urial" in shown
        assert "Own answer \\u001b[31m[red]." in shown
        assert "stop · 3 tokens · infinite_loop" in shown
        assert "HEAD Question 0? TAIL" in " ".join(shown.replace("│", " ").split())
        assert "\x1b[31m" not in shown
        assert "Their answer." not in shown

    def test_the_whole_prompt_on_request(self, asked_once: Path) -> None:
        short = command("show", "0", "--model", "Tiny 1B", db=asked_once).stdout
        whole = command("show", "0", "--model", "Tiny 1B", "--full", db=asked_once).stdout
        assert "characters before; --full shows them" in short
        assert whole.count("HEAD") == 200

    def test_as_rows(self, asked_once: Path) -> None:
        data = json.loads(command("show", "0", "--format", "json", db=asked_once).stdout)
        assert [(one["dataset"], one["method"], one["text"][:5]) for one in data] == [
            ("imported", "imported", "Their"),
            ("set", "urial", "Own a"),
        ]

    def test_the_columns_of_rows_are_those_of_an_answer_and_of_what_names_its_query(self, asked_once: Path) -> None:
        for query in answers.find(asked_once, "0", Selection()):
            names = [name for name in ("dataset", "query_id", "language") if name in query]
            assert [(*names, *answer) for answer in query["answers"]] == [answers.COLUMNS]

    def test_an_unknown_query_is_reported(self, asked_once: Path) -> None:
        with pytest.raises(ConfigError, match="no query '7' in this database; there is 0"):
            answers.find(asked_once, "7", Selection())
        with pytest.raises(ConfigError, match="no method 'none'"):
            answers.find(asked_once, "0", Selection(method="none"))
