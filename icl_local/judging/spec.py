"""What --judge takes: ``openai:MODEL[@URL]``, or ``local:FILE`` with a GGUF file or a model's name."""

from __future__ import annotations

from pathlib import Path

from icl_local.engine import EngineOptions
from icl_local.judging.api import MAX_TOKENS, ApiJudge
from icl_local.judging.local import LocalJudge, OpenWorker
from icl_local.openai_client import Budget, ServerAddress
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
    """Open the judge called ``name``; parallel, gpu_layers and threads are for a local judge, the others for an API.

    ``max_cost`` (USD) is a limit that is never exceeded; ``needs_key`` False is for a judge that gets no requests.
    Raises ConfigError for a name of neither kind and for a cost limit without a price, ApiError without a key,
    ModelError for the file.
    """
    kind, _, file = name.partition(":")
    if kind == "local" and file:
        model = registry.resolve(file, method_kind="chat", on_progress=on_download)
        options = EngineOptions(parallel=parallel, gpu_layers=gpu_layers, threads=threads)
        return LocalJudge(model, options=options, open_worker=open_worker)
    client = ServerAddress.parse(name, option="--judge", others=", local:FILE.gguf or local:smollm2-135m").open(
        prices_file=prices_file,
        budget=None if max_cost is None else Budget(max_cost),
        api_key=None if needs_key else "none",
        concurrency=concurrency,
        timeout=timeout,
    )
    return ApiJudge(client, max_tokens=max_tokens, reasoning_effort=reasoning_effort)
