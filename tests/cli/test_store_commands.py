"""icl status, errors, sql, snapshot, forget and doctor: what a user sees, where, and with which exit status."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from icl_local import environment, store
from icl_local.store import spool
from icl_local.store.database import Store, query
from tests.results.test_views_core import FILES, MODELS, TIME, answers
from tests.shared import Run
from tests.store.rows import count, error_row, fill, stored

HOSTILE = "\x1b[31m[bold]red[/bold] \x1b]8;;http://evil\x07link \u202egnol " + "round we go " * 30


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole small database: four answers, one of them a loop in hostile text, one with unintended code."""
    path = tmp_path_factory.mktemp("made") / "x.duckdb"
    loop = {"start_char": 40, "unit": "round we go ", "copies": 30.0, "span": 360, "reaches_end": True}
    with Store(path) as target:
        target.put(
            [("models", MODELS[0]), ("gguf_files", FILES[0]), ("datasets", {"dataset": "d", "source": "d.jsonl"})]
        )
        target.put([("settings", {"settings_id": "s1", "backend": "llama.cpp"})])
        target.put([("runs", {"run_id": "r", "command": "run", "version": "0", "started_at": TIME})])
        for key in ("q1", "q2", "q3", "q4", "q5"):
            row = {"query_key": key, "dataset": "d", "query_id": key[1:], "language": "en", "split": "multi"}
            target.put([("queries", {**row, "task": ["writing"], "instruction": f"question {key}"})])
        target.put(answers("q1", "q2", "q3", found={"q1": "unintended_code"}, text="plain"))
        target.put(answers("q4", text=HOSTILE, raw_text=HOSTILE)[:1])
        target.put([("critical_errors", {**error_row(0, found=True), **loop, "response_id": last_response(path)})])
    return path


def last_response(path: Path) -> str:
    records = [record for record in spool.read(store.spool_folder(path)) if record.table == "responses"]
    return str(records[-1].row["response_id"])


@pytest.fixture
def db(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made.parent, tmp_path, dirs_exist_ok=True)
    return tmp_path / made.name


# -------------------------------------------------------------------------------------------------------- sql


def test_sql_prints_rows_in_every_format(icl: Run, made: Path) -> None:
    asked = "select method, count(*) as n from responses group by all"
    assert icl("sql", asked, "--db", made, "--format", "csv") == (0, "method,n\nurial,4\n", "")
    assert json.loads(icl("sql", asked, "--db", made, "--format", "json")[1]) == [{"method": "urial", "n": 4}]
    for form in ("text", "markdown", "latex"):
        code, out, _ = icl("sql", asked, "--db", made, "--format", form)
        assert code == 0
        assert "urial" in out


def test_sql_reads_a_query_from_standard_input(icl: Run, made: Path) -> None:
    assert icl("sql", "-", "--db", made, "--format", "csv", stdin="select 1 as x;\n")[:2] == (0, "x\n1\n")


def test_sql_tells_null_from_empty_and_small_from_zero(icl: Run, made: Path) -> None:
    head, _, row = icl("sql", "select '' as e, null as n, 1e-7 as p, 2 / 3 as r, true as b", "--db", made)[
        1
    ].splitlines()
    assert head.split() == ["e", "n", "p", "r", "b"]
    assert row.split() == ["NULL", "1e-07", "0.666667", "true"]


def test_sql_gives_each_column_a_line_where_a_row_is_too_wide(icl: Run, made: Path) -> None:
    asked = "select i, repeat('y', 300) as long from range(1, 3) as t(i)"
    lines = icl("sql", asked, "--db", made)[1].split("\n")
    assert [line for line in lines if line.startswith("--")] == ["-- 1 of 2", "-- 2 of 2"]
    assert [line.split() for line in lines if line.startswith("i ")] == [["i", "1"], ["i", "2"]]
    assert "".join(lines).count("y") == 600


