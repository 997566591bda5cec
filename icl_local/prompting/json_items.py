"""Read the JSON objects of a file, each with its place: file, line, and in a JSON list its number.

Forms: a JSON list, JSON Lines, an object whose ``data`` is the list, CSV and TSV with a header; UTF-8. In a table an
empty field is a missing one, and lists are JSON. Semicolons or tabs may separate the fields of CSV too.
"""

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from icl_local.exceptions import InputError
from icl_local.identity import key_of

_LONGEST_FIELD = 1 << 24  # characters of a field of a table

_DECODER = json.JSONDecoder()
_SPACE = " \t\n\r"
_BETWEEN = _SPACE + ","  # between two elements of a valid list
_DATA = re.compile(r'"data"[ \t\n\r]*:[ \t\n\r]*(?=\[)')  # no text in JSON holds it: its quotes are escaped
_DELIMITERS = ",;\t"
_SEPARATOR = re.compile(r"sep=(.)(?=\r?\n)")  # a first line for Excel
_LIST = re.compile(r'\[\s*["{]')  # the beginning of a list of texts or objects


@dataclass(frozen=True)
class JsonItem:
    """One object of a file and where it begins, for messages: ``file:line``, in a JSON list ``file:line, item 2``."""

    place: str
    data: dict[str, Any]

    @property
    def names(self) -> str:
        """Return the names of the fields, for messages."""
        return ", ".join(map(str, self.data)) or "none"

    def text(self, name: str) -> str:
        """Return a required text field; raises InputError if it is missing, not a text, or cannot be stored."""
        value = self.data.get(name)
        if name not in self.data:
            raise InputError(
                f"{self.place}: the field `{name}` is missing; it has {self.names}; rename one, or where the command "
                f"has --map, give --map {name}=COLUMN"
            )
        if not isinstance(value, str):
            raise InputError(f"{self.place}: the field `{name}` is {'empty' if value is None else 'not a text'}")
        if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
            raise InputError(f"{self.place}: `{name}` holds a NUL or half of a surrogate pair; remove it")
        return value

    def id(self) -> str:
        """Return ``id`` as text; raises InputError if it is missing, empty, or neither text nor a whole number."""
        value = self.data.get("id")
        if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
            shown = "no id" if value is None else f"the id {value!r}"
            raise InputError(f"{self.place}: has {shown}; ids are text or whole numbers")
        return str(value)


def id_of_text(text: str) -> str:
    """Return the id of an item without one: the same text has the same id, wherever it stands."""
    return key_of(kind="text", text=text)[:12]


def read_file(path: Path, *, cell: Callable[[str], Any] | None = None) -> list[JsonItem]:
    """Return all objects of ``path``; ``cell`` reads a field of a table in another way.

    Raises InputError, with file and line: unreadable, not UTF-8, broken, other.
    """
    text, suffix = _read_text(path), path.suffix.lower()
    if suffix in (".csv", ".tsv"):
        stated = _SEPARATOR.match(text)
        delimiter = stated[1] if stated else "\t" if suffix == ".tsv" else _delimiter_of(text)
        return _table(text[stated.end() if stated else 0 :], str(path), delimiter, cell or _cell)
    return parse(text, str(path))


def _delimiter_of(text: str) -> str:
    """Return what separates the fields of a CSV text: the comma if its header has one outside quotes, else ; or tab."""
    header = re.sub('"[^"]*"', "", next(iter(text.splitlines()), ""))
    return next((one for one in _DELIMITERS if one in header), ",")


def mapped(items: Sequence[JsonItem], columns: Mapping[str, str]) -> list[JsonItem]:
    """Return the items with fields taken from other columns: {"instruction": "question.text"}; a dot goes deeper.

    Raises InputError for a column that an item lacks, with those that it has.
    """
    return [
        replace(item, data={**item.data, **{name: _column(item, column) for name, column in columns.items()}})
        for item in items
    ]


def _column(item: JsonItem, column: str) -> Any:
    value: Any = item.data
    for part in [column] if column in item.data else column.split("."):
        if not isinstance(value, dict) or part not in value:
            raise InputError(f"{item.place}: has no column {column!r}; it has {item.names}")
        value = value[part]
    return value


