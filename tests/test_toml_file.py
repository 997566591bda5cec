"""The reader of TOML files: typed fields, and errors that name the file, the key and what to write instead."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from icl_local import toml_file
from icl_local.exceptions import ConfigError, InputError


@dataclass(frozen=True)
class Wheel:
    size: float
    made: datetime.date | None = None

    def __post_init__(self) -> None:
        if self.size <= 0:
            raise ConfigError("size must be above 0")


@dataclass(frozen=True)
class Cart:
    name: str
    owners: tuple[str, ...]
    wheels: tuple[Wheel, ...] = ()
    spare: Wheel | None = None
    prices: Mapping[str, float] = field(default_factory=dict)
    n_seats: int = 1
    painted: bool = False


def built(text: str) -> Cart:
    return toml_file.build(Cart, toml_file.parse(text, "cart.toml"), "cart.toml")


def test_a_table_becomes_a_form_with_its_defaults_and_nested_tables() -> None:
    cart = built(
        'name = "hay"\nowners = ["a", "b"]\n[spare]\nsize = 3\n[[wheels]]\nsize = 0.5\nmade = 2026-11-06\n'
        "[prices]\nsummer = 2\nwinter = 2.5\n"
    )
    wheel = Wheel(0.5, datetime.date(2026, 11, 6))
    assert cart == Cart("hay", ("a", "b"), (wheel,), Wheel(3), {"summer": 2, "winter": 2.5})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = ", r"not valid TOML: .*"),
        ("owners = ['a']", "name is missing; it must be a text"),
        ("name = 'x'\nowners = []", "owners is missing; it must be a list of texts"),
        ("name = ''\nowners = ['a']", "name is missing; it must be a text"),
        ("nmae = 'x'", r"unknown key 'nmae' \(did you mean name\?\); there are name, owners, wheels, spare, .*"),
        ("zzz = 1", "unknown key 'zzz'; there are name, .*"),
        ("name = 3", "name must be a text, not 3"),
        ("n_seats = true", "n_seats must be a whole number, not True"),
        ("n_seats = 1.5", "n_seats must be a whole number, not 1.5"),
        ("painted = 1", "painted must be true or false, not 1"),
        ("owners = 'a'", "owners must be a list of texts, not 'a'"),
        ("owners = ['a', '']", r"owners must be a list of texts, not \['a', ''\]"),
        ("wheels = 3", "wheels must be a list of tables, not 3"),
        ("wheels = [3]", r"\[\[wheels\]\]: must be a table, not 3"),
        ("[[wheels]]\nsize = 'big'", r"\[\[wheels\]\]: size must be a number, not 'big'"),
        ("[[wheels]]\nsize = 0", r"\[\[wheels\]\]: size must be above 0"),
        ("[spare]\nmade = 2026-11-06", r"\[spare\]: size is missing; it must be a number"),
        ("[spare]\nsize = 1\nmade = 3", r"\[spare\]: made must be a date such as 2026-11-06, not 3"),
        ("spare = 4", "spare must be a table, not 4"),
        ("prices = 4", "prices must be a table, not 4"),
        ("[prices]\nsummer = 'x'", r"prices\.summer must be a number, not 'x'"),
    ],
)
def test_an_error_names_the_file_the_key_and_what_is_expected(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"^cart\.toml: {message}$"):
        built(text)


def test_a_mapping_of_types_is_a_form_for_keys_that_are_not_python_names() -> None:
    form = {"base-dpo": dict, "label": str}
    assert toml_file.check(form, {"base-dpo": {"x": 1}}, "f") == {"base-dpo": {"x": 1}}
    with pytest.raises(ConfigError, match="f: base-dpo must be a table, not 1"):
        toml_file.check(form, {"base-dpo": 1}, "f")


def test_fields_given_by_the_caller_are_not_keys_of_the_file() -> None:
    assert toml_file.build(Cart, {"owners": ["a"]}, "f", name="x").name == "x"
    with pytest.raises(ConfigError, match="unknown key 'name'"):
        toml_file.build(Cart, {"name": "y", "owners": ["a"]}, "f", name="x")


def test_a_byte_order_mark_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "cart.toml").write_text('name = "x"', encoding="utf-8-sig")
    assert toml_file.load(tmp_path / "cart.toml") == {"name": "x"}


def test_a_file_that_cannot_be_read_raises_the_error_of_the_caller(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.toml: cannot be read"):
        toml_file.load(tmp_path / "none.toml", error=InputError)
    (tmp_path / "latin.toml").write_bytes(b"name = '\xe9'")
    with pytest.raises(ConfigError, match=r"latin\.toml: cannot be read"):
        toml_file.load(tmp_path / "latin.toml")
    (tmp_path / "good.toml").write_text("a = 1")
    assert toml_file.load(tmp_path / "good.toml") == {"a": 1}
