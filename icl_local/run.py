"""Run cells (model x method x language): what is missing goes through the engine into the store.

A cell that is killed goes on where it stopped, because a response's key is known before it is made. A cell that fails
does not stop the others. The library reports through ``on_event``; the command line draws bars from it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Protocol

from icl_local import __version__, prompting, queries, registry, store
from icl_local.detect import critical_error_rows, identify_language
from icl_local.engine.plan import available_memory, default_kv_type
from icl_local.engine.protocol import Completion, EngineInfo, EngineOptions, Progress, Request, Stats
from icl_local.engine.worker import Worker
from icl_local.errors import ConfigError, EngineError, IclError
from icl_local.identity import key_of, response_key, settings_key
from icl_local.prompting import Method, Prompt
from icl_local.queries import Query, QuerySet
from icl_local.registry import ResolvedModel


@dataclass(frozen=True)
class Decoding:
    """What of the decoding changes the text: the study's by default (greedy, penalty 1.1 as in Transformers).

    ``max_tokens`` bounds an answer; ``chat_date`` is the date chat templates print; ``kv_type`` None: by weights.
    """

    max_tokens: int = 1024
    repetition_penalty: float = 1.1
    kv_type: str | None = None
    chat_date: str | None = None
    stop_on_loop: bool = False

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise ConfigError(f"--max-tokens must be at least 1, not {self.max_tokens}")
        if not self.repetition_penalty > 0:
            raise ConfigError(f"--repetition-penalty must be above 0, not {self.repetition_penalty:g}")

    def row(self, method: Method, model: ResolvedModel) -> dict[str, object]:
        """Row of raw.settings for one method and file."""
        settings = {
            "backend": "llama.cpp",
            "repetition_penalty": self.repetition_penalty,
            "penalty_rule": "transformers",
            "max_tokens": self.max_tokens,
            "kv_type": self.kv_type or default_kv_type(model.info),
            "chat_date": (self.chat_date or prompting.CHAT_DATE) if method.kind == prompting.CHAT else None,
            "stop_on_loop": self.stop_on_loop,
        }
        return {"settings_id": settings_key(settings), **settings}


@dataclass(frozen=True)
class Cell:
    """One model, one method, one language, and the queries asked."""

    model: ResolvedModel
    method: Method
    language: str
    query_set: QuerySet
    queries: tuple[Query, ...]

    @property
    def label(self) -> str:
        """What a person reads: model, method, language."""
        dpo = " DPO" if self.model.dpo else ""
        return f"{self.model.label}{dpo} · {self.method.name} · {self.language}"


@dataclass(frozen=True)
class Event:
    """What happened: planned | started | progress | response | done | failed, and the cell's counts then.

    Rates are tokens per second of this process; ``n_loops`` and ``n_code`` count critical errors of this process.
    """

    kind: str
    cell: Cell
    n_done: int
    n_wanted: int
    tokens_per_second: float = 0.0
    n_loops: int = 0
    n_code: int = 0
    message: str = ""


@dataclass(frozen=True)
class CellResult:
    """How a cell ended in this process."""

    cell: Cell
    status: str
    n_new: int
    n_wanted: int
    stats: Stats | None
    error: str | None = None


class Generator(Protocol):
    """What makes completions: a llama.cpp worker, or a client of a server."""

    @property
    def stats(self) -> Stats: ...

    def generate(
        self, requests: Sequence[Request], *, on_progress: Callable[[Progress], None] | None = None
    ) -> Iterator[Completion]: ...


def plan_cells(
    models: Sequence[str],
    methods: Sequence[str],
    query_sets: Sequence[QuerySet],
    *,
    dpo: bool = False,
    overlay: Path | None = None,
    models_file: Path | None = None,
    on_download: Callable[[int, int], None] | None = None,
) -> list[Cell]:
    """Every combination, files that serve several cells side by side. Raises UnknownName, ModelError, HubError.

    ``query_sets`` holds one set a language; a language that has no prompt files is an error before anything is loaded.
    """
    cells = []
    specs = [prompting.method_spec(name, overlay=overlay) for name in methods]
    for name in models:
        for method in specs:
            model = registry.resolve(
                name, method_kind=method.kind, dpo=dpo, models_file=models_file, on_progress=on_download
            )
            for query_set in query_sets:
                language = query_set.queries[0].language
                prompting.language_spec(language, overlay=overlay)
                cells.append(Cell(model, method, language, query_set, query_set.queries))
    return sorted(cells, key=lambda cell: str(cell.model.path))


def run(
    path: Path,
    cells: Sequence[Cell],
    *,
    decoding: Decoding | None = None,
    options: EngineOptions | None = None,
    command: str = "run",
    seed: int | None = None,
    overlay: Path | None = None,
    on_event: Callable[[Event], None] = lambda event: None,
) -> list[CellResult]:
    """Make every response of ``cells`` that ``path`` does not have yet.

    A cell in which llama.cpp fails ends as ``failed`` and the next one starts with a fresh worker. KeyboardInterrupt
    leaves everything finished in the store and is raised again. Raises StoreError (DiskFull among them) at once.
    """
    decoding = decoding or Decoding()
    options = options or EngineOptions()
    planned = [_Plan(cell, decoding, overlay) for cell in cells]
    results: list[CellResult] = []
    with store.Store(path) as writer:
        have = store.ids(path, "responses", "response_id")
        for plan in planned:
            on_event(Event("planned", plan.cell, len(plan.keys & have), len(plan.keys)))
        run_row = _run_row(command, seed)
        engine = _Engine(options.replace(stop_on_loop=decoding.stop_on_loop))
        try:
            for plan in planned:
                results.append(_run_cell(writer, plan, have, engine, run_row, on_event))
        finally:
            engine.close()
    return results


class _Plan:
    """A cell with its prompts and keys worked out."""

    def __init__(self, cell: Cell, decoding: Decoding, overlay: Path | None) -> None:
        self.cell = cell
        self.decoding = decoding
        self.settings = decoding.row(cell.method, cell.model)
        in_key = {name: value for name, value in self.settings.items() if name not in ("settings_id", "chat_date")}
        self.by_key: dict[str, tuple[Query, Prompt]] = {}
        for query in cell.queries:
            prompt = prompting.build(
                query,
                method=cell.method.name,
                language=cell.language,
                info=cell.model.info,
                chat_date=decoding.chat_date,
                overlay=overlay,
            )
            key = response_key(
                weights=cell.model.sha256,
                prompt_sha256=prompt.sha256,
                dataset=query.dataset,
                query_id=query.query_id,
                settings=in_key,
                stops=list(prompt.stops),
            )
            self.by_key[key] = (query, prompt)
        self.keys = set(self.by_key)

    def requests(self, have: set[str]) -> list[Request]:
        """What is still to be generated."""
        return [
            Request(
                id=key,
                prompt=prompt.text,
                max_tokens=self.decoding.max_tokens,
                stops=prompt.stops,
                repetition_penalty=self.decoding.repetition_penalty,
            )
            for key, (_, prompt) in self.by_key.items()
            if key not in have
        ]

    def rows(self) -> list[tuple[str, dict[str, object]]]:
        """What the responses of the cell refer to."""
        model = self.cell.model
        return [
            ("models", model.model_row()),
            ("gguf_files", model.file_row()),
            ("datasets", self.cell.query_set.row()),
            ("settings", self.settings),
            *(("queries", query.row()) for query, _ in self.by_key.values()),
            *({prompt.prompt_id: ("prompts", prompt.row()) for _, prompt in self.by_key.values()}.values()),
        ]


class _Engine:
    """At most one worker, for the file of the cell at hand."""

    def __init__(self, options: EngineOptions) -> None:
        self._options = options
        self._worker: Worker | None = None
        self._path: Path | None = None

    def worker(self, plan: _Plan) -> Worker:
        """The worker that holds the cell's file."""
        path = plan.cell.model.path
        if self._worker is None or self._path != path:
            self.close()
            kv_type = str(plan.settings["kv_type"])
            self._worker, self._path = Worker(path, self._options.replace(kv_type=kv_type)), path
        return self._worker

    def close(self) -> None:
        """End the worker, if there is one."""
        if self._worker is not None:
            self._worker.close()
        self._worker = self._path = None


