"""What a query expects of an answer: references, choices with the right one, and verifiable instructions.

Rules score with it (`icl judge --judge rules`). It is not part of a query's key: a corrected reference changes no
response. IFEval's fields ``instruction_id_list`` and ``kwargs`` are read as checks.
"""

from typing import Any

from icl_local.detect import require_known
from icl_local.exceptions import InputError
from icl_local.prompting.json_items import JsonItem
from icl_local.wording import counted

REGEX = "regex"


def expected(item: JsonItem) -> dict[str, Any]:
    """Return ``reference``, ``choices``, ``answer`` (a number from 0) and ``checks`` of an item, those that it has.

    Raises InputError, with file and line: other types, fewer than two choices or two alike, an answer that is none of
    them, an unknown instruction, a check regex without pattern.
    """
    data = item.data
    found: dict[str, Any] = {}
    if data.get("reference") is not None:
        found["reference"] = _texts(item, "reference")
    if data.get("choices") is not None:
        choices = found["choices"] = _texts(item, "choices")
        if len(choices) < 2 or len(set(choices)) < len(choices):
            raise InputError(f"{item.place}: `choices` needs two or more texts, all different")
        if data.get("answer") is not None:
            found["answer"] = _place(item, choices)
    if checks := _checks(item):
        found["checks"] = checks
    return found


def _texts(item: JsonItem, name: str) -> list[str]:
    value = item.data[name]
    texts = value if isinstance(value, list) else [value]
    if not texts or not all(isinstance(text, str | int | float) and str(text).strip() for text in texts):
        raise InputError(f"{item.place}: `{name}` must be a text or a list of texts, none of them empty")
    return [_plain(text) for text in texts]


def _plain(value: object) -> str:
    return str(int(value) if isinstance(value, float) and value.is_integer() else value)  # a table has 4.0 for 4


def _place(item: JsonItem, choices: list[str]) -> int:
    """Return the index of the right choice, given as index from 0, letter or text."""
    answer = _plain(item.data["answer"]).strip()
    if answer in choices:
        return choices.index(answer)
    place = int(answer) if answer.isdecimal() else "ABCDEFGHIJKLMNOPQRSTUVWXYZ".find(answer.upper() or "?")
    if len(answer) > 2 or not 0 <= place < len(choices):
        raise InputError(f"{item.place}: the answer {answer!r} is none of the {len(choices)} choices")
    return place


def _checks(item: JsonItem) -> list[dict[str, Any]]:
    data = item.data
    checks = data.get("checks")
    if checks is None and isinstance(data.get("instruction_id_list"), list):
        names = data["instruction_id_list"]
        kwargs = data.get("kwargs") or [{}] * len(names)
        listed = isinstance(kwargs, list) and all(isinstance(values, dict | None) for values in kwargs)
        if not listed or len(kwargs) != len(names):
            raise InputError(f"{item.place}: `kwargs` must be a list of {counted(len(names), 'object')}")
        checks = [{"id": name, **(values or {})} for name, values in zip(names, kwargs, strict=True)]
    if checks is None:
        return []
    if not isinstance(checks, list) or not all(isinstance(check, dict) for check in checks):
        raise InputError(f'{item.place}: `checks` must be a list of objects such as {{"id": "punctuation:no_comma"}}')
    for check in checks:
        if check.get("id") != REGEX:
            try:
                require_known(check)
            except InputError as error:
                raise InputError(f"{item.place}: {error}") from None
        elif not isinstance(check.get("pattern"), str):
            raise InputError(f"{item.place}: the check regex needs a text `pattern`")
    return checks
