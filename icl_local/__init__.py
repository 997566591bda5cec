"""icl-local: in-context learning against instruction tuning, measured on a laptop (arXiv 2503.01611).

The front door for scripts and notebooks, with the defaults of the commands of `icl`::

    import icl_local as icl

    icl.run("study.duckdb", model="model.gguf", method=["zero-shot", "urial"], queries="samples")
    icl.errors("study.duckdb")
    icl.judge("study.duckdb", judge="openai:gpt-4o-mini")
    icl.table("study.duckdb", 1)

Importing it loads nothing heavy: each function imports what it needs. Every error raised on purpose is an
``icl_local.exceptions.IclError``. ``progress`` is "auto" (bars in a terminal or notebook, a line a minute on stderr
elsewhere), None (silent) or a callback. Paths are str or Path; most names are one str or a list. docs/python.md
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from icl_local.judging import JudgeProgress, JudgeResult
    from icl_local.results import Drawing, Report, Table
    from icl_local.running import Event, RunResult
    from icl_local.vocabulary import Error, Loops, Reading

__version__ = "0.1.0"
__all__ = ["__version__", "errors", "figure", "judge", "query", "report", "run", "table", "trust"]

Names = str | Sequence[str]
Paths = str | Path | Sequence[str | Path]


def run(
    db: str | Path = "icl.duckdb",
    *,
    model: Paths = (),
    backend: str | None = None,
    dpo: bool = False,
    method: Names = "zero-shot",
    lang: Names = "en",
    queries: Paths | Mapping[str, str | Path] = (),
    columns: Mapping[str, str] | None = None,
    pool: Paths | Mapping[str, str | Path] = (),
    dataset: str | None = None,
    sample: int | None = None,
    limit: int | None = None,
    seed: int = 0,
    plan: bool = False,
    shard: str | None = None,
    probe: bool = True,
    verify: int = 3,
    max_tokens: int = 1024,
    repetition_penalty: float = 1.1,
    kv_type: Literal["f16", "f32"] | None = None,
    date: str | None = None,
    stop_on_loop: bool = False,
    plain_queries: bool = False,
    temperature: float = 0.0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    draws: int = 1,
    draw_seed: int = 0,
    decode: Literal["text", "choices"] = "text",
    parallel: int | None = None,
    gpu_layers: int | None = None,
    threads: int | None = None,
    cluster: str | None = None,
    worker_cpus: int | None = None,
    prompt_dir: str | Path | None = None,
    command: str = "run",
    progress: Literal["auto"] | Callable[[Event], None] | None = "auto",
) -> RunResult:
    """Generate every missing response of ``model`` x ``method`` x ``lang`` and store it in ``db``.

    ``model``: GGUF files or names of `icl models list`. ``backend``: openai:MODEL@URL, a server
    instead of a file. ``queries``: FILE (JSON Lines, JSON, CSV, TSV, Parquet), LANG=FILE, "samples" or "just-eval", or
    a mapping language -> file. ``method``: names, which may have parameters: "urial[k=0..2]". ``pool``: NAME=FILE, or a
    mapping name -> file, of examples for methods with pool=NAME. ``columns``: fields that a query file has under other
    names, {"instruction": "question"}.
    ``sample`` draws queries over split and task with ``seed``; ``limit`` takes the first. ``plan``: only count what is
    missing of each cell, as the result's ``preview``; no model is fetched or loaded. ``shard``: "i/n", part i of
    n. ``parallel``, ``gpu_layers`` and ``threads`` of None are chosen from the file and this machine. ``verify``
    responses of each cell, the longest among them, are decoded again one at a time and compared. ``plain_queries``
    reads control tokens such as <|im_end|> in a query as text; by default they are tokens, as in Transformers.
    Above ``temperature`` 0 each query gets ``draws`` responses, sampled with ``top_p`` and ``min_p`` as in
    Transformers; ``draw_seed`` decides their random numbers, and another seed adds draws.
    ``decode`` "choices": the response is the most probable of the query's `choices`.
    ``command`` is recorded with the run.

    A run that was killed resumes where it stopped. A cell in which the model fails ends as ``failed`` and does not stop
    the others. Raises ConfigError, InputError, ModelError, HubError, ApiError, ClusterError, StoreError.
    """
    from icl_local import running
    from icl_local.engine import EngineOptions
    from icl_local.exceptions import ConfigError, refuse_idle
    from icl_local.store import listed

    decoding = running.Decoding(
        max_tokens, repetition_penalty, kv_type, date, stop_on_loop, plain_queries,
        temperature, top_p, min_p, draws, draw_seed, decode,
    )  # fmt: skip
    models, overlay = listed(model), Path(prompt_dir) if prompt_dir else None
    if isinstance(queries, Mapping):
        queries = [f"{language}={file}" for language, file in queries.items()]
    if isinstance(pool, Mapping):
        pool = [f"{name}={file}" for name, file in pool.items()]
    if not models and backend is None:
        raise ConfigError("give a model, or a backend for a server's model")
    if backend is not None:
        idle = {"--gpu-layers": gpu_layers, "--threads": threads, "--cluster": cluster}
        refuse_idle("a server decodes by itself", {name: value is not None for name, value in idle.items()})
    with _progress(progress, "on_event", "on_note", "on_download") as callbacks:
        on_event, on_note, on_download = (callbacks.get(name) for name in ("on_event", "on_note", "on_download"))
        server = None if backend is None else running.open_server(backend, parallel=parallel)
        if server is not None:
            models = models or [server.client.model]
            if on_note is not None:
                on_note(f"{server.client.base_url} is {server.kind}; repetition penalty: {server.penalty.rule}")
        sets = running.load_queries(
            listed(lang),
            listed(queries),
            dataset=dataset,
            sample=sample,
            limit=limit,
            seed=seed,
            shard=running.Shard.parse(shard) if shard else None,
            columns=columns,
            overlay=overlay,
        )
        how: dict[str, Any] = {
            "dpo": dpo, "server": server, "overlay": overlay, "pools": running.load_pools(listed(pool)),
        }  # fmt: skip
        if plan:
            from icl_local.results import Table

            rows, notes = running.preview_cells(Path(db), models, listed(method), sets, decoding=decoding, **how)
            return running.RunResult(Path(db), (), Table("Plan", running.COLUMNS, rows, tuple(notes)))
        cells = running.plan_cells(models, listed(method), sets, on_download=on_download, **how)
        with running.open_cluster(cluster, worker_cpus=worker_cpus) as nodes:
            results = running.run_cells(
                Path(db),
                cells,
                decoding=decoding,
                options=EngineOptions(parallel=parallel, gpu_layers=gpu_layers, threads=threads),
                command=command,
                probe=probe,
                verify=verify,
                seed=seed,
                nodes=nodes,
                on_event=on_event or (lambda event: None),
            )
    return running.RunResult(Path(db), tuple(results))


def judge(
    db: str | Path = "icl.duckdb",
    *,
    judge: str,
    plan: bool = False,
    batch: bool = False,
    collect: bool = False,
    wait: bool = False,
    poll: float = 60.0,
    max_cost: float | None = None,
    prices: str | Path | None = None,
    repeat: int = 1,
    retry: Names = (),
    variant: str = "published",
    template: Names = (),
    model: Names = (),
    method: Names = (),
    lang: Names = (),
    split: Names = (),
    dataset: Names = (),
    quantization: Names = (),
    sample: str | None = None,
    draws: int | None = None,
    limit: int | None = None,
    concurrency: int | None = None,
    timeout: float = 300.0,
    max_tokens: int = 1024,
    reasoning_effort: str | None = None,
    shard: str | None = None,
    parallel: int | None = None,
    gpu_layers: int | None = None,
    threads: int | None = None,
    cluster: str | None = None,
    worker_cpus: int | None = None,
    prompt_dir: str | Path | None = None,
    progress: Literal["auto"] | Callable[[JudgeProgress], None] | None = "auto",
) -> JudgeResult:
    """Score every stored response that ``judge`` has not scored yet.

    ``judge``: openai:MODEL[@URL], local:FILE.gguf, local:NAME or rules. ``plan`` only estimates tokens and price.
    ``batch`` uses the Batch API: ``collect`` reads what is finished, ``wait`` looks every ``poll`` seconds until all
    is. ``max_cost``: USD that the call may not pass. ``repeat``: verdicts for each response. ``retry``: statuses, such
    as refused or truncated; a judgment that ended so gets a further attempt, and the last one that ended counts.
    ``variant``: published or rubric-first, the order of the prompt; ``template``: just-eval=PATH. ``model``,
    ``method``, ``lang``, ``split``, ``dataset`` and ``quantization`` select responses, ``sample`` those that were
    drawn under that name, ``draws`` the first draws of each query; ``limit`` takes the first missing judgments.
    ``timeout``: seconds for one request; ``max_tokens``: tokens of an API judge's verdict.

    Every attempt is stored; the same call again retries those that failed. Raises ConfigError, InputError, ApiError,
    JudgeError, ModelError, ClusterError, StoreError.
    """
    options = dict(locals())
    from icl_local import judging
    from icl_local.store import Selection

    names = ("model", "method", "lang", "split", "dataset", "quantization")
    chosen = Selection(*(options.pop(name) for name in names))
    with _progress(options.pop("progress"), "on_progress", "on_collected", "on_download") as callbacks:
        return judging.judge(options.pop("db"), chosen=chosen, **options, **callbacks)


def table(
    db: str | Path = "icl.duckdb",
    name: int | str = 1,
    *,
    versus_paper: bool = False,
    published: bool = False,
    corrected: bool = False,
    equated_to: str | None = None,
    reference: str = "human",
    judge: str | None = None,
    reading: Reading = "strict",
    loops: Loops = "strict",
    dataset: str | None = None,
    quantization: str | None = None,
    settings: str | None = None,
    whole: bool = False,
) -> Table:
    """Return one of the paper's tables from your rows: 1, 2, 3 (scores), 4, 6, 8 (critical errors in percent).

    Further names: "metrics" (rules), "methods" (effects of parameters), "variance" (the part of examples, orders, draws
    and verdicts), "sentences" (figures of the paper's text, recomputed), "audit" (slips in what was published).
    ``versus_paper`` adds the printed values, ``published`` takes the paper's own cells, ``corrected`` corrected means
    (see ``trust``, also for ``reference``), ``equated_to`` means on the scale of another judge (icl equate). ``judge``
    of None is the one with most scores. ``reading``: N/A left out, or counted as 5 as just-eval does, or (expected) the
    mean by a local judge's probabilities. ``loops``: the strict reading of a loop, or the paper's literal one.
    ``dataset``, ``quantization`` and ``settings`` (the first characters of a settings_id) choose the cell that is shown
    where several qualify. ``whole``: every column, unrounded.
    Raises ConfigError, UnknownName, StoreError.
    """
    options = dict(locals())
    from icl_local.results import build_tables

    versus = options.pop("versus_paper")
    (found,) = build_tables(Path(options.pop("db")), [str(options.pop("name"))], versus=versus, **options)
    return found


def trust(
    db: str | Path = "icl.duckdb",
    *,
    judge: str | None = None,
    reference: str = "human",
    sample: str | None = None,
    reading: Reading = "strict",
    whole: bool = False,
) -> list[Table]:
    """Return how far ``judge`` can be trusted: agreement, bias, corrected means, differences of corrected means.

    Without ``judge``: error rates, corrected by the labels of samples drawn by an error; they need no judge.

    ``reference``: human (the mean of the human raters), or a judge that scored a sample. ``sample``: the labels of one
    sample. ``whole``: every column, unrounded. Raises ConfigError without labels, UnknownName, StoreError.
    """
    from icl_local.results import trust_tables

    return trust_tables(Path(db), judge=judge, reference=reference, sample=sample, reading=reading, whole=whole)


def figure(
    db: str | Path = "icl.duckdb",
    name: int | str = 4,
    *,
    published: bool = False,
    judge: str | None = None,
    reading: Reading = "strict",
    loops: Loops = "strict",
    dataset: str | None = None,
    quantization: str | None = None,
    settings: str | None = None,
    theme: Literal["light", "dark"] = "light",
) -> Drawing:
    """Draw one of the paper's figures: 2 (languages), 3 (DPO), 4 (critical errors), "size" (scores by model size),
    "shift" (token shift), "decoding" (errors by temperature).

    A notebook shows it; ``save`` writes PNG and SVG. ``judge`` to ``settings`` are those of ``table``. Raises
    MissingExtra, UnknownName, StoreError, and ConfigError where the database has no rows for it.
    """
    options = dict(locals())
    from icl_local.results import draw_figure

    return draw_figure(Path(options.pop("db")), str(options.pop("name")), **options)


def errors(
    db: str | Path = "icl.duckdb",
    *,
    listed: bool = False,
    error: Error | None = None,
    model: Names = (),
    method: Names = (),
    lang: Names = (),
    dataset: Names = (),
    split: Names = (),
    quantization: Names = (),
    redetect: bool = False,
) -> Table:
    """Return the critical errors of every cell in percent, or with ``listed`` the responses that have one.

    ``error`` selects one kind of a list. ``redetect`` first updates every response with the current detector.
    """
    from icl_local.results import error_table
    from icl_local.store import Selection

    chosen = Selection(model, method, lang, split, dataset, quantization)
    return error_table(Path(db), listed=listed, error=error, chosen=chosen, redetect=redetect)


def query(
    db: str | Path,
    sql: str,
    parameters: Sequence[object] = (),
    *,
    timeout: float | None = 60.0,
    unsafe: bool = False,
    limit: int | None = None,
) -> Table:
    """Return the rows of one ``select`` over the views, which cannot change the database or read other files.

    ``timeout`` is in seconds, ``limit`` is a number of rows. ``unsafe`` allows other files and extensions. Raises
    StoreError for SQL that is wrong, refused or too slow, and StoreLocked.
    """
    from icl_local import store
    from icl_local.results import Table

    return Table.of(store.query(Path(db), sql, parameters, timeout=timeout, unsafe=unsafe, limit=limit))


def report(
    db: str | Path = "icl.duckdb",
    path: str | Path = "report.html",
    *,
    judge: str | None = None,
    reading: Reading = "strict",
    loops: Loops = "strict",
    dataset: str | None = None,
    quantization: str | None = None,
    settings: str | None = None,
    responses: int = 40_000,
    max_mb: float = 50.0,
) -> Report:
    """Write tables, figures and responses as one HTML page that opens without a network.

    ``judge`` to ``settings`` are those of ``table``. At most ``responses`` responses are in it; texts beyond ``max_mb``
    megabytes are left out. Raises ConfigError where ``path`` cannot be written, UnknownName, StoreError.
    """
    options = dict(locals())
    from icl_local.results import write_report

    db, path, most = options.pop("db"), options.pop("path"), int(options.pop("max_mb") * 1e6)
    return write_report(Path(db), Path(path), max_responses=options.pop("responses"), max_bytes=most, **options)


@contextmanager
def _progress(progress: Any, *names: str) -> Iterator[dict[str, Any]]:
    """Yield the callbacks of a library call by name: the display's, the user's own for the first name, or none."""
    if progress == "auto":
        from icl_local.cli.progress import Display

        with Display() as display:
            yield {name: getattr(display, name) for name in names}
    else:
        yield {} if progress is None else {names[0]: progress}