def _run_cell(
    writer: store.Store,
    plan: _Plan,
    have: set[str],
    engine: _Engine,
    run_row: dict[str, object],
    on_event: Callable[[Event], None],
) -> CellResult:
    cell, wanted = plan.cell, len(plan.keys)
    requests = plan.requests(have)
    if not requests:
        on_event(Event("done", cell, wanted, wanted))
        return CellResult(cell, "done", 0, wanted, None)
    status, error, worker = "interrupted", None, None
    done, loops, code = wanted - len(requests), 0, 0
    before = done
    started = time.perf_counter()
    cell_row: dict[str, object] = {
        "cell_id": key_of(kind="cell", run=run_row["run_id"], label=cell.label, settings=plan.settings["settings_id"]),
        "run_id": run_row["run_id"],
        "model_id": cell.model.model_id,
        "gguf_sha256": cell.model.sha256,
        "method": cell.method.name,
        "language": cell.language,
        "settings_id": plan.settings["settings_id"],
        "n_wanted": wanted,
    }

    def progress(now: Progress) -> None:
        rate = now.new_tokens / max(1e-9, time.perf_counter() - started)
        on_event(Event("progress", cell, done, wanted, rate, loops, code))

    stats = Stats()
    try:
        worker = engine.worker(plan)
        run_row.update(llama_build=worker.info.llama_build, cpu_features=worker.info.cpu_features)
        run_row.update(n_threads=worker.info.n_threads)
        begun = {**cell_row, "status": "started", "n_done": 0, "exact": None}
        writer.put([("runs", run_row), *plan.rows(), ("run_cells", begun)])
        on_event(Event("started", cell, done, wanted, message=_told(worker.info)))
        for completion in worker.generate(requests, on_progress=progress):
            rows, looped, coded = _response_rows(plan, completion, cell_row, exact=None)
            writer.put(rows)
            have.add(completion.id)
            done, loops, code = done + 1, loops + looped, code + coded
            on_event(Event("response", cell, done, wanted, 0.0, loops, code))
        stats, status = worker.stats, "done"
    except EngineError as failure:
        status, error = "failed", str(failure)
        engine.close()
    finally:
        if worker is not None and status == "interrupted":
            stats = worker.stats
        ended = _ended_row(cell_row, status, error, done - before, worker, stats, time.perf_counter() - started)
        # After a full disk even this row may not fit; the reason the run stopped must not be hidden by it.
        with suppress(IclError):
            writer.put([("run_cells", ended)])
    on_event(Event(status, cell, done, wanted, 0.0, loops, code, message=error or ""))
    return CellResult(cell, status, done - before, wanted, stats, error)


