"""Review outside the terminal: write candidates as CSV or JSON Lines, and read the edited file.

One line per query; a changed ``text`` is a decision by itself. ``mark`` identifies the original, so that unchanged
lines of an old file undo nothing.
"""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from icl_local import store
from icl_local.exceptions import ConfigError, InputError
from icl_local.files import PRIVATE, write_result
from icl_local.identity import sha256_text
from icl_local.prompting import json_items
from icl_local.translate.review import ReviewItem, decision, items
from icl_local.wording import is_formula

COLUMNS = ("dataset", "id", "language", "status", "decision", "reviewer", "source", "text", "flags", "engine", "mark")
OUTCOMES = ("accepted", "edited", "skipped", "known", "undecided")
DECISIONS = ("", "ok", "accept", "edit", "skip")
_NEEDED = ("dataset", "id", "language", "text")


def write_sheet(path: Path, out: Path, *, language: str, dataset: str | None = None, decided: bool = False) -> int:
    """Write the queries to review in ``language``, the most urgent first; return the number of lines.

    ``out`` ends in .csv or .jsonl. ``decided`` adds queries that were accepted or edited. Raises ConfigError.
    """
    found = items(path, language=language, dataset=dataset, decided=decided)
    lines = [_line(item) for item in found]
    if _is_csv(out):
        names = list(dict.fromkeys([*COLUMNS, *(name for line in lines for name in line)]))
        text = io.StringIO()
        writer = csv.DictWriter(text, names, lineterminator="\r\n")
        writer.writeheader()
        writer.writerows({name: _cell(value) for name, value in line.items()} for line in lines)
        # without the byte order mark Excel does not read UTF-8
        write_result(out, "\ufeff" + text.getvalue(), mode=PRIVATE)
    else:
        write_result(out, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), mode=PRIVATE)
    return len(lines)


def read_sheet(path: Path, file: Path, *, reviewer: str) -> Counter[str]:
    """Store the decisions of ``file`` in ``path``, all or none; return the number of lines by outcome (OUTCOMES).

    ``reviewer`` is for lines without a name.
    Raises InputError naming file and line: a missing column, an unknown query or decision, an empty text.
    """
    _is_csv(file)
    lines = list(_read(file))
    known = {
        language: {(i.dataset, i.query_id): i for i in items(path, language=language, decided=True)}
        for language in {line["language"] for _, line in lines}
    }
    counts: Counter[str] = Counter()
    rows = []
    for place, line in lines:
        name, query_id = line["dataset"], line["id"]
        item = known[line["language"]].get((name, query_id))
        if item is None:
            raise InputError(f"{place}: there are no candidates of query {query_id!r} of {name!r} in that language")
        kind, row = _decision(item, line, place, reviewer, file.name)
        counts[kind] += 1
        if row is not None:
            rows.append(row)
    with store.Store(path, flush_rows=1_000) as target:
        target.put([("reviews", row) for row in rows])
    return counts


def _line(item: ReviewItem) -> dict[str, str]:
    first = item.first_candidate
    text = first.text if item.final_text is None else item.final_text
    line = {
        "dataset": item.dataset,
        "id": item.query_id,
        "language": item.language,
        "status": item.status,
        "decision": "",
        "reviewer": item.reviewer or "",
        "source": item.source_text,
        "text": text,
        "flags": " ".join(first.flags),
        "engine": first.engine,
        "mark": _mark(text),
    }
    for number, candidate in enumerate(item.candidates, 1):
        line[f"candidate_{number}"] = candidate.text
        line[f"engine_{number}"] = candidate.engine
        line[f"flags_{number}"] = " ".join(candidate.flags)
    return line


def _mark(text: str) -> str:
    return f"t-{sha256_text(_one_kind_of_line_break(text))[:10]}"  # a letter first: not a number to a spreadsheet


def _one_kind_of_line_break(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _decision(
    item: ReviewItem, line: Mapping[str, str], place: str, reviewer: str, file: str
) -> tuple[str, dict[str, object] | None]:
    """Return the decision of a line as the name of its count, and its row."""
    word = line.get("decision", "").strip().lower()
    if word not in DECISIONS:
        raise InputError(f"{place}: {word!r} is not a decision; write ok, skip, or nothing")
    text = _one_kind_of_line_break(line["text"])
    if item.final_text == text:
        return "known", None
    if not word and _mark(text) == line.get("mark", _mark(item.candidates[0].text)):
        return "undecided", None
    by = line.get("reviewer", "").strip() or reviewer
    if word == "skip":
        if item.status == "skipped":
            return "known", None
        return "skipped", decision(item, item.candidates[0], None, reviewer=by, source=file)
    if not text.strip():
        raise InputError(f"{place}: the text is empty; write one, or skip as the decision")
    same = next((c for c in item.candidates if _one_kind_of_line_break(c.text) == text), None)
    if same is None:
        return "edited", decision(item, item.first_candidate, text, reviewer=by, source=file)
    return "accepted", decision(item, same, same.text, reviewer=by, source=file)


def _is_csv(file: Path) -> bool:
    if file.suffix not in (".csv", ".jsonl"):
        raise ConfigError(f"{file.name}: reviews are .csv or .jsonl files")
    return file.suffix == ".csv"


def _cell(value: str) -> str:
    """Return a text with an apostrophe, which a spreadsheet hides, where it would run or change the text."""
    return f"'{value}" if is_formula(value) or value.startswith("'") else value


def _uncell(value: str) -> str:
    return value[1:] if value == _cell(value[1:]) else value


def _read(file: Path) -> Iterator[tuple[str, dict[str, str]]]:
    for item in json_items.read_file(file, cell=_uncell):
        if missing := [name for name in _NEEDED if item.data.get(name) is None]:
            raise InputError(f"{item.place}: has no {', '.join(missing)}; start from a file of icl translate export")
        yield item.place, {name: str(value) for name, value in item.data.items() if value is not None}
