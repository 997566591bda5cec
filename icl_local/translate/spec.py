"""What a user types as --engine: ``opus[:FOLDER|owner/name]``, ``openai:MODEL`` or ``local:GGUF``."""

from __future__ import annotations

from pathlib import Path

from icl_local.engine import EngineOptions
from icl_local.exceptions import ConfigError, TranslationError
from icl_local.openai_client import ApiClient, Budget, find_price
from icl_local.translate.engine import Engine
from icl_local.translate.llm import ApiEngine, LocalEngine, TranslationPrompt
from icl_local.translate.opus import REPOSITORY, OpusEngine
from icl_local.weights import OnBytes, registry


def open_engine(
    name: str,
    *,
    source: str,
    target: str,
    overlay: Path | None = None,
    concurrency: int | None = None,
    budget: Budget | None = None,
    prices_file: Path | None = None,
    options: EngineOptions | None = None,
    on_download: OnBytes | None = None,
) -> Engine:
    """The engine called ``name`` for ``source`` into ``target``; other arguments are for one kind, else ignored.

    ``budget`` is never passed, by all engines that share it. Raises ConfigError for a name of no kind, UnknownName for
    a language nobody described, and what the engine itself raises.
    """
    kind, _, what = name.partition(":")
    if kind == "opus":
        threads = None if options is None else options.threads
        return OpusEngine(what or REPOSITORY, source=source, target=target, threads=threads, on_download=on_download)
    if kind not in ("openai", "local") or not what:
        raise ConfigError(f"no engine {name!r}; write opus, opus:FOLDER, openai:MODEL or local:FILE.gguf")
    prompt = TranslationPrompt(source=source, target=target, overlay=overlay)
    if kind == "local":
        model = registry.resolve(what, method_kind="chat", on_progress=on_download)
        return LocalEngine(model, prompt, options=options)
    client = ApiClient(what, concurrency=concurrency, budget=budget)
    client.price = find_price(what, client.base_url, prices_file=prices_file)
    if budget is not None and client.price is None:
        raise TranslationError(
            f"no price is stated for {what} at {client.base_url}, so a cost limit cannot be held; write it into a file "
            "in the form of models/prices.toml and give that as --prices"
        )
    return ApiEngine(client, prompt)