def _response_rows(
    plan: _Plan, completion: Completion, cell_row: dict[str, object], *, exact: bool | None
) -> tuple[list[tuple[str, dict[str, object]]], int, int]:
    """Rows of one response and its critical errors; and whether it loops, and holds unintended code (0 or 1)."""
    cell = plan.cell
    query, prompt = plan.by_key[completion.id]
    text = prompting.clean(completion.raw_text, method_kind=cell.method.kind, stops=prompt.stops)
    errors = critical_error_rows(completion.id, text)
    row = {
        "response_id": completion.id,
        "model_id": cell.model.model_id,
        "gguf_sha256": cell.model.sha256,
        "query_key": query.key,
        "prompt_id": prompt.prompt_id,
        "prompt_sha256": prompt.sha256,
        "settings_id": plan.settings["settings_id"],
        "run_id": cell_row["run_id"],
        "method": cell.method.name,
        "language": cell.language,
        "text": text,
        "raw_text": completion.raw_text,
        "finish_reason": completion.finish_reason,
        "prompt_tokens": completion.prompt_tokens,
        "new_tokens": completion.new_tokens,
        "tokens_saved": completion.tokens_saved,
        "exact": exact,
        "text_language": identify_language(text),
        "created_at": store.now(),
    }
    found = {str(e["error"]) for e in errors if e["found"]}
    unintended = "unintended_code" in found and query.task is not None and "coding" not in query.task
    return (
        [("responses", row), *(("critical_errors", e) for e in errors)],
        int("infinite_loop" in found),
        int(unintended),
    )