def _table(text: str, file: str, delimiter: str, cell: Callable[[str], Any]) -> list[JsonItem]:
    csv.field_size_limit(_LONGEST_FIELD)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    items: list[JsonItem] = []
    line = 1
    try:
        names = [name.strip() for name in next(filter(None, reader), [])]
        if twice := [name for name in names if name and names.count(name) > 1]:
            raise InputError(f"{file}:{reader.line_num}: the header has {twice[0]!r} twice; rename one of them")
        line = reader.line_num + 1
        for row in reader:
            if row and len(row) != len(names):
                raise InputError(f"{file}:{line}: has {len(row)} fields where the header has {len(names)}")
            if row:
                items.append(JsonItem(f"{file}:{line}", dict(zip(names, map(cell, row), strict=True))))
            line = reader.line_num + 1
    except csv.Error as error:
        raise InputError(f"{file}:{line}: broken table: {error}") from error
    except json.JSONDecodeError as error:
        raise InputError(f"{file}:{line}: a field begins like a JSON list but is not one: {error.msg}") from error
    return items


def _cell(value: str) -> Any:
    """Return a list, None for an empty field, else the text. Raises JSONDecodeError for a broken list."""
    try:
        return json.loads(value) if value.startswith("[") else value or None
    except json.JSONDecodeError:
        if _LIST.match(value):
            raise
    return value


def _read_text(path: Path) -> str:
    """Return the text of a UTF-8 file, without a byte order mark. Raises InputError."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 at byte {error.start}; save it as UTF-8") from error


def parse(text: str, file: str) -> list[JsonItem]:
    """Return all objects of ``text``; ``file`` is its name in errors."""
    items = []
    line, counted = 1, 0
    in_lines = _is_json_lines(text)
    try:
        for number, (position, value) in enumerate(_json_lines(text) if in_lines else _document(text), start=1):
            line += text.count("\n", counted, position)
            counted = position
            place = f"{file}:{line}" if in_lines else f"{file}:{line}, item {number}"
            if not isinstance(value, dict):
                raise InputError(f"{place}: holds {type(value).__name__} where an object {{...}} is expected")
            items.append(JsonItem(place, value))
    except json.JSONDecodeError as error:
        raise InputError(f"{file}:{error.lineno}: broken JSON: {error.msg} (column {error.colno})") from error
    except (RecursionError, ValueError) as error:
        raise InputError(f"{file}: JSON nested too deeply, or a number too long to read") from error
    return items


def _is_json_lines(text: str) -> bool:
    """Return whether the first line is a whole object: one on several lines breaks after ``{``, ``[`` or ``,``."""
    first = text.lstrip(_SPACE).split("\n", 1)[0].rstrip(_SPACE)
    if not first.startswith("{") or first.endswith(("{", "[", ",")):
        return False
    try:
        return not isinstance(json.loads(first).get("data"), list)
    except ValueError:
        return True


def _json_lines(text: str) -> Iterator[tuple[int, object]]:
    """Yield (position, value) of every line that is not blank."""
    position = 0
    for line in text.split("\n"):  # not splitlines(): U+2028 may be unescaped in a JSON string
        if line.strip(_SPACE):
            try:
                yield position, json.loads(line)
            except json.JSONDecodeError as error:
                raise json.JSONDecodeError(error.msg, text, position + error.pos) from None
        position += len(line) + 1


def _document(text: str) -> Iterator[tuple[int, object]]:
    """Yield (position, value) of every element of the list that is the whole text, or its ``data``."""
    if not text.strip(_SPACE):
        return
    whole = json.loads(text)  # all syntax errors are raised here: the walk below reads valid JSON only
    position = len(text) - len(text.lstrip(_SPACE))
    if isinstance(whole, dict) and isinstance(whole.get("data"), list):
        places = (found.end() for found in _DATA.finditer(text))
        position = next((at for at in places if _DECODER.raw_decode(text, at)[0] == whole["data"]), position)
    elif not isinstance(whole, list):
        raise json.JSONDecodeError("neither a list, nor JSON Lines, nor an object with a list `data`", text, position)
    position = _next(text, position + 1)
    while text[position] != "]":
        value, end = _DECODER.raw_decode(text, position)
        yield position, value
        position = _next(text, end)


def _next(text: str, position: int) -> int:
    """Return the position of the next element or bracket, past spaces and commas."""
    while text[position] in _BETWEEN:
        position += 1
    return position
