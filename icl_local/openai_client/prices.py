"""What a server's tokens cost: models/prices.toml, a dated table, and a user's own file over it."""

from __future__ import annotations

import datetime
import re
import threading
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from icl_local import resources
from icl_local.exceptions import ConfigError

_SNAPSHOT = re.compile(r"-(\d{4}-\d{2}-\d{2})$")
_PER = 1_000_000


@dataclass(frozen=True)
class Price:
    """USD per million tokens of one model; ``batch_factor`` is the Batch API's share of it."""

    model: str
    input: float
    output: float
    batch_factor: float
    as_of: datetime.date
    shutdown: datetime.date | None = None

    def usd(self, prompt_tokens: int, completion_tokens: int, *, batch: bool = False) -> float:
        """Cost of these tokens; cached input is counted at the full price, so the sum is an upper bound."""
        cost = (prompt_tokens * self.input + completion_tokens * self.output) / _PER
        return cost * self.batch_factor if batch else cost


class Budget:
    """Money that may be spent: reserved before a request at the most it can cost, settled at what it did cost."""

    def __init__(self, limit_usd: float) -> None:
        self.limit_usd = limit_usd
        self.spent_usd = 0.0
        self._reserved = 0.0
        self._lock = threading.Lock()

    def reserve(self, usd: float) -> bool:
        """Whether ``usd`` more can be spent without passing the limit, whatever else is under way."""
        with self._lock:
            if self.spent_usd + self._reserved + usd > self.limit_usd:
                return False
            self._reserved += usd
            return True

    def settle(self, reserved_usd: float, spent_usd: float) -> None:
        """Give a reservation back and book what was spent."""
        with self._lock:
            self._reserved -= reserved_usd
            self.spent_usd += spent_usd


def find_price(model: str, base_url: str, *, prices_file: Path | None = None) -> Price | None:
    """The price of ``model`` at ``base_url``, a user's file first; None where nobody stated one.

    Raises ConfigError on a file that is not in the form of models/prices.toml.
    """
    built_in = _read(resources.read_text("models", "prices.toml"), "models/prices.toml")
    tables = [built_in] if urlsplit(base_url).hostname in built_in["hosts"] else []
    if prices_file is not None:
        try:
            text = prices_file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read the price table {prices_file}: {error}") from error
        tables.insert(0, _read(text, str(prices_file)))
    for name in (model, _SNAPSHOT.sub("", model)):
        for table in tables:
            if name in table["models"]:
                return _price(name, table)
    return None


def _price(name: str, table: dict[str, Any]) -> Price:
    entry = table["models"][name]
    return Price(
        model=name,
        input=float(entry["input"]),
        output=float(entry["output"]),
        batch_factor=float(table["batch_factor"]),
        as_of=table["as_of"],
        shutdown=entry.get("shutdown"),
    )


def _read(text: str, where: str) -> dict[str, Any]:
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{where}: {error}") from error
    models = table.get("models")
    if not isinstance(models, dict) or not all(_is_entry(entry) for entry in models.values()):
        raise ConfigError(f'{where}: each model needs [models."NAME"] with the numbers input and output (USD per 1M)')
    if not isinstance(table.setdefault("as_of", datetime.date.today()), datetime.date):
        raise ConfigError(f"{where}: as_of must be a date such as 2026-11-06")
    table.setdefault("batch_factor", 1.0)
    return table


def _is_entry(entry: Any) -> bool:
    return isinstance(entry, dict) and all(
        isinstance(entry.get(key), int | float) and entry[key] >= 0 for key in ("input", "output")
    )
