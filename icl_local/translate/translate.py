"""Make the missing candidates of some languages by some engines: each is translated, checked and stored."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from icl_local import detect, store
from icl_local.engine import EngineOptions
from icl_local.exceptions import ConfigError
from icl_local.identity import key_of
from icl_local.openai_client import ApiReply, Budget
from icl_local.prompting import Query
from icl_local.running import load_queries, open_chat, open_cluster
from icl_local.translate import checks
from icl_local.translate.llm import ChatEngine, translation_prompt
from icl_local.translate.opus import REPOSITORY, OpusEngine
from icl_local.weights import OnBytes

Engine: TypeAlias = ChatEngine | OpusEngine
_OF_REPLY = ("finish_reason", "error", "prompt_tokens", "completion_tokens", "cost_usd")


@dataclass(frozen=True)
class TranslateProgress:
    """Counts of one engine and language (``label``): ``before`` existed, ``made`` are new, ``failed`` need a retry.

    ``requested`` is the number of candidates, ``flagged`` the number of new ones on which a check fired.
    """

    label: str
    requested: int
    before: int
    made: int = 0
    flagged: int = 0
    failed: int = 0
    cost_usd: float | None = None

    @property
    def done(self) -> int:
        """Return the candidates that exist or failed."""
        return self.before + self.made + self.failed

    @property
    def note(self) -> str:
        """Return the number of flagged candidates as text."""
        return f"{self.flagged} flagged"

    def __str__(self) -> str:
        cost = "" if self.cost_usd is None else f", ${self.cost_usd:.4f}"
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{self.made} new, {self.flagged} of them flagged, {self.before} existed{failed}{cost}"


def translate_queries(
    db: str | Path,
    *,
    to: str | Sequence[str],
    engine: str | Sequence[str],
    queries: str | Path = "just-eval",
    source: str = "en",
    dataset: str | None = None,
    limit: int | None = None,
    concurrency: int | None = None,
    max_cost: float | None = None,
    prices: str | Path | None = None,
    cluster: str | None = None,
    worker_cpus: int | None = None,
    prompt_dir: str | Path | None = None,
    on_progress: Callable[[TranslateProgress], None] = lambda progress: None,
    on_download: OnBytes | None = None,
    **settings: Any,
) -> list[TranslateProgress]:
    """Translate the ``queries`` into each language with each engine; return the last counts of every pair.

    ``engine``: opus[:FOLDER], openai:MODEL[@URL] or local:GGUF. ``queries``: a file, samples or just-eval. ``max_cost``
    (USD) is for all engines together; ``settings``: fields of EngineOptions. Existing candidates are kept; after an
    error the same call continues. Raises ConfigError, InputError, UnknownName, and the engines' own errors.
    """
    overlay = Path(prompt_dir) if prompt_dir else None
    options = EngineOptions(stop_on_loop=True, **settings)
    budget = None if max_cost is None else Budget(max_cost)
    server = {"budget": budget, "prices": prices, "concurrency": concurrency}
    (found,) = load_queries([source], [f"{source}={queries}"], dataset=dataset, limit=limit, overlay=overlay)
    runs = []
    with open_cluster(cluster, worker_cpus=worker_cpus) as nodes:
        chat: dict[str, Any] = {**server, "open_worker": None if nodes is None else nodes.worker}
        for target, name in itertools.product(store.listed(to), store.listed(engine)):
            opened = open_engine(
                name, source=source, target=target, options=options, overlay=overlay, on_download=on_download, **chat
            )
            runs.append(
                translate_missing(
                    Path(db), opened, found.queries, language=target, overlay=overlay, on_progress=on_progress
                )
            )
    return runs


def open_engine(
    name: str,
    *,
    source: str,
    target: str,
    options: EngineOptions,
    overlay: Path | None = None,
    on_download: OnBytes | None = None,
    **chat: Any,
) -> Engine:
    """Open the engine called ``name`` for ``source`` into ``target``; ``chat``: other arguments of ``open_chat``.

    Raises ConfigError for a name of no kind and for a cost limit without a price, UnknownName for a language that is
    not described, and the engine's own errors.
    """
    kind, _, place = name.partition(":")
    if kind == "opus":
        place = place or REPOSITORY
        return OpusEngine(place, source=source, target=target, threads=options.threads, on_download=on_download)
    prompt = translation_prompt(source=source, target=target, overlay=overlay)
    others = ", opus, opus:FOLDER or local:FILE.gguf"
    client = open_chat(name, option="--engine", others=others, options=options, on_download=on_download, **chat)
    return ChatEngine(client, prompt)


def translate_missing(
    path: Path,
    engine: Engine,
    queries: Sequence[Query],
    *,
    language: str,
    overlay: Path | None = None,
    on_progress: Callable[[TranslateProgress], None] = lambda progress: None,
) -> TranslateProgress:
    """Make every candidate of ``engine`` that ``path`` lacks; after a kill or an error, the same call resumes.

    Raises ConfigError if a query is already in ``language``, and the engine's own errors.
    """
    if any(query.language == language for query in queries):
        raise ConfigError(f"the queries are in {language!r} already; name another language with --to")
    have = store.ids(path, "translations", "translation_id")
    keyed = {_key(query, engine, language): query for query in queries}
    texts = {key: query.instruction for key, query in keyed.items() if key not in have}
    label = f"{engine.name} {queries[0].language}-{language}"
    progress = TranslateProgress(label, len(keyed), len(keyed) - len(texts))
    on_progress(progress)
    if not texts:
        return progress
    detect.identify_language("Load its model before outputs wait to be stored.")
    with store.Store(path) as target:
        for replies in engine.translate(texts):
            kept = [reply for reply in replies if reply.outcome not in ("failed", "quota")]
            rows = [_row(reply, keyed[reply.id], engine, language, overlay) for reply in kept]
            target.put([("translations", row) for row in rows])
            costs = [reply.cost_usd for reply in kept if reply.cost_usd is not None]
            progress = replace(
                progress,
                made=progress.made + len(rows),
                flagged=progress.flagged + sum(bool(row["checks"]["flags"]) for row in rows),
                failed=progress.failed + len(replies) - len(kept),
                cost_usd=(progress.cost_usd or 0.0) + sum(costs) if costs else progress.cost_usd,
            )
            on_progress(progress)
    return progress


def _key(query: Query, engine: Engine, language: str) -> str:
    """Return the translation_id: the key of text, data set, id, both languages and the engine's settings."""
    return key_of(
        kind="translation",
        dataset=query.dataset,
        query=query.query_id,
        text=query.instruction,
        source=query.language,
        language=language,
        settings=engine.settings,
    )


def _row(reply: ApiReply, query: Query, engine: Engine, language: str, overlay: Path | None) -> dict[str, Any]:
    found = checks.check(
        query.instruction,
        reply.text or "",
        source_language=query.language,
        language=language,
        finish_reason=reply.finish_reason,
        overlay=overlay,
    )
    return {
        "translation_id": reply.id,
        "dataset": query.dataset,
        "query_id": query.query_id,
        "source_language": query.language,
        "language": language,
        "engine": engine.name,
        "engine_settings": engine.settings,
        "source_text": query.instruction,
        "source_fields": dict(query.fields),
        "text": reply.text or "",
        "checks": found,
        **{name: getattr(reply, name) for name in _OF_REPLY},
    }