def _ended_row(
    cell_row: dict[str, object],
    status: str,
    error: str | None,
    n_done: int,
    worker: Worker | None,
    stats: Stats,
    wall_seconds: float,
) -> dict[str, object]:
    engine = {} if worker is None else {"gpu_layers": worker.info.gpu_layers, "engine_settings": asdict(worker.options)}
    return {
        **cell_row,
        **engine,
        "status": status,
        "error": error,
        "n_done": n_done,
        "n_parallel": stats.n_parallel or None,
        "exact": None,
        "prompt_tokens": stats.prompt_tokens,
        "prefilled_tokens": stats.prefilled_tokens,
        "new_tokens": stats.new_tokens,
        "wall_seconds": wall_seconds,
        "prefill_seconds": stats.prefill_seconds,
        "decode_seconds": stats.decode_seconds,
        "peak_rss_bytes": stats.peak_rss_bytes or None,
        "ended_at": store.now(),
    }


def _run_row(command: str, seed: int | None) -> dict[str, object]:
    started_at = store.now()
    return {
        "run_id": key_of(kind="run", started_at=started_at, salt=time.monotonic_ns()),
        "command": command,
        "version": __version__,
        "started_at": started_at,
        "seed": seed,
        "host": f"{available_memory() / 2**30:.1f} GiB free",
    }


def _told(info: EngineInfo) -> str:
    where = "CPU" if info.gpu_layers == 0 else "GPU"
    return f"{info.n_threads} threads on {where}, KV {info.kv_type}"


def split_settings(settings: Mapping[str, Any]) -> tuple[Decoding, EngineOptions]:
    """Options of a command, by name, as what changes the text and what only changes the speed."""
    decoding = {field.name for field in fields(Decoding)}
    rest = {name: value for name, value in settings.items() if name not in decoding}
    return Decoding(**{name: settings[name] for name in decoding & settings.keys()}), EngineOptions(**rest)


def exit_status(results: Sequence[CellResult]) -> int:
    """0 where every cell is done, else 1."""
    return int(any(result.status != "done" for result in results))


def load_queries(
    languages: Sequence[str],
    sources: Sequence[str],
    *,
    dataset: str | None = None,
    sample: int | None = None,
    limit: int | None = None,
    seed: int = 0,
    overlay: Path | None = None,
) -> list[QuerySet]:
    """One query set a language from ``sources``: FILE, LANGUAGE=FILE, or ``samples``.

    A plain FILE serves the languages its items name; items that name none are English, so English queries never
    stand under a Spanish prompt. Raises ConfigError for a language without queries.
    """
    by_language: dict[str, str] = {}
    plain = [source for source in sources if "=" not in source or Path(source).exists()]
    for source in sources:
        if source not in plain:
            language, _, file = source.partition("=")
            by_language[language] = file
    sets = []
    for language in languages:
        source = by_language.get(language) or next(iter(plain), None)
        if source is None:
            raise ConfigError(
                f"no queries in {language!r}; give them with --queries {language}=FILE (`icl data list` tells of sets)"
            )
        if source == queries.SAMPLES:
            found = queries.samples(language, overlay=overlay)
        else:
            tagged_only = language not in by_language and language != "en"
            found = _in_language(Path(source), language, tagged_only=tagged_only, dataset=dataset)
        chosen = found.queries
        if sample is not None:
            chosen = tuple(queries.sample(chosen, sample, seed))
        sets.append(QuerySet(found.dataset, found.source, found.sha256, chosen[:limit]))
    return sets


def _in_language(path: Path, language: str, *, tagged_only: bool, dataset: str | None) -> QuerySet:
    """The queries of ``path`` in ``language``; with ``tagged_only`` every item has to name its language."""
    if not tagged_only:
        return queries.load_file(path, language=language, dataset=dataset)
    whole = queries.load_file(path, dataset=dataset)
    chosen = tuple(q for q in whole.queries if q.language == language)
    if not chosen:
        raise ConfigError(f"{path} holds no queries in {language!r}; give some with --queries {language}=FILE")
    return QuerySet(whole.dataset, whole.source, whole.sha256, chosen)
