"""Run cells (model x method x language): what is missing goes through the engine into the store.

A cell that is killed goes on where it stopped, because a response's key is known before it is made. A cell that fails
does not stop the others. Before the first cell of a file the engine probes, or the store remembers, with which
settings batching changes nothing there (engine/exact.py); every response says whether it was made with such. The
library reports through ``on_event``; the command line draws bars from it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from icl_local import __version__, prompting, store
from icl_local.detect import critical_error_rows, identify_language
from icl_local.engine import (
    Completion,
    DecodeProgress,
    EngineInfo,
    EngineOptions,
    Request,
    Stats,
    Worker,
    available_memory,
)
from icl_local.exceptions import ConfigError, IclError, InputError, ModelError
from icl_local.identity import key_of
from icl_local.running.cells import Cell, CellPlan, Decoding
from icl_local.running.probe import Setting, setting_for
from icl_local.running.server import ServerGenerator, ServerModel
from icl_local.weights import cache_folder


@dataclass(frozen=True)
class Event:
    """What happened: planned | started | note | progress | response | done | failed | interrupted, and counts then.

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
    """What makes completions: a llama.cpp worker, many of them on a cluster, or a client of a server."""

    options: EngineOptions
    info: EngineInfo

    @property
    def stats(self) -> Stats: ...

    def generate(
        self,
        requests: Sequence[Request],
        *,
        on_progress: Callable[[DecodeProgress], None] | None = None,
        **overrides: Any,
    ) -> Iterator[Completion]: ...


class Engines(Protocol):
    """Where generators come from, one cell after the other; ``close`` frees what they hold, and they may open again."""

    def worker(self, plan: CellPlan) -> Generator: ...

    def setting(self, plan: CellPlan, worker: Any, on_note: Callable[[str], None]) -> Setting: ...

    def close(self) -> None: ...


OpenEngines = Callable[[EngineOptions, store.Store, bool], Engines]  # options, where probes are kept, whether to probe


def run(
    path: Path,
    cells: Sequence[Cell],
    *,
    decoding: Decoding | None = None,
    options: EngineOptions | None = None,
    command: str = "run",
    probe: bool = True,
    seed: int | None = None,
    overlay: Path | None = None,
    open_engines: OpenEngines | None = None,
    on_event: Callable[[Event], None] = lambda event: None,
) -> list[CellResult]:
    """Make every response of ``cells`` that ``path`` does not have yet, on this machine or where ``open_engines`` says.

    A cell in which llama.cpp fails ends as ``failed`` and the next one starts with a fresh worker. KeyboardInterrupt
    leaves everything finished in the store and is raised again. Without ``probe`` no exact setting is looked for, and
    responses say nothing about it. Raises StoreError (DiskFull among them) at once.
    """
    decoding = decoding or Decoding()
    options = options or EngineOptions()
    planned: list[CellPlan] = []
    results: list[CellResult] = []
    for cell in cells:
        try:
            planned.append(CellPlan(cell, decoding, overlay))
        except (ConfigError, InputError, ModelError) as failure:
            on_event(Event("planned", cell, 0, len(cell.queries)))
            on_event(Event("failed", cell, 0, len(cell.queries), message=str(failure)))
            results.append(CellResult(cell, "failed", 0, len(cell.queries), None, str(failure)))
    with store.Store(path) as writer:
        have = store.ids(path, "responses", "response_id")
        for plan in planned:
            on_event(Event("planned", plan.cell, len(plan.keys & have), len(plan.keys)))
        run_row = _run_row(command, seed)
        engine = (open_engines or LocalEngines)(options.replace(stop_on_loop=decoding.stop_on_loop), writer, probe)
        try:
            for plan in planned:
                results.append(_run_cell(writer, plan, have, engine, run_row, on_event))
        finally:
            engine.close()
    return results


class LocalEngines:
    """At most one worker, for the file of the cell at hand, and the settings that are exact for it; or a server."""

    def __init__(self, options: EngineOptions, writer: store.Store, probe: bool) -> None:
        self._options = options.replace(prefix_cache=str(cache_folder() / "prefixes"))
        self._writer = writer
        self._probe = probe
        self._worker: Worker | None = None
        self._loaded: tuple[Path, str] | None = None
        self._settings: dict[tuple[Path, str], Setting] = {}

    def worker(self, plan: CellPlan) -> Generator:
        """The worker that holds the cell's file, or a client of the server that has the cell's model."""
        if isinstance(plan.cell.model, ServerModel):
            return ServerGenerator(plan.cell.model, parallel=self._options.parallel)
        wanted = (plan.cell.model.path, str(plan.settings["kv_type"]))
        if self._worker is None or self._loaded != wanted:
            self.close()
            self._worker, self._loaded = Worker(wanted[0], self._options.replace(kv_type=wanted[1])), wanted
        return self._worker

    def setting(self, plan: CellPlan, worker: Any, on_note: Callable[[str], None]) -> Setting:
        """The stored or freshly probed setting for the cell's file; nobody can tell of a server."""
        if not self._probe or isinstance(plan.cell.model, ServerModel):
            return Setting({}, None)
        assert self._loaded is not None
        if self._loaded not in self._settings:
            self._settings[self._loaded] = setting_for(self._writer, plan.cell.model, worker, on_note=on_note)
        return self._settings[self._loaded]

    def close(self) -> None:
        """End the worker, if there is one."""
        if self._worker is not None:
            self._worker.close()
        self._worker = self._loaded = None


