"""Exactness probes: results by file, build and machine, which a run looks up.

They are kept in the database and, for other databases, in a file for each model file in the user's cache folder. The
largest and newest result counts, and a difference found anywhere refutes every result for those settings.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from icl_local import store
from icl_local.cache import cache_folder, cache_path
from icl_local.engine import DEFAULT_PARALLEL, EngineOptions, ProbeResult, Worker, exact
from icl_local.exceptions import ConfigError
from icl_local.files import open_to_append
from icl_local.prompting import method_spec
from icl_local.weights import ResolvedModel, registry
from icl_local.wording import counted

UNIFIED = {"kv_unified": True, "flash_attn": False, "min_rows": 2, "repack": True}
_LENGTHS = ("prompt_characters", "requested_characters")
_LONG_ENOUGH = 0.75  # of a run's longest prompt: a probe with shorter ones is made again


@dataclass(frozen=True)
class Setting:
    """EngineOptions fields for a file on this machine, and whether a probe found them exact (None: not probed)."""

    overrides: Mapping[str, Any]
    exact: bool | None


def setting_for(
    writer: store.Store,
    model: ResolvedModel,
    worker: Worker,
    *,
    parallel: int | None = None,
    prompt_characters: int = 0,
    report: Callable[..., None] = lambda kind, **more: None,
) -> Setting:
    """Return the stored setting for a loaded file, or one from a quick probe, which is then stored.

    A stored result counts if it compared as many sequences at once as ``parallel`` (None: as many as were fastest) and
    prompts about as long as ``prompt_characters``. If no setting is exact, the fast one is returned with ``exact``
    False, and a note says so. ``report`` gets the kind of an event, and its message or its step of a probe.
    """
    environment = exact.environment(worker.info)
    known = writer.named("probed_settings", [model.sha256, *environment.values()]).records()
    known += [row for row in _kept(model.sha256) if {name: row.get(name) for name in environment} == environment]
    refuted = [row["settings"] for row in known if not row["exact"]]
    failed = [row["settings"] for row in known if row["detail"].get("failure") is not None]
    enough = [
        row
        for row in known
        if row["settings"] not in refuted
        and row["detail"].get("at_once", 0) >= (parallel or row["parallel"] or 1)
        and max(row["detail"].get(name, 0) for name in _LENGTHS) >= _LONG_ENOUGH * prompt_characters
    ]
    left = [one for one in exact.candidates(model.info.quantization) if one not in refuted]
    if not enough and left:
        results = exact.quick_probe(
            worker,
            left,
            parallel=parallel,
            prompt_characters=prompt_characters or exact.QUICK_CHARACTERS,
            on_event=lambda text: report("note", message=text),
            on_step=lambda step: report("probe", probe=step),
        )
        results = [replace(result, requested_characters=prompt_characters) for result in results]
        rows = keep(writer, model, worker, results)
        enough = [row for row in rows if row["exact"]]
        failed += [result.settings for result in results if result.failure is not None]
    if not enough:
        message = "no setting tried here keeps batches exact for this file: running the fast one, exact = false"
        report("note", message=message)
        return Setting({**exact.FAST, "repack": not any(one.get("repack") for one in failed)}, False)
    chosen = max(
        enough, key=lambda row: (row["n_prompts"] * row["n_tokens"], row["tokens_per_second"], row["created_at"])
    )
    return Setting({**chosen["settings"], "parallel_most": chosen["parallel"] or DEFAULT_PARALLEL}, True)


def keep(
    writer: store.Store, model: ResolvedModel, worker: Worker, results: Sequence[ProbeResult]
) -> list[dict[str, Any]]:
    """Store the results of a file in the database, with the file's row, and for this machine; return their rows."""
    now = store.now()
    rows = [result.row(gguf_sha256=model.sha256, info=worker.info, created_at=now) for result in results]
    writer.put([("gguf_files", model.file_row()), *(("probes", row) for row in rows)])
    with suppress(OSError, ConfigError):  # the database has them
        handle = open_to_append(cache_folder("probes") / f"{model.sha256}.jsonl")
        with open(handle, "wb", buffering=0) as file:  # one write, whole beside those of other processes
            file.write("".join(json.dumps(row) + "\n" for row in rows).encode())
    return rows


