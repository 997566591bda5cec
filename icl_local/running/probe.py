"""Exactness probes in the store: results by file, build and machine, which a run looks up."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icl_local import store
from icl_local.engine import DEFAULT_PARALLEL, EngineOptions, ProbeResult, Worker, exact
from icl_local.weights import ResolvedModel, registry

UNIFIED = {"kv_unified": True, "flash_attn": False, "min_rows": 2, "repack": True}


@dataclass(frozen=True)
class Setting:
    """EngineOptions fields for a file on this machine, and whether a probe found them exact (None: not probed)."""

    overrides: Mapping[str, Any]
    exact: bool | None


def setting_for(
    writer: store.Store, model: ResolvedModel, worker: Worker, *, on_note: Callable[[str], None]
) -> Setting:
    """Return the stored setting for a loaded file, or one from a quick probe, which is then stored.

    If no setting is exact, the fast one is returned with ``exact`` False, and ``on_note`` says so.
    """
    stored = writer.named("probed_settings", [model.sha256, *exact.environment(worker.info).values()]).rows
    if stored:
        settings, is_exact, parallel = json.loads(stored[0][0]), bool(stored[0][1]), stored[0][2]
        failed = [json.loads(row[0]) for row in stored if row[3] is not None]
    else:
        results = exact.quick_probe(worker, quantization=model.info.quantization, on_event=on_note)
        keep(writer, model, worker, results)
        chosen = exact.best(results)
        is_exact = chosen is not None
        settings, parallel = (chosen.settings, chosen.parallel) if chosen else ({}, 0)
        failed = [result.settings for result in results if result.failure is not None]
    if not is_exact:
        on_note("no setting tried here keeps batches exact for this file: running the fast one, exact = false")
        return Setting(exact.fast_settings(failed), False)
    return Setting({**settings, "parallel_most": parallel or DEFAULT_PARALLEL}, True)


def keep(writer: store.Store, model: ResolvedModel, worker: Worker, results: list[ProbeResult]) -> None:
    """Store the results of a file, and the file's row."""
    now = store.now()
    rows = [result.row(gguf_sha256=model.sha256, info=worker.info, created_at=now) for result in results]
    writer.put([("gguf_files", model.file_row()), *(("probes", row) for row in rows)])


def probe_model(
    path: Path,
    model: str,
    *,
    parallel: int | None = None,
    gpu_layers: int | None = None,
    threads: int | None = None,
    quick: bool = False,
    n_prompts: int = 64,
    n_tokens: int = 64,
    prefix_words: int = 400,
    sizes: Sequence[int] = exact.SIZES,
    first: bool = False,
    also_unified: bool = False,
    on_event: Callable[[str], None] = lambda text: None,
) -> list[ProbeResult]:
    """Probe a file thoroughly, or quickly, and store the results. Raises ModelError, UnknownName, StoreError."""
    options = EngineOptions(parallel=parallel, gpu_layers=gpu_layers, threads=threads)
    file = registry.resolve(model, method_kind="completion")
    with store.Store(path) as writer, Worker(file.path, options) as worker:
        if quick:
            results = exact.quick_probe(worker, quantization=file.info.quantization, on_event=on_event)
        else:
            tried = exact.candidates(file.info.quantization) + ([UNIFIED] if also_unified else [])
            prompts = exact.probe_prompts(n_prompts, prefix_words=prefix_words)
            results = exact.probe(
                worker,
                quantization=file.info.quantization,
                prompts=prompts,
                n_tokens=n_tokens,
                sizes=sizes,
                settings=tried,
                first_only=first,
                on_event=on_event,
            )
        keep(writer, file, worker, results)
    return results


COLUMNS = ("settings", "exact", "compared", "fastest batch", "tokens/s", "first difference")


def row(result: ProbeResult) -> tuple[object, ...]:
    """Return one result with the fields of ``COLUMNS``, for people."""
    return (
        exact.describe(result.settings),
        "yes" if result.exact else "no",
        f"{result.n_prompts} x {result.n_tokens} tokens, {len(result.cases)} cases",
        result.parallel or None,
        result.tokens_per_second or None,
        exact.describe_difference(result.difference) if result.difference else result.failure,
    )
