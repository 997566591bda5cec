"""A model at an OpenAI-compatible server, as options name it: ``openai:MODEL`` or ``openai:MODEL@URL``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from icl_local.exceptions import ConfigError
from icl_local.openai_client.client import ApiClient
from icl_local.openai_client.prices import Budget, find_price

_ADDRESS = re.compile(r"openai:(?P<model>[^\s@].*?)(?:@(?P<url>https?://\S+))?")


def open_client(
    text: str,
    *,
    option: str,
    others: str = "",
    prices: str | Path | None = None,
    budget: Budget | None = None,
    **options: Any,
) -> ApiClient:
    """Open a client with its price; without a URL OPENAI_BASE_URL or OpenAI's own. ``options`` are those of ApiClient.

    Raises ConfigError, which names ``option`` and the ``others`` it takes, for another form, and where ``budget`` is
    given and no price is known; ApiError without a key.
    """
    match = _ADDRESS.fullmatch(text)
    if match is None:
        without_url = text.partition("@")[0]  # a URL may hold a password
        raise ConfigError(
            f"{option} cannot be {without_url!r}; write openai:MODEL, "
            f"openai:MODEL@URL such as openai:llama3@http://localhost:8080/v1{others}"
        )
    client = ApiClient(match["model"], base_url=match["url"], budget=budget, **options)
    client.price = find_price(client.model, client.base_url, prices_file=Path(prices) if prices else None)
    if budget is not None and client.price is None:
        raise ConfigError(
            f"no price is stated for {client.model} at {client.base_url}, so a cost limit cannot be held; write it "
            "into a file in the form of models/prices.toml and give that as --prices"
        )
    return client
