"""JSON objects of a file: read with their lines, or refused with file and line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icl_local.exceptions import InputError
from icl_local.prompting import json_items


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_field_of_a_table_may_be_long(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("instruction\n" + "a" * 200_000 + "\n")
    (item,) = json_items.read_file(tmp_path / "x.csv")
    assert len(item.text("instruction")) == 200_000


def test_a_table_may_state_its_delimiter_in_a_first_line(tmp_path: Path) -> None:
    path = write(tmp_path / "q.csv", "\ufeffsep=|\r\nid|instruction\r\n1|a, b; c\r\n")
    (item,) = json_items.read_file(path)
    assert (item.place, item.data) == (f"{path}:3", {"id": "1", "instruction": "a, b; c"})


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_table_has_the_delimiter_of_its_header(tmp_path: Path, delimiter: str) -> None:
    lines = [["id", "instruction"], ["1", '"a; b, c\t"'], ["2", ""]]
    path = write(tmp_path / "q.csv", "\ufeff" + "\r\n".join(map(delimiter.join, lines)))
    assert [item.data for item in json_items.read_file(path)] == [
        {"id": "1", "instruction": "a; b, c\t"},
        {"id": "2", "instruction": None},
    ]


def test_files_that_are_not_text_or_absent_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not UTF-8 at byte 2"):
        json_items.read_file(write(tmp_path / "q.json", b'["\xff"]'))
    with pytest.raises(InputError, match=r"none\.json: cannot be read"):
        json_items.read_file(tmp_path / "none.json")


@given(st.text())
@settings(max_examples=200, deadline=None)
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        found = json_items.parse(text, "f")
    except InputError:
        return
    places = [int(one.place.removeprefix("f:").partition(",")[0]) for one in found]
    assert places == sorted(places)


@given(
    st.lists(st.dictionaries(st.text(max_size=3), st.text(max_size=3)), min_size=1, max_size=5),
    st.sampled_from(["lines", "list", "data"]),
)
@settings(max_examples=100, deadline=None)
def test_items_know_their_lines(data: list[dict[str, str]], form: str) -> None:
    lines = [json.dumps(one) for one in data]
    listed = "[\n" + ",\n".join(lines) + "\n]"
    within = '{"of": {"data": ["\\"data\\": []"]}, "data" : ' + listed + "}"
    found = json_items.parse({"lines": "\n".join(lines), "list": listed, "data": within}[form], "f")
    assert [one.data for one in found] == data
    places = [f"f:{n}" if form == "lines" else f"f:{n + 1}, item {n}" for n in range(1, len(data) + 1)]
    assert [one.place for one in found] == places


def test_items_of_a_list_on_one_line_are_named_by_their_number() -> None:
    with pytest.raises(InputError, match=r"^f:1, item 2: holds int where an object"):
        json_items.parse('[{"a": 1}, 2]', "f")
    with pytest.raises(InputError, match=r"^f:1, item 2: the field `a` is not a text"):
        json_items.parse('[{"a": "x"}, {"a": 2}]', "f")[1].text("a")
