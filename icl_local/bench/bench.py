"""The benchmark: the same work by this engine and by what a user would pick instead, in one run.

The work is URIAL prompts over N queries, M new tokens each, end of generation ignored. The contenders run one after
the other in processes of their own (scripts/contenders). Only ratios within one run are meaningful; several runs show
how far they spread.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from icl_local import engine, resources, store
from icl_local.cache import cache_folder
from icl_local.engine import EngineOptions, Request, Worker, exact
from icl_local.exceptions import EngineError
from icl_local.files import draft_file
from icl_local.identity import key_of
from icl_local.prompting import SAMPLES, Query, Recipe, queries
from icl_local.weights import read_info, registry

ENGINE = "icl-local"
LOOP = "create_completion"  # llama-cpp-python's loop over prompts, which rates are compared with
SHAPES = {  # Llama 3.2 1B, from its published configuration
    "1b": {"layers": 16, "embd": 2048, "heads": 32, "kv_heads": 8, "ff": 8192, "vocab": 128256}
}


@dataclass(frozen=True)
class Result:
    """One contender: ``seconds`` for all prompts and tokens, prefix included, without loading and warm-up.

    ``decode_rate``: tokens a second after all prompts are processed. ``outside_share``: share of the time outside
    llama_decode. Both are None if a contender does not report them.
    """

    contender: str
    parallel: int
    prompt_tokens: int = 0
    new_tokens: int = 0
    seconds: float = 0.0
    load_seconds: float = 0.0
    warmup_seconds: float = 0.0
    decode_rate: float | None = None
    outside_share: float | None = None
    peak_rss_bytes: int | None = None
    error: str | None = None

    @property
    def tokens_per_second(self) -> float:
        """Return generated tokens over all seconds."""
        return self.new_tokens / self.seconds if self.seconds else 0.0

    def row(self) -> dict[str, object]:
        """Return its columns of raw.benchmarks."""
        names = ("contender", "new_tokens", "prompt_tokens", "seconds", "tokens_per_second")
        own = {name: getattr(self, name) for name in names}
        return {**own, "n_parallel": self.parallel, "detail": asdict(self)}


def run(
    db: Path,
    *,
    model: str,
    shape: str | None,
    type_name: str,
    source: str,
    limit: int,
    runs: int,
    on_event: Callable[[str], None] = lambda text: None,
    **work: Any,
) -> tuple[str, store.Rows]:
    """Time a GGUF file or registry name, or with ``shape`` a random model of that shape, ``runs`` times; store results.

    Return the file's name, and the rows of db/queries/benchmark_table.sql. ``source``: a file of queries or
    ``samples``. ``work``: further arguments of ``compare``. The command line has the defaults.

    Raises UnknownName, ModelError, InputError, StoreError.
    """
    if shape is not None:
        path = random_model(shape, type_name, on_event=on_event)
        name = path.name
    else:
        file = registry.resolve(model, method_kind=registry.COMPLETION)
        path, name = file.path, file.file_name
    found = queries.samples("en") if source == SAMPLES else queries.load_file(Path(source), language="en")
    some, quantization = found.queries[:limit], read_info(path).quantization
    made = []
    for number in range(1, runs + 1):
        if runs > 1:
            on_event(f"run {number} of {runs}")
        results = compare(path, some, on_event=on_event, **work)
        made.append(key_of(kind="benchmark", model=name, created_at=store.now()))
        shared = {"benchmark_id": made[-1], "model": name, "quantization": quantization, "n_queries": len(some)}
        with store.Store(db) as writer:
            writer.put([("benchmarks", shared | result.row()) for result in results])
    return name, store.named(db, "benchmark_table", [made, LOOP])


def random_model(shape: str, type_name: str, *, on_event: Callable[[str], None] = lambda text: None) -> Path:
    """Return a file of random weights, built once in the cache folder; building needs about 3 GB of memory."""
    folder = cache_folder("bench")
    path, full = (folder / f"random-{shape}.{name}.gguf" for name in (type_name, "f16"))
    if not path.exists():
        on_event(f"building {path.name}, once")
        if not full.exists():
            tokenizer = registry.resolve("smollm2-135m", method_kind=registry.COMPLETION).path
            with draft_file(full, unique=False) as draft:
                _script("random_model", {"path": str(draft), "tokenizer": str(tokenizer), "shape": SHAPES[shape]})
        engine.quantize(full, path, type_name)
    return path


def compare(
    model: Path,
    queries: Sequence[Query],
    *,
    max_tokens: int,
    parallels: Sequence[int],
    contenders: Sequence[str],
    servers: Sequence[str] = (),
    batched_bench: Path | None = None,
    on_event: Callable[[str], None] = lambda text: None,
    **engine_options: Any,
) -> list[Result]:
    """Return all results; a contender that is missing or fails has its ``error`` and no rate.

    The contender ``none`` stands for no contender; ``engine_options`` are fields of EngineOptions.
    ``servers`` are base URLs of servers that are running; each gets ``parallels`` requests at once, twice: cold, with
    prompts that begin as no earlier ones, and warm, with the same prompts again. ``batched_bench`` is a
    llama-batched-bench program, which decodes the mean prompt shared by ``parallels`` sequences without picking tokens:
    a limit. The engine's settings are the first candidate for the file's type.
    """
    info = read_info(model)
    recipe = Recipe("urial", queries[0].language)
    prompts = [recipe.prompt(query).text for query in queries]
    found: list[Result] = []
    settings = exact.candidates(info.quantization)[0]
    started = time.perf_counter()
    with Worker(model, EngineOptions(**engine_options)) as worker:
        loaded = time.perf_counter() - started
        found += _limits(worker, settings, on_event)
        for parallel in parallels:
            on_event(f"{ENGINE}, {parallel} at a time")
            found.append(_engine(worker, prompts, max_tokens, parallel, settings, loaded))
        threads, eog = worker.info.n_threads, worker.eog_tokens()
        lengths = worker.count_tokens(prompts)
    job = {"model": str(model), "prompts": prompts, "max_tokens": max_tokens, "threads": threads}
    job["n_ctx"] = min(info.context_length, -(-(max(lengths) + max_tokens) // 256) * 256)
    jobs: list[tuple[str, dict[str, Any]]] = []
    if batched_bench is not None:
        shared = {"program": str(batched_bench), "n_prompt": sum(lengths) // len(lengths), "parallels": list(parallels)}
        jobs.append((batched_bench.name, shared))
    jobs += [(name, {}) for name in contenders if name != "none"]
    load = {"eog": eog, "concurrencies": list(parallels)}
    jobs += [(base_url, {"base_url": base_url, **load}) for base_url in servers]
    for name, more in jobs:
        on_event(name)
        found += _contender(name, job | more)
    return found


def _limits(worker: Worker, settings: dict[str, Any], on_event: Callable[[str], None]) -> Iterator[Result]:
    """Time what this build can do at most: prompt processing over some hundred tokens, and one sequence alone."""
    on_event("limits of this build")
    text = " ".join(exact.WORDS * 12)
    list(worker.generate([Request("w", text[:200], 1, ignore_eog=True)], **settings))
    list(worker.generate([Request("p", text, 1, ignore_eog=True)], parallel=1, **settings))
    stats = worker.stats
    yield Result("limit: prompt processing", 1, stats.prompt_tokens, stats.prefilled_tokens, stats.prefill_seconds)
    list(worker.generate([Request("d", text[:200], 48, ignore_eog=True)], parallel=1, **{**settings, "min_rows": 1}))
    stats = worker.stats
    yield Result("limit: one sequence", 1, stats.prompt_tokens, stats.steps, stats.decode_seconds)


def _engine(
    worker: Worker, prompts: Sequence[str], max_tokens: int, parallel: int, settings: dict[str, Any], loaded: float
) -> Result:
    requests = [Request(str(i), prompt, max_tokens, ignore_eog=True) for i, prompt in enumerate(prompts)]
    started = time.perf_counter()
    list(worker.generate([Request("w", "Hello there.", 4, ignore_eog=True)], parallel=1, **settings))
    warm = time.perf_counter() - started
    worker.forget_prefixes()
    started = time.perf_counter()
    list(worker.generate(requests, parallel=parallel, **settings))
    seconds = time.perf_counter() - started
    stats = worker.stats
    return Result(
        ENGINE,
        parallel,
        stats.prompt_tokens,
        stats.new_tokens,
        seconds,
        loaded,
        warm,
        (stats.new_tokens - stats.n_done) / stats.decode_seconds if stats.decode_seconds else None,
        (seconds - stats.decode_seconds - stats.prefill_seconds) / seconds,
        stats.peak_rss_bytes,
    )


def _contender(name: str, job: dict[str, Any]) -> list[Result]:
    try:
        printed = _script("contender", {**job, "contender": name})
    except EngineError as error:
        return [Result(name, 8 if name.startswith("transformers") else 1, error=str(error))]
    return [Result(**measured) for measured in json.loads(printed.strip().splitlines()[-1])]


def _script(name: str, job: dict[str, Any]) -> str:
    """Run a program of scripts/contenders with ``job`` on stdin; raises EngineError with the last line of stderr."""
    command = [sys.executable, str(resources.path("contenders", f"{name}.py"))]
    done = subprocess.run(command, input=json.dumps(job), capture_output=True, text=True)
    if done.returncode != 0:
        raise EngineError((done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1])
    return done.stdout
