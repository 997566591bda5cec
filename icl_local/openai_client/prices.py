"""The price of a server's tokens: models/prices.toml, a dated table, and a user's file that comes first."""

import datetime
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from icl_local import resources, toml_file
from icl_local.exceptions import ConfigError

_SNAPSHOT = re.compile(r"-(\d{4}-\d{2}-\d{2})$")


@dataclass(frozen=True)
class _Entry:
    """A model in a price table: USD per million tokens."""

    input: float
    output: float
    shutdown: datetime.date | None = None

    def __post_init__(self) -> None:
        if min(self.input, self.output) < 0:
            raise ConfigError("input and output are USD per million tokens, from 0 on")


@dataclass(frozen=True, kw_only=True)
class Price(_Entry):
    """USD per million tokens of one model; the Batch API costs ``batch_factor`` times as much."""

    model: str
    batch_factor: float
    as_of: datetime.date

    def usd(self, prompt_tokens: int, completion_tokens: int, *, batch: bool = False) -> float:
        """Return the cost in USD; cached input counts at the full price, so the sum is an upper bound."""
        cost = (prompt_tokens * self.input + completion_tokens * self.output) / 1_000_000
        return cost * self.batch_factor if batch else cost


@dataclass(frozen=True)
class _Table:
    """The form of a price table: prices by model name, and fields for all of them."""

    models: Mapping[str, _Entry]
    as_of: datetime.date = field(default_factory=datetime.date.today)
    batch_factor: float = 1.0
    hosts: tuple[str, ...] = ()
    source: str = ""
    currency: str = "USD"


@dataclass
class Budget:
    """A cost limit: each request reserves its highest cost before it is sent, and is settled at its real cost."""

    limit_usd: float
    spent_usd: float = 0.0
    _reserved: float = 0.0

    def reserve(self, usd: float) -> bool:
        """Reserve ``usd``; return False if that could exceed the limit."""
        if self.spent_usd + self._reserved + usd > self.limit_usd:
            return False
        self._reserved += usd
        return True

    def settle(self, reserved_usd: float, spent_usd: float) -> None:
        """Replace a reservation by the money spent."""
        self._reserved -= reserved_usd
        self.spent_usd += spent_usd


def find_price(model: str, base_url: str, *, prices_file: Path | None = None) -> Price | None:
    """Return the price of ``model`` at ``base_url``, from the user's file first; None if it is unknown.

    Raises ConfigError for a file that is not in the form of models/prices.toml.
    """
    file = "models/prices.toml"
    built_in = toml_file.build(_Table, toml_file.parse(resources.read_text("models", "prices.toml"), file), file)
    tables = [built_in] if urlsplit(base_url).hostname in built_in.hosts else []
    if prices_file is not None:
        tables.insert(0, toml_file.build(_Table, toml_file.load(prices_file), str(prices_file)))
    for name in (model, _SNAPSHOT.sub("", model)):
        for table in tables:
            if entry := table.models.get(name):
                return Price(**vars(entry), model=name, batch_factor=table.batch_factor, as_of=table.as_of)
    return None
