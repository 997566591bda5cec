"""What a user types as --judge: ``openai:MODEL[@URL]``, or ``local:FILE`` with a GGUF file or a model's name."""

from __future__ import annotations

from pathlib import Path

from icl_local.engine import EngineOptions
from icl_local.exceptions import ConfigError, JudgeError
from icl_local.judging.api import MAX_TOKENS, ApiJudge
from icl_local.judging.local import LocalJudge, OpenWorker
from icl_local.openai_client import ApiClient, Budget, find_price
from icl_local.weights import OnBytes, registry


def open_judge(
    name: str,
    *,
    concurrency: int | None = None,
    timeout: float = 300.0,
    max_tokens: int = MAX_TOKENS,
    reasoning_effort: str | None = None,
    prices_file: Path | None = None,
    max_cost: float | None = None,
    parallel: int | None = None,
    gpu_layers: int | None = None,
    threads: int | None = None,
    needs_key: bool = True,
    open_worker: OpenWorker | None = None,
    on_download: OnBytes | None = None,
) -> ApiJudge | LocalJudge:
    """The judge called ``name``; parallel, gpu_layers and threads are a local judge's, the others an API judge's.

    ``max_cost`` (USD) is never passed; ``needs_key`` False is for a judge that will not be asked. Raises ConfigError
    for a name of neither kind, ApiError without a key, JudgeError where a cost limit is asked for and no price is
    stated, ModelError for the file.
    """
    kind, _, what = name.partition(":")
    if kind == "local" and what:
        model = registry.resolve(what, method_kind="chat", on_progress=on_download)
        options = EngineOptions(parallel=parallel, gpu_layers=gpu_layers, threads=threads)
        return LocalJudge(model, options=options, open_worker=open_worker)
    model_name, _, url = what.partition("@http")
    if kind != "openai" or not model_name:
        raise ConfigError(f"no judge {name!r}; write openai:MODEL, local:FILE.gguf or local:smollm2-135m")
    budget = None if max_cost is None else Budget(max_cost)
    client = ApiClient(
        model_name,
        base_url=f"http{url}" if url else None,
        api_key=None if needs_key else "none",
        concurrency=concurrency,
        timeout=timeout,
        budget=budget,
    )
    client.price = find_price(model_name, client.base_url, prices_file=prices_file)
    if budget is not None and client.price is None:
        raise JudgeError(
            f"no price is stated for {model_name} at {client.base_url}, so a cost limit cannot be held; state it in a "
            "file in the form of models/prices.toml, given as --prices"
        )
    return ApiJudge(client, max_tokens=max_tokens, reasoning_effort=reasoning_effort)
