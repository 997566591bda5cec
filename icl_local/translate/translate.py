"""`icl translate run` as one call: every missing candidate of some languages by some engines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icl_local.engine import EngineOptions, OpenWorker
from icl_local.openai_client import Budget
from icl_local.running import open_chat, open_cluster
from icl_local.translate.llm import ChatEngine, TranslationPrompt
from icl_local.translate.opus import REPOSITORY, OpusEngine
from icl_local.translate.runner import TranslateProgress, load_sources, translate_missing
from icl_local.weights import OnBytes


@dataclass(frozen=True)
class TranslateResult:
    """The last counts of every language and engine."""

    runs: tuple[TranslateProgress, ...]

    @property
    def failed(self) -> int:
        """Return the number of candidates that failed; the next run retries them."""
        return sum(run.failed for run in self.runs)


def translate_queries(
    db: str | Path,
    *,
    to: str | Sequence[str],
    engine: str | Sequence[str],
    queries: str | Path = "just-eval",
    source: str = "en",
    dataset: str | None = None,
    limit: int | None = None,
    max_cost: float | None = None,
    cluster: str | None = None,
    worker_cpus: int | None = None,
    prompt_dir: str | Path | None = None,
    on_progress: Callable[[TranslateProgress], None] = lambda progress: None,
    **settings: Any,
) -> TranslateResult:
    """Translate the ``queries`` from language ``source`` into each language of ``to`` with each ``engine``.

    ``engine``: opus[:FOLDER], openai:MODEL[@URL] or local:GGUF. ``queries``: a file, samples or just-eval. ``max_cost``
    (USD) is for all engines together; ``settings`` are those of ``open_engine``. Existing candidates are kept; after an
    error the same call continues. Raises ConfigError, InputError, UnknownName, and the engines' own errors.
    """
    overlay = Path(prompt_dir) if prompt_dir else None
    budget = None if max_cost is None else Budget(max_cost)
    path, sources = Path(db), load_sources(str(queries), language=source, dataset=dataset, overlay=overlay)[:limit]
    runs = []
    with open_cluster(cluster, worker_cpus=worker_cpus) as nodes:
        for target in [to] if isinstance(to, str) else to:
            for name in [engine] if isinstance(engine, str) else engine:
                opened = open_engine(
                    name,
                    source=source,
                    target=target,
                    overlay=overlay,
                    budget=budget,
                    open_worker=None if nodes is None else nodes.worker,
                    **settings,
                )
                runs.append(
                    translate_missing(path, opened, sources, language=target, overlay=overlay, on_progress=on_progress)
                )
    return TranslateResult(tuple(runs))


def open_engine(
    name: str,
    *,
    source: str,
    target: str,
    overlay: Path | None = None,
    concurrency: int | None = None,
    budget: Budget | None = None,
    prices: str | Path | None = None,
    open_worker: OpenWorker | None = None,
    on_download: OnBytes | None = None,
    **engine: Any,
) -> ChatEngine | OpusEngine:
    """Open the engine called ``name`` for ``source`` into ``target``; the other arguments are each for one kind.

    Engines that share ``budget`` stay below it together. Raises ConfigError for a name of no kind and for a cost limit
    without a price, UnknownName for a language that is not described, and the engine's own errors.
    """
    kind, _, place = name.partition(":")
    if kind == "opus":
        threads = engine.get("threads")
        return OpusEngine(place or REPOSITORY, source=source, target=target, threads=threads, on_download=on_download)
    prompt = TranslationPrompt(source=source, target=target, overlay=overlay)
    client = open_chat(
        name,
        option="--engine",
        others=", opus, opus:FOLDER or local:FILE.gguf",
        options=EngineOptions(stop_on_loop=True, **engine),
        open_worker=open_worker,
        on_download=on_download,
        prices=prices,
        budget=budget,
        concurrency=concurrency,
    )
    return ChatEngine(client, prompt)
