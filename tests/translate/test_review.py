"""Review of translations: in the terminal, through files, undone; the final set; comparison of two languages."""

from __future__ import annotations

import csv
import io
import json
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest

from icl_local.exceptions import ConfigError, InputError
from icl_local.files import PRIVATE
from icl_local.prompting import queries
from icl_local.store.database import query
from icl_local.translate import review, sheet
from icl_local.translate.build import build_set, compare_sets
from icl_local.translate.translate import translate_missing
from icl_local.wording import is_formula
from tests.shared import Run
from tests.translate.test_translate import Fake

GOOD = {
    "Hello there, friend!": "¡Hola, amigo!",
    "How old is {name}?": "¿Qué edad tiene {name}?",
    "Write 3 poems about the sea.": "Escribe 3 poemas sobre el mar.",
    "=1+1 is what?": "=1+1 ¿cuánto es?",
}
BAD = {"How old is {name}?": "How old is {name}?", "Write 3 poems about the sea.": "Escribe poemas sobre el mar."}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four queries, two engines each; the second engine's are worse for two of them."""
    path = tmp_path_factory.mktemp("made") / "t.duckdb"
    sources = [
        queries.Query("d", str(i), "en", text, "multi", fields={"id": i, "source_id": f"s-{i}", "category": "regular"})
        for i, text in enumerate(GOOD, 8)
    ]
    translate_missing(path, Fake(GOOD, name="good"), sources, language="es")
    translate_missing(path, Fake({**GOOD, **BAD}, version=2, name="bad"), sources, language="es")
    return path


@pytest.fixture
def db(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made.parent, tmp_path, dirs_exist_ok=True)
    return tmp_path / made.name


def states(db: Path) -> dict[str, tuple[str, str | None]]:
    found = query(db, "select query_id, status, final_text from translation_review order by review_rank").rows
    return {key: (status, text) for key, status, text in found}


def test_what_needs_a_person_comes_first(db: Path) -> None:
    order = query(db, "select query_id, mean_severity, best_severity from translation_review order by review_rank").rows
    assert order[0][:2] == ("9", 5.5)  # one of two left in English
    assert order[1][:2] == ("10", 0.5)  # one of two without its number
    assert {row[2] for row in order} == {0}
    assert [c.engine for c in review.items(db, language="es")[0].candidates] == ["good", "bad"]


def test_decisions_are_kept_with_name_and_time_and_can_be_undone(db: Path) -> None:
    with review.Review(db, language="es", reviewer="ana") as sitting:
        sitting.accept()
        sitting.edit("Escribe tres poemas sobre el mar.", 2)
        assert states(db)["10"] == ("edited", "Escribe tres poemas sobre el mar.")
        assert sitting.undo()
        assert states(db)["10"] == ("open", None)
        assert sitting.current is not None
        assert sitting.current.query_id == "10"
        sitting.edit(sitting.candidate(1).text)
        sitting.skip()
        with pytest.raises(ConfigError, match="candidate 7 does not exist"):
            sitting.accept(7)
        with pytest.raises(ConfigError, match="empty"):
            sitting.edit(" \n")
    assert [status for status, _ in states(db).values()] == ["open", "skipped", "accepted", "accepted"]
    kept = query(db, "select action, reviewer, created_at is not null from raw.reviews order by created_at").rows
    assert kept == [(action, "ana", True) for action in ("accept", "edit", "undo", "accept", "skip")]


def test_an_undo_brings_the_decision_before_back(db: Path) -> None:
    with review.Review(db, language="es", reviewer="ana") as sitting:
        sitting.accept()
    with review.Review(db, language="es", reviewer="bea", decided=True) as sitting:
        while sitting.current is not None and sitting.current.query_id != "9":
            sitting.skip()
        sitting.edit("¿Cuántos años tiene {name}?")
        assert states(db)["9"][0] == "edited"
        sitting.undo()
    assert states(db)["9"] == ("accepted", "¿Qué edad tiene {name}?")


def test_a_review_ends_to_count_when_the_source_text_changes(db: Path) -> None:
    with review.Review(db, language="es", reviewer="ana") as sitting:
        sitting.accept()
    changed = queries.Query("d", "9", "en", "How tall is {name}?", "multi")
    translate_missing(db, Fake({"How tall is {name}?": "¿Cuánto mide {name}?"}), [changed], language="es")
    assert states(db)["9"] == ("open", None)
    assert len([i for i in review.items(db, language="es") if i.query_id == "9"][0].candidates) == 1  # noqa: RUF015