def test_sql_lists_the_views_with_columns_and_comments(icl: Run, made: Path) -> None:
    views = json.loads(icl("sql", "--schema", "--db", made, "--format", "json")[1])
    some = json.loads(icl("sql", "--schema", "score", "--db", made, "--format", "json")[1])
    assert [view for view in views if "score" in view["view"]] == some != views
    by_name = {view["view"]: view for view in views}
    assert by_name["error_rates"]["columns"].startswith("model, quantization, method")
    assert by_name["responses"]["comment"].startswith("One row per response")


def test_sql_shows_the_first_rows_and_says_so(icl: Run, made: Path) -> None:
    code, out, err = icl("sql", "from range(10)", "--db", made, "--limit", 3, "--format", "csv")
    assert (code, out.count("\n")) == (0, 4)
    assert "only the first 3 rows" in err


@pytest.mark.parametrize("sql", ["drop table raw.responses", "", "select 1; select 2"])
def test_sql_takes_one_select(icl: Run, made: Path, sql: str) -> None:
    said = "error: give one select, from, with, show, describe or explain: no other statement is run here\n"
    assert icl("sql", sql, "--db", made) == (1, "", said)


@pytest.mark.parametrize("sql", ["delete from raw.responses", "select * from read_text('/etc/hostname')", "selec 1"])
def test_sql_refuses_in_one_line(icl: Run, made: Path, sql: str) -> None:
    code, out, err = icl("sql", sql, "--db", made)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("error: ")


def test_sql_unsafe_says_what_it_opens(icl: Run, made: Path, tmp_path: Path) -> None:
    code, _, err = icl("sql", "--unsafe", f"copy (select 1) to '{tmp_path}/x.csv'", "--db", made)
    assert code == 0
    assert "read and write other files, attach databases and load extensions" in err
    assert (tmp_path / "x.csv").exists()


def test_sql_ends_at_its_timeout(icl: Run, made: Path) -> None:
    endless = "select count(*) from range(1000000) a, range(1000000) b where hash(a, b) = 1"
    code, _, err = icl("sql", endless, "--timeout", 0.2, "--db", made)
    assert code == 1
    assert "longer than 0.2 s" in err


def test_sql_without_a_query_is_a_usage_error(icl: Run, made: Path) -> None:
    assert icl("sql", "--db", made)[0] == 2


def test_hostile_text_is_inert_on_the_terminal(icl: Run, made: Path) -> None:
    for arguments in (("sql", "select text from responses"), ("errors", "--list")):
        _, out, _ = icl(*arguments, "--db", made)
        assert "\\u001b" in out
        assert not {"\x1b", "\x07", "\u202e"} & set(out)


# ------------------------------------------------------------------------------------------- status and errors


def test_status_brings_in_what_a_killed_run_left(icl: Run, db: Path) -> None:
    journal = spool.Spool(store.spool_folder(db))
    journal.append(answers("q5"))
    journal.close()
    code, out, _ = icl("status", "--db", db, "--format", "json")
    assert code == 0
    (cell,) = json.loads(out)
    assert (cell["done"], cell["loops"], cell["code"]) == (5, 1, 1)


def test_status_of_an_empty_database_says_what_to_do(icl: Run, tmp_path: Path) -> None:
    Store(tmp_path / "x.duckdb").close()
    code, _, err = icl("status", "--db", tmp_path / "x.duckdb")
    assert code == 0
    assert "icl run" in err


def test_a_database_that_does_not_exist_is_an_error(icl: Run, tmp_path: Path) -> None:
    for command in (
        ["status"],
        ["errors"],
        ["errors", "--redetect"],
        ["judge", "--judge", "rules"],
        ["db", "forget", "--allow-again"],
    ):
        code, out, err = icl(*command, "--db", tmp_path / "x.duckdb")
        assert (code, out) == (1, "")
        assert "does not exist; `icl run`, `icl import` and `icl translate run` make a database" in err
        assert not list(tmp_path.iterdir())


def test_a_spool_that_cannot_be_written_is_an_error_of_one_line(icl: Run, made: Path, tmp_path: Path) -> None:
    shutil.copy(made, tmp_path / "x.duckdb")
    (tmp_path / "x.duckdb.spool").write_text("not a folder")
    code, _, err = icl("judge", "--judge", "rules", "--db", tmp_path / "x.duckdb")
    assert (code, err) == (
        1,
        f"error: cannot write to {tmp_path / 'x.duckdb.spool'}: File exists; check its permissions\n",
    )


