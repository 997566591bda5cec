"""The reader of TOML files: each table against typed fields, with errors that name the file, the key and a next step.

A form is a dataclass, or a mapping name -> type for tables whose keys are not Python names. Types: str, int, float
(takes whole numbers), bool, datetime.date, ``X | None``, ``tuple[X, ...]`` (a list), ``Mapping[str, X]`` and nested
dataclasses (tables).
"""

import dataclasses
import datetime
import tomllib
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard, TypeVar, Union, get_args, get_origin, get_type_hints

from icl_local.exceptions import ConfigError, IclError, did_you_mean

T = TypeVar("T")
Form = type[Any] | Mapping[str, Any]

_NAMES = {
    str: "a text", int: "a whole number", float: "a number", bool: "true or false",
    datetime.date: "a date such as 2026-11-06",
}  # fmt: skip


def load(path: Path, *, error: type[IclError] = ConfigError) -> dict[str, Any]:
    """Read the file at ``path``; raises ``error`` if it cannot be read or is not TOML."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as failure:
        reason = failure.strerror if isinstance(failure, OSError) else failure
        raise error(f"{path}: cannot be read ({reason}); correct it or name another file") from failure
    return parse(text, str(path), error=error)


def parse(text: str, file: str, *, error: type[IclError] = ConfigError) -> dict[str, Any]:
    """Parse ``text``, the content of ``file``; raises ``error`` with the line at fault."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as failure:
        raise error(f"{file}: not valid TOML: {failure}") from failure


def build(form: type[T], table: object, file: str, *, error: type[IclError] = ConfigError, **more: Any) -> T:
    """Return a ``form`` (a dataclass) made of a table and of ``more``, fields that the table does not hold.

    Raises ``error`` for what ``check`` refuses and for a required field that is missing or empty.
    """
    values = check(form, table, file, error=error, without=tuple(more))
    needed = [field.name for field in dataclasses.fields(form)  # type: ignore[arg-type]
              if field.default is field.default_factory is dataclasses.MISSING and field.name not in more]  # fmt: skip
    for name in needed:
        if name not in values or values[name] in ("", ()):
            raise error(f"{file}: {name} is missing; it must be {_expected(_types(form)[name])}")
    try:
        return form(**values, **more)
    except IclError as failure:  # what the form itself refuses
        raise error(f"{file}: {failure}") from failure


def check(
    form: Form, table: object, file: str, *, error: type[IclError] = ConfigError, without: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Return the fields that a table holds, checked and converted. ``without`` are fields that no table may hold.

    Raises ``error`` for a key that ``form`` does not have, naming the nearest one, and for a value of another type.
    """
    hints = {name: hint for name, hint in _types(form).items() if name not in without}
    if not isinstance(table, dict):
        raise error(f"{file}: must be a table, not {table!r}")
    for key in table:
        if key not in hints:
            raise error(f"{file}: unknown key {key!r}{did_you_mean(key, list(hints))}; there are {', '.join(hints)}")
    return {key: _value(hints[key], value, file, key, error) for key, value in table.items()}


def _value(hint: Any, value: object, file: str, key: str, error: type[IclError]) -> Any:
    hint = _plain(hint)
    origin, items = get_origin(hint), get_args(hint)
    if origin is tuple and isinstance(value, list):
        if _is_form(items[0]):
            return tuple(build(items[0], one, f"{file}: [[{key}]]", error=error) for one in value)
        if all(type(one) is items[0] and one != "" for one in value):
            return tuple(value)
    elif origin is tuple and _is_form(items[0]) and isinstance(value, dict):
        raise error(f"{file}: [{key}] is one table of several: write [[{key}]]")
    elif origin is Mapping and isinstance(value, dict):
        return {name: _value(items[1], one, file, f"{key}.{name}", error) for name, one in value.items()}
    elif _is_form(hint) and isinstance(value, dict):
        return build(hint, value, f"{file}: [{key}]", error=error)
    elif type(value) is hint or (hint is float and type(value) is int):
        return value
    raise error(f"{file}: {key} must be {_expected(hint)}, not {value!r}")


def _is_form(hint: Any) -> TypeGuard[type[Any]]:
    return isinstance(hint, type) and dataclasses.is_dataclass(hint)


def _types(form: Form) -> Mapping[str, Any]:
    return form if isinstance(form, Mapping) else get_type_hints(form)


def _plain(hint: Any) -> Any:
    """Return ``X`` of ``X | None``."""
    if get_origin(hint) in (types.UnionType, Union):
        (hint,) = [part for part in get_args(hint) if part is not types.NoneType]
    return hint


def _expected(hint: Any) -> str:
    hint = _plain(hint)
    if get_origin(hint) is tuple:
        item = get_args(hint)[0]
        return "a list of tables" if _is_form(item) else f"a list of {_NAMES[item].split()[-1]}s"
    return _NAMES.get(hint, "a table")