def test_candidates_are_compared_with_the_final_text(db: Path) -> None:
    with review.Review(db, language="es", reviewer="ana") as sitting:
        sitting.accept()
        sitting.edit("Escribe tres poemas sobre el océano.")
    assert review.score_missing(db) == 4
    assert review.score_missing(db) == 0
    rows = {
        (engine, key): (same, chrf, ter)
        for engine, key, same, chrf, ter in query(
            db, "select engine, query_id, identical, chrf, ter from translation_agreement"
        ).rows
    }
    assert rows["good", "9"] == (True, 100.0, 0.0)
    assert rows["bad", "9"][0] is False
    assert rows["bad", "9"][1] < 50 < rows["good", "10"][1] < 100
    assert rows["bad", "10"][2] > rows["good", "9"][2]
    best = query(db, "select engine, n_reviewed, percent_identical from translation_engines order by engine").rows
    assert best == [("bad", 2, 0.0), ("good", 2, 50.0)]


# ------------------------------------------------------------------------------------------------------ files


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_a_file_goes_out_is_edited_and_comes_back(db: Path, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"review.{suffix}"
    assert sheet.write_sheet(db, out, language="es") == 4
    lines = read(out)
    by_id = {line["id"]: line for line in lines}
    assert [line["id"] for line in lines][:2] == ["9", "10"]
    assert by_id["9"]["candidate_2"] == "How old is {name}?"
    assert by_id["9"]["flags_2"] == "untranslated"
    by_id["8"]["decision"] = "ok"
    by_id["9"]["text"] = "¿Cuántos años\ntiene {name}?"
    by_id["9"]["reviewer"] = "bea"
    by_id["10"]["decision"] = "skip"
    write(out, lines)
    assert sheet.read_sheet(db, out, reviewer="ana") == {"accepted": 1, "edited": 1, "skipped": 1, "undecided": 1}
    assert states(db) == {
        "11": ("open", None),
        "10": ("skipped", None),
        "8": ("accepted", "¡Hola, amigo!"),
        "9": ("edited", "¿Cuántos años\ntiene {name}?"),
    }
    names = query(db, "select distinct query_id, reviewer, source from raw.reviews order by 1").rows
    assert names == [("10", "ana", out.name), ("8", "ana", out.name), ("9", "bea", out.name)]
    assert sheet.read_sheet(db, out, reviewer="ana") == {"known": 3, "undecided": 1}
    assert query(db, "select count(*) from raw.reviews").rows == [(3,)]


def test_a_spreadsheet_runs_nothing_and_gives_every_text_back(db: Path, tmp_path: Path) -> None:
    out = tmp_path / "review.csv"
    sheet.write_sheet(db, out, language="es")
    assert "\r\n" in out.read_bytes().decode()
    cells = [cell for row in csv.reader(io.StringIO(out.read_text("utf-8-sig"))) for cell in row]
    assert [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))] == []
    assert sheet.read_sheet(db, out, reviewer="ana")["undecided"] == 4


@pytest.mark.parametrize("text", ["=1", "  ＝1", "\n+1", "'quoted", "''=1", "plain", "l'été", "", "'"])
def test_a_cell_of_a_spreadsheet_gives_its_text_back(text: str) -> None:
    cell = sheet._cell(text)
    assert not is_formula(cell)
    assert sheet._uncell(cell) == text


def test_an_old_file_takes_no_later_decision_back(db: Path, tmp_path: Path) -> None:
    out = tmp_path / "review.csv"
    sheet.write_sheet(db, out, language="es")
    with review.Review(db, language="es", reviewer="ana") as sitting:
        sitting.edit("¿Cuántos años tienes, {name}?")
    assert sheet.read_sheet(db, out, reviewer="bea") == {"undecided": 4}
    assert states(db)["9"] == ("edited", "¿Cuántos años tienes, {name}?")


