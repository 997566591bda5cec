"""The benchmark: the same work done by this engine and by what a user would pick instead, in one run.

The work is URIAL prompts over N queries, M new tokens each, end of generation ignored. Peers run in processes of
their own, one after the other (bench_contenders.py). Only ratios within one run mean something on a shared machine.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from icl_local import prompting, store
from icl_local.engine import EngineOptions, Request, Worker, exact
from icl_local.exceptions import EngineError
from icl_local.identity import key_of
from icl_local.prompting import Query
from icl_local.weights import read_info

ENGINE = "icl-local"
_SERVER_START_SECONDS = 120


@dataclass(frozen=True)
class Result:
    """One contender: ``seconds`` for all prompts and tokens, prefix included, load and warm-up apart.

    ``decode_rate`` is tokens a second once all prompts are in; ``outside_share`` the part of the time not spent in
    llama_decode. Both are None where a contender does not tell.
    """

    contender: str
    parallel: int
    prompt_tokens: int
    new_tokens: int
    seconds: float
    load_seconds: float = 0.0
    warmup_seconds: float = 0.0
    decode_rate: float | None = None
    outside_share: float | None = None
    peak_rss_bytes: int | None = None
    error: str | None = None

    @property
    def tokens_per_second(self) -> float:
        """Generated tokens over all seconds."""
        return self.new_tokens / self.seconds if self.seconds else 0.0


def run(
    model: Path,
    queries: Sequence[Query],
    *,
    max_tokens: int = 64,
    parallels: Sequence[int] = (1, 4, 8, 16, 32),
    contenders: Sequence[str] = ("create_completion", "server", "transformers fp32", "transformers bf16"),
    servers: Sequence[str] = (),
    batched_bench: Path | None = None,
    concurrencies: Sequence[int] = (1, 4),
    options: EngineOptions | None = None,
    settings: dict[str, Any] | None = None,
    on_event: Callable[[str], None] = lambda text: None,
) -> list[Result]:
    """All results; a contender that is missing or fails has its ``error`` and no rate.

    ``servers`` are base URLs of servers that are up; ``batched_bench`` is a llama-batched-bench program, which decodes
    the mean prompt shared by ``parallels`` sequences without picking tokens: a limit. ``settings`` are the engine's
    (from a probe), the first candidate for the file's type by default.
    """
    info = read_info(model)
    prompts = [prompting.build(query, method="urial", language=query.language).text for query in queries]
    found: list[Result] = []
    chosen = settings or exact.candidates(info.quantization)[0]
    started = time.perf_counter()
    with Worker(model, options) as worker:
        loaded = time.perf_counter() - started
        found += _limits(worker, chosen, on_event)
        for parallel in parallels:
            on_event(f"{ENGINE}, {parallel} at a time")
            found.append(_engine(worker, prompts, max_tokens, parallel, chosen, loaded))
        threads, eog = worker.info.n_threads, worker.eog_tokens()
        lengths = worker.count_tokens(prompts)
    job = {"model": str(model), "prompts": prompts, "max_tokens": max_tokens, "threads": threads}
    job["n_ctx"] = min(info.context_length, -(-(max(lengths) + max_tokens) // 256) * 256)
    if batched_bench is not None:
        on_event(batched_bench.name)
        mean = sum(lengths) // len(lengths)
        found += [_batched_bench(batched_bench, model, mean, max_tokens, n, threads) for n in parallels]
    for name in contenders:
        on_event(name)
        if name == "server":
            with _own_server(job) as base_url:
                found += [_server(f"{name} (llama-cpp-python)", job, base_url, c) for c in concurrencies]
        else:
            found.append(_child(name, 8 if name.startswith("transformers") else 1, {**job, "contender": name}))
    for base_url in servers:
        found += [_server(base_url, {**job, "eog": eog}, base_url, c) for c in concurrencies]
    return found


def rows(results: Sequence[Result], *, model: str, quantization: str, n_queries: int) -> list[dict[str, object]]:
    """Rows of raw.benchmarks: one run of the benchmark shares a benchmark_id."""
    created_at = store.now()
    benchmark_id = key_of(kind="benchmark", model=model, created_at=created_at)
    return [
        {
            "benchmark_id": benchmark_id,
            "contender": result.contender,
            "n_parallel": result.parallel,
            "model": model,
            "quantization": quantization,
            "n_queries": n_queries,
            "new_tokens": result.new_tokens,
            "prompt_tokens": result.prompt_tokens,
            "seconds": result.seconds,
            "tokens_per_second": result.tokens_per_second,
            "detail": asdict(result),
            "created_at": created_at,
        }
        for result in results
    ]


def _limits(worker: Worker, settings: dict[str, Any], on_event: Callable[[str], None]) -> Iterator[Result]:
    """What this build can do at most: prompt processing over some hundred tokens, and one sequence alone."""
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


def _batched_bench(program: Path, model: Path, prompt: int, new: int, parallel: int, threads: int) -> Result:
    """llama.cpp's own benchmark: one prompt of ``prompt`` tokens shared by ``parallel`` sequences of ``new`` tokens."""
    sizes = {"c": (prompt + new) * parallel, "npp": prompt, "ntg": new, "npl": parallel, "t": threads, "tb": threads}
    command = [str(program), "-m", str(model), "-pps", "--output-format", "jsonl", "-b", "2048", "-ub", "512"]
    command += [word for name, value in sizes.items() for word in (f"-{name}", str(value))]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
        told = next(json.loads(line) for line in done.stdout.splitlines() if line.startswith("{"))
    except (OSError, StopIteration) as error:
        return Result(program.name, parallel, 0, 0, 0.0, error=str(error) or f"{program.name} wrote no result")
    return Result(program.name, parallel, prompt, new * parallel, told["t"], decode_rate=told["speed_tg"])


def _child(contender: str, parallel: int, job: dict[str, Any]) -> Result:
    done = subprocess.run(
        [sys.executable, "-m", "icl_local.bench.contenders"], input=json.dumps(job), capture_output=True, text=True
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        return Result(contender, parallel, 0, 0, 0.0, error=lines[-1])
    return Result(contender, parallel, **json.loads(done.stdout.strip().splitlines()[-1]))


def _server(contender: str, job: dict[str, Any], base_url: str | None, concurrency: int) -> Result:
    if base_url is None:
        missing = "not installed; run: pip install 'llama-cpp-python[server]'"
        return Result(contender, concurrency, 0, 0, 0.0, error=missing)
    asked = {**job, "contender": "server", "base_url": base_url, "concurrency": concurrency}
    return _child(contender, concurrency, asked)


@contextlib.contextmanager
def _own_server(job: dict[str, Any]) -> Iterator[str | None]:
    """llama-cpp-python's server on loopback with the same file and threads; None where it is not installed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "icl_local.bench.contenders",
        "serve",
        "--model",
        job["model"],
        "--host",
        "127.0.0.1",
    ]
    command += ["--port", str(port), "--n_ctx", str(job["n_ctx"])]
    command += ["--n_threads", str(job["threads"]), "--n_threads_batch", str(job["threads"])]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + _SERVER_START_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                yield f"http://127.0.0.1:{port}/v1"
                return
            except OSError:
                time.sleep(0.2)
        if process.poll() is None:
            raise EngineError(f"llama-cpp-python's server did not answer within {_SERVER_START_SECONDS} s")
        yield None
    finally:
        process.kill()
        process.wait()