def test_errors_shows_both_readings_and_code(icl: Run, made: Path) -> None:
    _, out, _ = icl("errors", "--db", made, "--format", "json")
    (cell,) = json.loads(out)
    assert (cell["loop"], cell["literal"], cell["code"], cell["n"], cell["n_code"]) == (
        25.0,
        0.0,
        pytest.approx(33.3, abs=0.1),
        4,
        3,
    )
    assert "no method 'instruct'" in icl("errors", "--db", made, "--method", "instruct")[2]


def test_errors_lists_the_offenders_one_error_at_a_time(icl: Run, made: Path) -> None:
    listed = json.loads(icl("errors", "--list", "--db", made, "--format", "json")[1])
    assert [(row["query_id"], row["error"]) for row in listed] == [("4", "infinite_loop"), ("1", "unintended_code")]
    only = json.loads(icl("errors", "--list", "--error", "unintended_code", "--db", made, "--format", "json")[1])
    assert [row["error"] for row in only] == ["unintended_code"]
    _, out, err = icl("errors", "--list", "--error", "infinite_loop", "--db", made)
    assert "round we go" in out
    assert "icl show" in err


def test_errors_redetect_renews_every_row(icl: Run, db: Path) -> None:
    code, _, err = icl("errors", "--redetect", "--db", db)
    assert code == 0
    assert "4 responses" in err
    assert query(db, "select error, count(*) from critical_errors group by all order by all").rows == [
        ("infinite_loop", 1),
        ("infinite_loop_literal", 1),
    ]
    assert "0 responses" in icl("errors", "--redetect", "--db", db)[2]


def test_errors_says_how_many_responses_only_an_earlier_detector_has_read(icl: Run, db: Path) -> None:
    assert "earlier detector" not in icl("errors", "--db", db)[2]
    with Store(db) as target:
        target.put([("critical_errors", error_row(last_response(db), version="99"))])
    assert (
        "3 responses left out, read by an earlier detector only: icl errors --redetect" in icl("errors", "--db", db)[2]
    )


def test_a_comparison_with_the_paper_names_models_that_the_paper_lacks(icl: Run, db: Path) -> None:
    assert "The paper has no" not in icl("tables", "--versus-paper", "--db", db)[1]
    with Store(db) as target:
        target.put([("models", MODELS[2]), *answers("q1", model_id="m3", gguf_sha256=None)])
    out = icl("tables", "--versus-paper", "--db", db)[1]
    assert out.count("The paper has no gpt-x; it has EuroLLM 1.7B, EuroLLM 9B, Llama3.1 8B, Llama3.2 1B.") == 1


# -------------------------------------------------------------------------------------------- snapshot, forget


def test_snapshot_writes_a_copy_and_does_not_overwrite(icl: Run, made: Path, tmp_path: Path) -> None:
    out = tmp_path / "copy.duckdb"
    assert icl("db", "snapshot", "-o", out, "--db", made)[0] == 0
    assert count(out, "responses") == 4
    code, _, err = icl("db", "snapshot", "-o", out, "--db", made)
    assert code == 1
    assert "--force" in err
    assert icl("db", "snapshot", "-o", out, "--force", "--db", made)[0] == 0


def test_forget_asks_and_keeps_everything_at_a_no(icl: Run, db: Path) -> None:
    code, _, err = icl("db", "forget", "--method", "urial", "--db", db, stdin="n\n")
    assert code == 0
    assert "Remove 4 responses" in err
    assert "nothing was removed" in err
    assert count(db, "responses") == 4


def test_forget_removes_what_meets_every_condition(icl: Run, db: Path) -> None:
    code, _, err = icl("db", "forget", "--query", 2, "--where", "text = 'plain' -- or 1", "--yes", "--db", db)
    assert code == 0
    assert "1 response removed" in err
    assert query(db, "select query_id from responses order by 1").rows == [("1",), ("3",), ("4",)]
    assert "no language 'fr'" in icl("db", "forget", "--lang", "fr", "--yes", "--db", db)[2]
    assert "no response matches" in icl("db", "forget", "--query", "none", "--yes", "--db", db)[2]
    assert icl("db", "forget", "--allow-again", "--method", "urial", "--db", db)[0] == 2
    assert "1 row may be made again" in icl("db", "forget", "--allow-again", "--db", db)[2]