def _run_cell(
    writer: store.Store,
    plan: CellPlan,
    have: set[str],
    engine: Engines,
    run_row: dict[str, object],
    on_event: Callable[[Event], None],
) -> CellResult:
    cell, wanted = plan.cell, len(plan.keys)
    requests = plan.requests(have)
    if not requests:
        on_event(Event("done", cell, wanted, wanted))
        return CellResult(cell, "done", 0, wanted, None)
    status = "interrupted"
    error: str | None = None
    worker: Generator | None = None
    done, loops, code = wanted - len(requests), 0, 0
    before = done
    started: float | None = None
    cell_row: dict[str, object] = {
        "cell_id": key_of(kind="cell", run=run_row["run_id"], label=cell.label, settings=plan.settings["settings_id"]),
        "run_id": run_row["run_id"],
        "model_id": cell.model.model_id,
        "gguf_sha256": cell.gguf_sha256,
        "method": cell.method.name,
        "language": cell.language,
        "settings_id": plan.settings["settings_id"],
        "n_wanted": wanted,
        "exact": None,
    }

    def progress(now: DecodeProgress) -> None:
        rate = now.new_tokens / max(1e-9, time.perf_counter() - (started or 0.0))
        on_event(Event("progress", cell, done, wanted, rate, loops, code))

    stats = Stats()
    try:
        worker = engine.worker(plan)
        run_row.update(llama_build=worker.info.llama_build, cpu_features=worker.info.cpu_features)
        run_row.update(n_threads=worker.info.n_threads)
        setting = engine.setting(plan, worker, lambda text: on_event(Event("note", cell, done, wanted, message=text)))
        cell_row["exact"] = setting.exact
        begun = {**cell_row, "status": "started", "n_done": 0}
        writer.put([("runs", run_row), *plan.rows(), ("run_cells", begun)])
        on_event(Event("started", cell, done, wanted, message=_told(worker.info)))
        started = time.perf_counter()  # loading and probing are the file's, not the first cell's
        for completion in worker.generate(requests, on_progress=progress, **setting.overrides):
            rows, looped, coded = _response_rows(plan, completion, cell_row)
            writer.put(rows)
            have.add(completion.id)
            done, loops, code = done + 1, loops + looped, code + coded
            on_event(Event("response", cell, done, wanted, 0.0, loops, code))
        stats, status = worker.stats, "done"
    except ModelError as failure:
        status, error = "failed", str(failure)
        engine.close()
    finally:
        if worker is not None and status == "interrupted":
            stats = worker.stats
        seconds = None if started is None else time.perf_counter() - started
        ended = _ended_row(cell_row, status, error, done - before, worker, stats, seconds)
        # After a full disk even this row may not fit; the reason the run stopped must not be hidden by it.
        with suppress(IclError):
            writer.put([("run_cells", ended)])
    on_event(Event(status, cell, done, wanted, 0.0, loops, code, message=error or ""))
    return CellResult(cell, status, done - before, wanted, stats, error)


def _response_rows(
    plan: CellPlan, completion: Completion, cell_row: dict[str, object]
) -> tuple[list[tuple[str, dict[str, object]]], int, int]:
    """Rows of one response and its critical errors; and whether it loops, and holds unintended code (0 or 1)."""
    cell = plan.cell
    query, prompt = plan.by_key[completion.id]
    text = prompting.clean(completion.raw_text, method_kind=cell.method.kind, stops=prompt.stops)
    errors = critical_error_rows(completion.id, text)
    row = {
        "response_id": completion.id,
        "model_id": cell.model.model_id,
        "gguf_sha256": cell.gguf_sha256,
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
        "exact": cell_row["exact"],
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
    worker: Generator | None,
    stats: Stats,
    wall_seconds: float | None,
) -> dict[str, object]:
    engine = {} if worker is None else {"gpu_layers": worker.info.gpu_layers, "engine_settings": asdict(worker.options)}
    return {
        **cell_row,
        **engine,
        "status": status,
        "error": error,
        "n_done": n_done,
        "n_parallel": stats.n_parallel or None,
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
    if info.llama_build.startswith("server:"):
        return info.llama_build
    where = "CPU" if info.gpu_layers == 0 else "GPU"
    return f"{info.n_threads} threads on {where}, KV {info.kv_type}"


def exit_status(results: Sequence[CellResult]) -> int:
    """0 where every cell is done, else 1."""
    return int(any(result.status != "done" for result in results))
