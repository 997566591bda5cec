"""What --engine takes: ``opus[:FOLDER|owner/name]``, ``openai:MODEL[@URL]`` or ``local:GGUF``."""

from __future__ import annotations

from pathlib import Path

from icl_local.engine import EngineOptions
from icl_local.openai_client import Budget, ServerAddress
from icl_local.translate.engine import Engine
from icl_local.translate.llm import ApiEngine, LocalEngine, OpenWorker, TranslationPrompt
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
    open_worker: OpenWorker | None = None,
    on_download: OnBytes | None = None,
) -> Engine:
    """Open the engine called ``name`` for ``source`` into ``target``; the other arguments are each for one kind.

    Engines that share ``budget`` stay below it together. Raises ConfigError for a name of no kind and for a cost limit
    without a price, UnknownName for a language that is not described, and the engine's own errors.
    """
    kind, _, place = name.partition(":")
    if kind == "opus":
        threads = None if options is None else options.threads
        return OpusEngine(place or REPOSITORY, source=source, target=target, threads=threads, on_download=on_download)
    prompt = TranslationPrompt(source=source, target=target, overlay=overlay)
    if kind == "local" and place:
        model = registry.resolve(place, method_kind="chat", on_progress=on_download)
        return LocalEngine(model, prompt, options=options, open_worker=open_worker)
    address = ServerAddress.parse(name, option="--engine", others=", opus, opus:FOLDER or local:FILE.gguf")
    return ApiEngine(address.open(prices_file=prices_file, budget=budget, concurrency=concurrency), prompt)