def test_forget_needs_a_condition(icl: Run, db: Path) -> None:
    assert icl("db", "forget", "--yes", "--db", db)[0] == 2


@pytest.mark.parametrize("broken", ["colour = 1", "1 = 1) or (1 = 1", "true); delete from raw.responses; --"])
def test_a_broken_condition_does_not_widen_the_others(icl: Run, db: Path, broken: str) -> None:
    code, _, err = icl("db", "forget", "--where", broken, "--model", "nobody", "--yes", "--db", db)
    assert "no response matches" in err if code == 0 else err.startswith("error: ")
    assert count(db, "responses") == 4


# ----------------------------------------------------------------------------------------------------- doctor


def test_doctor_finds_a_whole_database_whole(icl: Run, tmp_path: Path, made: Path) -> None:
    shutil.copytree(made.parent, tmp_path, dirs_exist_ok=True)
    icl("errors", "--redetect", "--db", tmp_path / "x.duckdb")  # one answer was never scanned for code
    code, out, err = icl("db", "doctor", "--db", tmp_path / "x.duckdb")
    assert code == 0
    assert "is intact" in err
    assert "cpu_features" in out
    assert "llama-cpp-python" in out


def test_doctor_without_a_database_tells_of_the_installation(icl: Run, tmp_path: Path) -> None:
    code, out, err = icl("db", "doctor", "--db", tmp_path / "x.duckdb")
    assert code == 0
    assert "Packages" in out
    assert "no database" in err
    assert not (tmp_path / "x.duckdb").exists()


@pytest.mark.parametrize("more", [(), ("--repair",)])
def test_doctor_tells_of_a_database_that_is_gone_with_its_rows(icl: Run, tmp_path: Path, more: tuple[str, ...]) -> None:
    db = fill(tmp_path / "x.duckdb", 1)
    db.unlink()
    for file in spool.files(store.spool_folder(db)):
        file.unlink()
    code, _, err = icl("db", "doctor", *more, "--db", db)
    assert code == 1
    assert f"{db} is gone and its spool holds no rows" in err


def test_doctor_repairs_a_truncated_database_and_says_what_it_kept(icl: Run, tmp_path: Path) -> None:
    db = fill(tmp_path / "x.duckdb", 1, 2)
    os.truncate(db, 5000)
    code, _, err = icl("db", "doctor", "--db", db)
    assert code == 1
    assert "icl db doctor --repair" in err
    code, out, err = icl("db", "doctor", "--repair", "--db", db)
    assert "responses" in out
    assert "the old file is kept as" in err
    assert "cannot be restored: what only the old file held" in err
    assert stored(db) == ["1", "2"]


def test_what_is_missing_comes_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {one.extra for one in environment.packages()} >= {None, "demo", "dpo", "report"}
    assert all(one.version for one in environment.packages() if one.extra is None)
    monkeypatch.setattr(environment, "_version", lambda name: None if name in {"torch", "matplotlib", "pytz"} else "1")
    missing = environment.missing()
    assert {"pytz", "the extra dpo", "the extra report"} <= missing.keys()
    assert missing["the extra dpo"] == "pip install 'icl-local[dpo]'"
    assert missing["pytz"].startswith("pip install 'pytz>=")


@pytest.mark.parametrize("command", ["sql", "status", "errors", "db snapshot", "db forget", "db doctor"])
def test_help_has_a_line_that_can_be_pasted(icl: Run, command: str) -> None:
    code, out, _ = icl(*command.split(), "--help")
    assert code == 0
    assert f"Example: icl {command}" in out
    assert "--db" in out


def test_the_database_is_named_by_the_environment_too(icl: Run, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ICL_DB", str(made))
    assert icl("sql", "select 1 as x", "--format", "csv")[:2] == (0, "x\n1\n")
