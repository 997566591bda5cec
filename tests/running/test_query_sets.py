"""Query sets by file, by name and from the hub: one set in every form, and what is refused."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest

from icl_local import running
from icl_local.exceptions import InputError, UnknownName
from icl_local.identity import sha256_file
from icl_local.prompting import queries
from tests.fake_hub import FIRST, REPO, SECOND, serving
from tests.prompting.test_queries import item, write
from tests.shared import Run

ROWS = [
    {"uid": 1, "q": "Capital?", "ref": ["Paris", "Paname"], "tags": ["geo"], "options": None, "right": None},
    {"uid": 2, "q": 'A, or\n"B"?', "ref": None, "tags": None, "options": ["yes", "no"], "right": "B"},
]

COLUMNS = {"id": "uid", "instruction": "q", "reference": "ref", "choices": "options", "answer": "right"}


def as_table(delimiter: str) -> str:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter)
    writer.writerow(ROWS[0])
    for row in ROWS:
        cells = ["" if value is None else value for value in row.values()]
        writer.writerow([json.dumps(value) if isinstance(value, list) else value for value in cells])
    return text.getvalue()


def test_whole_numbers_of_a_table_are_whole(tmp_path: Path) -> None:
    row = "'Q?' as instruction, 4.0::double as reference, ['3', '4'] as choices, 1.0::double as answer"
    duckdb.sql(f"copy (select {row}) to '{tmp_path / 'q.parquet'}'")
    (query,) = running.load_set(str(tmp_path / "q.parquet"), untagged="en").queries
    assert query.expected == {"reference": ["4"], "choices": ["3", "4"], "answer": 1}


def test_values_of_parquet_are_those_of_json(tmp_path: Path) -> None:
    columns = "1.50::decimal(4, 2) as reference, 'nan'::double as answer, date '2020-01-02' as day"
    duckdb.sql(f"copy (select uuid() as id, 'Q?' as instruction, {columns}) to '{tmp_path / 'q.parquet'}'")
    (query,) = running.load_set(str(tmp_path / "q.parquet"), untagged="es").queries
    assert query.expected == {"reference": ["1.5"]}
    assert json.loads(json.dumps(query.fields)) == {**query.fields, "day": "2020-01-02", "answer": None}


def test_one_set_in_five_forms_has_the_same_queries(tmp_path: Path) -> None:
    files = [
        write(tmp_path / "q.jsonl", "\n".join(map(json.dumps, ROWS))),
        write(tmp_path / "q.json", json.dumps(ROWS)),
        write(tmp_path / "q.csv", as_table(",")),
        write(tmp_path / "q.tsv", as_table("\t")),
        tmp_path / "q.parquet",
    ]
    duckdb.sql(f"copy (from '{files[0]}') to '{files[4]}'")
    found = [running.load_queries(["en"], [str(file)], columns=COLUMNS)[0].queries for file in files]
    assert all(queries == found[0] for queries in found)
    assert all([q.expected for q in queries] == [q.expected for q in found[0]] for queries in found)
    first, second = found[0]
    assert first.expected == {"reference": ["Paris", "Paname"]}
    assert first.tags == ("geo",)
    assert second.expected == {"choices": ["yes", "no"], "answer": 1}
    assert running.load_set(str(files[2]), untagged="es", columns=COLUMNS).counts() == [
        ("q", "es", 2, 0, 1, 1, 1, 0, 1)
    ]


@pytest.mark.parametrize(
    ("asked", "dataset"),
    [
        ("", "some-GGUF"),
        ("/es", "some-GGUF"),
        ("/test", "some-GGUF/test"),
        ("/es/test@refs/convert/parquet", "some-GGUF/test"),
        ("/es/test/0000.parquet@" + SECOND, "0000"),
    ],
)
def test_a_data_set_of_the_hub_keeps_its_name_and_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str, dataset: str
) -> None:
    file = tmp_path / "q.parquet"
    duckdb.sql(f"copy (select 1 as id, '¿Qué?' as q) to '{file}'")
    with serving(tmp_path, monkeypatch) as fake:
        fake.commits["refs/convert/parquet"] = SECOND
        fake.files = {(FIRST, "load.py"): b"", (SECOND, "es/test/0000.parquet"): file.read_bytes()}
        (found,) = running.load_queries(["es"], [f"es=hf:{REPO}{asked}"], columns={"instruction": "q"})
    assert [(q.dataset, q.query_id, q.instruction) for q in found.queries] == [(dataset, "1", "¿Qué?")]
    row = found.row()
    assert (row["source"], row["sha256"]) == (f"hf:{REPO}/es/test/0000.parquet@{SECOND}", sha256_file(file))


def test_a_split_of_several_files_is_one_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [tmp_path / f"test-0000{n}-of-00002.parquet" for n in range(2)]
    for n, file in enumerate(files):
        duckdb.sql(f"copy (select {n} as id, 'Question {n}?' as instruction) to '{file}'")
    with serving(tmp_path, monkeypatch) as fake:
        fake.files = {(FIRST, f"data/{file.name}"): file.read_bytes() for file in files}
        (found,) = running.load_queries(["en"], [f"hf:{REPO}/test"])
        again = running.load_set(str(found.row()["source"]), untagged="en")
        fake.files[FIRST, f"data/{files[1].name}"] = files[0].read_bytes()
        shutil.rmtree(tmp_path / "hf")
        with pytest.raises(InputError, match=r"00001-of-00002\.parquet:1: id '0' is already at .*00000-of-.*:1"):
            running.load_set(f"hf:{REPO}/test", untagged="en")
    assert [(q.query_id, q.instruction) for q in found.queries] == [("0", "Question 0?"), ("1", "Question 1?")]
    assert again.queries == tuple(replace(q, dataset="some-GGUF/data/test") for q in found.queries)
    assert found.dataset == "some-GGUF/test"
    for one in (found, again):
        assert one.source == f"hf:{REPO}/data/test@{FIRST}"
        assert one.sha256 == hashlib.sha256(files[0].read_bytes() + files[1].read_bytes()).hexdigest()


def test_data_check_takes_the_hubs_addresses(icl: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {"en": ["One?", "Two?"], "es": ["¿Uno?", "¿Dos?"]}
    file = write(tmp_path / "q.jsonl", "\n".join(json.dumps(item(n) | {"instruction": f"Q{n}"}) for n in range(2)))
    with serving(tmp_path, monkeypatch) as fake:
        fake.cards[FIRST] = {"configs": [{"config_name": code, "data_files": f"{code}/*.csv"} for code in texts]}
        fake.files = {
            (FIRST, f"{code}/{n}.csv"): f"id,instruction\n{n},{text}\n".encode()
            for code, both in texts.items()
            for n, text in enumerate(both)
        }
        assert icl("data", "check", f"hf:{REPO}/en", "--format", "csv")[1].splitlines()[1:] == [
            "some-GGUF/en,en,2,0,0,0,0,0,0"
        ]
        code, _, err = icl("data", "check", f"hf:{REPO}/en", f"hf:{REPO}/es@main")
        assert (code, "en and es@main pair up" in err) == (0, True)
        assert icl("data", "check", file, f"hf:{REPO}/es")[0] == 0
        fake.files[FIRST, "es/1.csv"] = b"id,instruction\n7,One?\n"
        shutil.rmtree(tmp_path / "hf")
        code, out, _ = icl("data", "check", f"hf:{REPO}/es", file, "--format", "csv")
        assert (code, out.splitlines()[1:]) == (1, [
            f"missing_id,1,\"in q.jsonl, not in hf:{REPO}/es/train@{FIRST}\"",
            f"missing_id,7,\"in hf:{REPO}/es/train@{FIRST}, not in q.jsonl\"",
        ])  # fmt: skip
        assert "name one config and split" in icl("data", "check", f"hf:{REPO}", file)[2]


@pytest.mark.parametrize(("name", "content"), [("plain.txt", b"Why?"), ("x.xlsx", b"PK\x03\x04\xff")])
def test_a_file_in_no_form_of_queries_is_refused_with_the_forms(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"{name}.*; query files end in \.jsonl, \.json, \.csv, \.tsv, \.parquet"):
        running.load_set(str(tmp_path / name), untagged="en")
    with pytest.raises(InputError, match=r"empty\.json:1: broken JSON: .*\(column 1\)$"):
        running.load_set(str(write(tmp_path / "empty.json", "Why?")), untagged="en")


def test_queries_whose_language_is_written_another_way_are_noted(tmp_path: Path) -> None:
    text = "id,language,instruction\n1,es,a\n2,ES,b\n3,es-MX,c\n4,ES,d\n5,fr,e\n"
    (found,) = running.load_queries(["es"], [f"es={write(tmp_path / 'q.csv', text)}"])
    assert [query.query_id for query in found.queries] == ["1"]
    assert [note.partition("q.csv: ")[2] for note in found.notes] == [
        "2 queries in 'ES', not 'es', left out",
        "1 query in 'es-MX', not 'es', left out",
    ]


def test_a_named_pipe_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    for name in ("pipe.jsonl", "pipe.parquet"):
        os.mkfifo(tmp_path / name)
        for read in (running.load_set, lambda source, **how: queries.load_file(Path(source), **how)):
            with pytest.raises(InputError, match=rf"{name}: is not a regular file; save its contents to one"):
                read(str(tmp_path / name), untagged="en")


def test_a_folder_in_place_of_a_file_is_called_a_folder(tmp_path: Path) -> None:
    (tmp_path / "set.jsonl").mkdir()
    with pytest.raises(InputError, match=r"set\.jsonl: is a folder; name a file in it"):
        running.load_set(str(tmp_path / "set.jsonl"), untagged="en")


def test_a_mistyped_name_of_a_set_is_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"no query set or file 'sample' \(did you mean samples\?\)"):
        running.load_queries(["en"], ["sample"])
    with pytest.raises(InputError, match=r"sample\.json: cannot be read"):
        running.load_queries(["en"], ["sample.json"])


def test_patterns_are_those_of_re2_and_others_are_refused_with_their_query(tmp_path: Path) -> None:
    checks = [{"id": "punctuation:no_comma"}, {"id": "regex", "pattern": r"(a)\1"}]
    path = write(tmp_path / "q.jsonl", json.dumps(item(7, checks=checks)))
    (tmp_path / "ok.jsonl").write_text(json.dumps(item(7, checks=[{"id": "regex", "pattern": r"^\p{L}+\z"}])))
    assert running.load_set(str(tmp_path / "ok.jsonl"), untagged="en").queries[0].expected["checks"]
    with pytest.raises(InputError, match=r"q.jsonl: query '7': the pattern '\(a\).*' is not one of RE2"):
        running.load_set(str(path), untagged="en")