def test_a_file_with_semicolons_as_some_spreadsheets_save_it_is_read(db: Path, tmp_path: Path) -> None:
    out = tmp_path / "review.csv"
    sheet.write_sheet(db, out, language="es")
    rows = list(csv.reader(io.StringIO(out.read_text("utf-8-sig"))))
    text = io.StringIO()
    csv.writer(text, delimiter=";").writerows([[*row[:4], "ok", *row[5:]] if i else row for i, row in enumerate(rows)])
    out.write_text(text.getvalue(), encoding="utf-8")
    assert sheet.read_sheet(db, out, reviewer="ana")["accepted"] == 4


@pytest.mark.parametrize(
    "change,message",
    [
        ({"decision": "perhaps"}, "'perhaps' is not a decision"),
        ({"id": "77"}, "no candidates of query '77'"),
        ({"text": " "}, "the text is empty"),
        ({"text": None}, "has no text"),
        ({"text": ...}, "has no text"),
    ],
)
def test_a_faulty_file_changes_nothing(db: Path, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    out = tmp_path / "review.jsonl"
    sheet.write_sheet(db, out, language="es")
    lines = [{**line, "decision": "ok"} for line in read(out)]
    lines[2].update(change)
    none = [
        {name: None if value is ... else value for name, value in line.items() if value is not None} for line in lines
    ]
    write(out, none)
    with pytest.raises(InputError, match=rf"review\.jsonl:3: .*{message}"):
        sheet.read_sheet(db, out, reviewer="ana")
    assert query(db, "select count(*) from raw.reviews").rows == [(0,)]


# -------------------------------------------------------------------------------------------------- final sets


def test_the_final_set_keeps_ids_and_fields_and_says_where_it_is_from(db: Path, tmp_path: Path) -> None:
    out = tmp_path / "queries.es.jsonl"
    with pytest.raises(ConfigError, match="4 of 4 queries in 'es' have no final text"):
        build_set(db, out, language="es")
    with review.Review(db, language="es", reviewer="ana") as sitting:
        sitting.accept()
        sitting.edit("Escribe tres poemas.")
    built = build_set(db, out, language="es", unreviewed="machine")
    assert (built.reviewed, built.machine, built.left_out) == (2, 2, 0)
    lines = read(out)
    assert [line["id"] for line in lines] == [8, 9, 10, 11]
    assert [line["instruction"] for line in lines][:3] == [
        "¡Hola, amigo!",
        "¿Qué edad tiene {name}?",
        "Escribe tres poemas.",
    ]
    assert lines[2]["source_id"] == "s-10"
    assert lines[2]["translation"]["decision"] == "edited"
    assert lines[2]["translation"]["reviewer"] == "ana"
    assert lines[0]["translation"]["decision"] == "machine"
    found = queries.load_file(out, language="es")
    assert [query.query_id for query in found.queries] == ["8", "9", "10", "11"]
    assert build_set(db, out, language="es", unreviewed="leave-out").left_out == 2


@pytest.mark.parametrize(
    ("unreviewed", "why"), [("machine", r" or a usable candidate \(they are .*empty.*\)"), ("leave-out", "")]
)
def test_a_set_without_a_usable_text_is_not_written(tmp_path: Path, unreviewed: str, why: str) -> None:
    db, out = tmp_path / "t.duckdb", tmp_path / "queries.es.jsonl"
    sources = queries.samples("en").queries
    translate_missing(db, Fake({s.instruction: "" for s in sources}), sources, language="es")
    with pytest.raises(ConfigError, match=rf"no query in 'es' has a final text{why}; write texts .* another engine"):
        build_set(db, out, language="es", unreviewed=unreviewed)
    assert not out.exists()


def test_a_set_in_another_language_pairs_with_its_source(tmp_path: Path) -> None:
    db, out, source = tmp_path / "t.duckdb", tmp_path / "samples.es.jsonl", tmp_path / "samples.en.jsonl"
    own = {query.query_id: query.instruction for query in queries.samples("es").queries}
    sources = queries.samples("en").queries
    translate_missing(db, Fake({s.instruction: own[s.query_id] for s in sources}), sources, language="es")
    assert build_set(db, out, language="es", unreviewed="machine").machine == 12
    assert queries.load_file(out, language="es").queries == queries.samples("es").queries
    lines = [{**s.fields, "instruction": s.instruction, "language": "en"} for s in sources]
    write(source, lines)
    assert compare_sets(str(source), str(out)) == []


def test_what_does_not_pair_up_is_found(icl: Run, tmp_path: Path) -> None:
    first, second = tmp_path / "q.en.jsonl", tmp_path / "q.es.jsonl"
    write(first, [{"id": i, "instruction": f"text {i}", "task": ["math"]} for i in range(4)])
    write(
        second,
        [
            {"id": 0, "instruction": "texto 0", "task": ["math"]},
            {"id": 1, "instruction": "text 1", "task": ["math"]},
            {"id": 2, "instruction": "texto 0", "task": ["coding"]},
            {"id": 2, "instruction": "texto 2", "task": ["coding"]},
            {"id": 9, "instruction": "texto 9"},
        ],
    )
    code, out, err = icl("data", "check", first, second, "--format", "csv")
    assert code == 1
    assert {tuple(row[:2]) for row in csv.reader(io.StringIO(out))} == {
        ("finding", "id"), ("missing_id", "3"), ("missing_id", "9"), ("duplicate_id", "2"), ("duplicate_text", "2"),
        ("identical_text", "1"), ("different_field", "2"),
    }  # fmt: skip
    assert "6 findings" in err


def test_one_file_is_read_and_counted(icl: Run, tmp_path: Path) -> None:
    write(tmp_path / "q.jsonl", [{"uid": 1, "q": "One?", "reference": "1"}, {"uid": 2, "q": "Two?", "tags": ["a"]}])
    code, out, err = icl("data", "check", tmp_path / "q.jsonl", "--map", "id=uid,instruction=q", "--format", "csv")
    assert code == 0, err
    assert out.splitlines()[1:] == ["q,en,2,0,1,0,0,0,1"]
    code, out, err = icl("data", "check", tmp_path / "q.jsonl", "--map", "id=uid,instruction=query")
    assert code == 1
    assert "q.jsonl:1: has no column 'query'; it has uid, q, reference" in err
    assert icl("data", "check", tmp_path / "none.jsonl")[0] == 2
    assert icl("data", "check", tmp_path / "q.jsonl", tmp_path / "none.jsonl")[0] == 2


# ------------------------------------------------------------------------------------------------ command line


def test_the_terminal_accepts_edits_skips_undoes_and_stops(
    icl: Run, db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor = tmp_path / "editor"
    editor.write_text("#!/bin/sh\nprintf 'Escribe mucho.\\n' > \"$1\"\n")
    editor.chmod(0o700)
    monkeypatch.setenv("EDITOR", str(editor))
    monkeypatch.delenv("VISUAL", raising=False)
    keys = "9\nz\n1\nu\n1\ne2\ns\nq\n"
    code, out, err = icl("translate", "review", "--lang", "es", "--reviewer", "ana", "--db", db, stdin=keys)
    assert code == 0, err
    assert "How old is {name}?" in out
    assert "candidate 9 does not exist" in err
    assert "'z' is not a key" in err
    assert "3 decided, 1 left" in err
    assert sorted(status for status, _ in states(db).values()) == ["accepted", "edited", "open", "skipped"]
    assert states(db)["10"] == ("edited", "Escribe mucho.")


def test_the_commands_print_what_they_did(icl: Run, db: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.csv"
    assert icl("translate", "export", "--lang", "es", "-o", out, "--db", db)[:2] == (0, f"{out}\n")
    assert stat.S_IMODE(out.stat().st_mode) == PRIVATE
    assert "4 left undecided" in icl("translate", "import", out, "--db", db, "--reviewer", "ana")[2]
    rows = json.loads(icl("translate", "status", "--db", db, "--format", "json")[1])
    assert rows[0]["queries"] == 4
    assert json.loads(icl("translate", "status", "--engines", "--db", db, "--format", "json")[1])[0]["engine"] == "bad"
    code, _, err = icl("data", "build", "--lang", "fr", "-o", tmp_path / "x.jsonl", "--db", db)
    assert (code, err.startswith("error: no candidates in 'fr'")) == (1, True)


def read(path: Path) -> list[dict[str, object]]:
    text = path.read_text("utf-8-sig")
    if path.suffix == ".csv":
        return list(csv.DictReader(io.StringIO(text, newline="")))
    return [json.loads(line) for line in text.splitlines()]


def write(path: Path, lines: list[dict[str, object]]) -> None:
    if path.suffix == ".csv":
        text = io.StringIO()
        writer = csv.DictWriter(text, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
        path.write_text(text.getvalue(), encoding="utf-8", newline="")
    else:
        path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