def refute(writer: store.Store, model: ResolvedModel, worker: Worker, settings: Mapping[str, Any], token: int) -> None:
    """Store that a response decoded here with ``settings`` differs, from ``token`` on."""
    difference = exact.Difference("a verified response", 0, token, True)
    tried = {name: settings[name] for name in exact.SETTINGS}
    keep(writer, model, worker, [ProbeResult(tried, False, 1, token + 1, (difference.case,), difference)])


def other_builds(cpu_features: str) -> Iterator[str]:
    """Yield how builds with other instructions than ``cpu_features`` compare, by their best exact rates on a file."""
    for path in sorted(cache_path("probes").glob("*.jsonl")):
        rates: dict[str, float] = {}
        for row in _kept(path.stem):
            if row["exact"]:
                used = " ".join(word for word in row["cpu_features"].split() if "=" not in word)
                rates[used] = max(rates.get(used, 0.0), row["tokens_per_second"])
        here = rates.pop(cpu_features, 0.0)
        for used, rate in rates.items():
            if here and rate:
                compared = f"{here:.0f} tokens/s with this build, {rate:.0f} ({rate / here:.2f} times) with one"
                yield f"file {path.stem[:12]}: {compared} that used {used}"


def _kept(sha256: str) -> list[dict[str, Any]]:
    """Return the rows kept for a file on this machine; a line that a killed process left torn is skipped."""
    rows = []
    with suppress(OSError, ValueError):
        for line in (cache_path("probes") / f"{sha256}.jsonl").read_text(encoding="utf-8").splitlines():
            with suppress(ValueError):
                rows.append(json.loads(line))
    return rows


def probe_model(
    path: Path,
    model: str,
    *,
    method: str,
    dpo: bool = False,
    parallel: int | None = None,
    gpu_layers: int | None = None,
    threads: int | None = None,
    quick: bool = False,
    n_prompts: int,
    n_tokens: int,
    prefix_words: int,
    sizes: Sequence[int],
    first: bool = False,
    also_unified: bool = False,
    on_event: Callable[[str], None] = lambda text: None,
    on_step: exact.OnStep = lambda step: None,
) -> list[ProbeResult]:
    """Probe a file thoroughly, or quickly, and store the results. Raises ModelError, UnknownName, StoreError.

    ``method`` and ``dpo`` choose the variant of a registry model, as in a run. The command line has the defaults of
    ``n_prompts`` to ``also_unified``, which are for a thorough probe.
    """
    options = EngineOptions(parallel=parallel, gpu_layers=gpu_layers, threads=threads)
    file = registry.resolve(model, method_kind=method_spec(method).kind, dpo=dpo)
    with store.Store(path) as writer, Worker(file.path, options) as worker:
        how: dict[str, Any] = {"on_event": on_event, "on_step": on_step}
        settings = exact.candidates(file.info.quantization)
        if quick:
            results = exact.quick_probe(worker, settings, parallel=parallel, **how)
        else:
            results = exact.probe(
                worker,
                settings + ([UNIFIED] if also_unified else []),
                prompts=exact.probe_prompts(n_prompts, prefix_words=prefix_words),
                n_tokens=n_tokens,
                sizes=sizes,
                rate_sizes=(parallel,) if parallel else exact.RATE_SIZES,
                first_only=first,
                **how,
            )
        keep(writer, file, worker, results)
    return results


COLUMNS = ("settings", "exact", "compared", "fastest batch", "tokens/s", "first difference")


def row(result: ProbeResult) -> tuple[object, ...]:
    """Return one result with the fields of ``COLUMNS``, for people."""
    return (
        exact.describe(result.settings),
        "yes" if result.exact else "no",
        f"{result.n_prompts} x {result.n_tokens} tokens, {counted(len(result.cases), 'case')}",
        result.parallel or None,
        result.tokens_per_second or None,
        str(result.difference) if result.difference else result.failure,
    )
