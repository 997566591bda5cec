"""What a user types as --judge: ``openai:MODEL``, or ``local:FILE`` with a GGUF file or a model's name."""

from __future__ import annotations

from pathlib import Path

from icl_local import registry
from icl_local.checksum import Progress
from icl_local.engine.protocol import EngineOptions
from icl_local.errors import ConfigError, JudgeError
from icl_local.judge.api import MAX_TOKENS, ApiJudge
from icl_local.judge.local import LocalJudge
from icl_local.openai_client import ApiClient
from icl_local.prices import Budget, find_price


def open_judge(
    name: str,
    *,
    concurrency: int | None = None,
    timeout: float = 300.0,
    max_tokens: int = MAX_TOKENS,
    reasoning_effort: str | None = None,
    prices_file: Path | None = None,
    max_cost: float | None = None,
    options: EngineOptions | None = None,
    on_download: Progress | None = None,
) -> ApiJudge | LocalJudge:
    """The judge called ``name``; the other arguments are for one of the two kinds and ignored by the other.

    ``max_cost`` (USD) is never passed. Raises ConfigError for a name of neither kind, ApiError without a key,
    JudgeError where a cost limit is asked for and no price is stated, ModelError for the file.
    """
    kind, _, what = name.partition(":")
    if kind == "local" and what:
        model = registry.resolve(what, method_kind="chat", on_progress=on_download)
        return LocalJudge(model, options=options)
    if kind != "openai" or not what:
        raise ConfigError(f"no judge {name!r}; write openai:MODEL, local:FILE.gguf or local:smollm2-135m")
    budget = None if max_cost is None else Budget(max_cost)
    client = ApiClient(what, concurrency=concurrency, timeout=timeout, budget=budget)
    client.price = find_price(what, client.base_url, prices_file=prices_file)
    if budget is not None and client.price is None:
        raise JudgeError(
            f"no price is stated for {what} at {client.base_url}, so a cost limit cannot be held; write it into a file "
            "in the form of models/prices.toml and give that as --prices"
        )
    return ApiJudge(client, max_tokens=max_tokens, reasoning_effort=reasoning_effort)
