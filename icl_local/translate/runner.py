"""Make the missing candidates: an engine translates the queries, every output is checked and stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from icl_local import detect, resources, store
from icl_local.exceptions import ConfigError
from icl_local.identity import key_of
from icl_local.prompting import Query, json_items, just_eval, queries
from icl_local.translate import checks

if TYPE_CHECKING:
    from icl_local.translate.llm import ChatEngine
    from icl_local.translate.opus import OpusEngine

    Engine: TypeAlias = ChatEngine | OpusEngine

_OWN_FIELDS = {"instruction", "language", "translation"}  # of an item; a translation does not inherit them


@dataclass(frozen=True)
class Job:
    """One text to translate; ``id`` is the candidate's key."""

    id: str
    text: str


@dataclass(frozen=True)
class Output:
    """The outcome of one job.

    ``finish_reason``: stop, eog, length, stopped_on_loop, refused, rejected or prompt_too_long. ``failed``: a transient
    failure that is not stored and needs a retry.
    """

    id: str
    text: str
    finish_reason: str = "stop"
    error: str | None = None
    failed: bool = False
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost_usd: float | None = None


@dataclass(frozen=True)
class Source:
    """A query to translate and its other fields in the file."""

    query: Query
    fields: Mapping[str, Any]


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


def load_sources(
    name: str, *, language: str = "en", dataset: str | None = None, overlay: Path | None = None
) -> list[Source]:
    """Return the queries of ``name`` in ``language``: a file, ``samples``, or ``just-eval`` if it was downloaded.

    Raises InputError, UnknownName, and ConfigError if just-eval is not on this disk or not published in it.
    """
    if name == queries.SAMPLES:
        found = queries.samples(language, overlay=overlay)
        file = f"samples/{language}.jsonl"
        items = json_items.parse(resources.read_text("prompts", file, overlay=overlay), file)
    elif name == queries.JUST_EVAL:
        found = queries.published(language)
        items = list(just_eval.require(language).items)
    else:
        found = queries.load_file(Path(name), language=language, dataset=dataset)
        items = json_items.with_ids(json_items.read_file(Path(name)))
    fields = {
        item.id(): {name: value for name, value in item.data.items() if name not in _OWN_FIELDS}
        for item in items
        if item.data.get("language", language) == language
    }
    return [Source(query, fields[query.query_id]) for query in found.queries]


def translation_key(query: Query, engine: Engine, language: str) -> str:
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


def translate_missing(
    path: Path,
    engine: Engine,
    sources: Sequence[Source],
    *,
    language: str,
    overlay: Path | None = None,
    on_progress: Callable[[TranslateProgress], None] = lambda progress: None,
) -> TranslateProgress:
    """Make every candidate of ``engine`` that ``path`` lacks; after a kill, the same call resumes.

    Raises ConfigError if a source is already in ``language``, and the engine's own errors; outputs stored before are
    kept.
    """
    if any(source.query.language == language for source in sources):
        raise ConfigError(f"the queries are in {language!r} already; name another language with --to")
    have = store.ids(path, "translations", "translation_id")
    keyed = {translation_key(source.query, engine, language): source for source in sources}
    jobs = [Job(key, source.query.instruction) for key, source in keyed.items() if key not in have]
    label = f"{engine.name} {sources[0].query.language}-{language}" if sources else engine.name
    progress = TranslateProgress(label, len(keyed), len(keyed) - len(jobs))
    on_progress(progress)
    if not jobs:
        return progress
    detect.identify_language("Load its model before outputs wait to be stored.")
    with store.Store(path) as target:
        for outputs in engine.translate(jobs):
            kept = [output for output in outputs if not output.failed]
            rows = [_row(output, keyed[output.id], engine, language, overlay) for output in kept]
            target.put([("translations", row) for row in rows])
            costs = [output.cost_usd for output in kept if output.cost_usd is not None]
            progress = replace(
                progress,
                made=progress.made + len(rows),
                flagged=progress.flagged + sum(bool(row["checks"]["flags"]) for row in rows),
                failed=progress.failed + len(outputs) - len(kept),
                cost_usd=(progress.cost_usd or 0.0) + sum(costs) if costs else progress.cost_usd,
            )
            on_progress(progress)
    return progress


def _row(output: Output, source: Source, engine: Engine, language: str, overlay: Path | None) -> dict[str, Any]:
    query = source.query
    found = checks.check(
        query.instruction,
        output.text,
        source_language=query.language,
        language=language,
        finish_reason=output.finish_reason,
        overlay=overlay,
    )
    return {
        "translation_id": output.id,
        "dataset": query.dataset,
        "query_id": query.query_id,
        "source_language": query.language,
        "language": language,
        "engine": engine.name,
        "engine_settings": engine.settings,
        "source_text": query.instruction,
        "source_fields": dict(source.fields),
        "text": output.text,
        "finish_reason": output.finish_reason,
        "error": output.error,
        "checks": found.as_json(),
        "prompt_tokens": output.prompt_tokens,
        "completion_tokens": output.completion_tokens,
        "cost_usd": output.cost_usd,
        "created_at": store.now(),
    }
