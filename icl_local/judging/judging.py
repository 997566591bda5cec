"""`icl judge` as one call: open the judge, select responses, and judge them now, in a batch, or only estimate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from icl_local.exceptions import ConfigError
from icl_local.judging import batch as batches
from icl_local.judging.api import MAX_TOKENS, ApiJudge
from icl_local.judging.batch import Collected
from icl_local.judging.estimate import Preview, preview
from icl_local.judging.ledger import Scope
from icl_local.judging.runner import JudgeProgress, judge_missing
from icl_local.judging.spec import open_judge
from icl_local.judging.template import open_templates
from icl_local.running import Shard, open_cluster
from icl_local.store import Names, Selection
from icl_local.weights import OnBytes


@dataclass(frozen=True)
class JudgeResult:
    """The outcome of one call of ``judge``.

    ``progress``: counts of the judgments made, or handed to the Batch API. ``collected``: what the Batch API gave back
    (``collect``, ``wait``). ``preview``: the estimate (``plan``).
    """

    judge: str
    progress: JudgeProgress | None = None
    collected: Collected | None = None
    preview: Preview | None = None


def judge(
    db: str | Path,
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
    variant: str = "published",
    template: str | Sequence[str] = (),
    model: Names = None,
    method: Names = None,
    lang: Names = None,
    split: Names = None,
    limit: int | None = None,
    concurrency: int | None = None,
    timeout: float = 300.0,
    max_tokens: int = MAX_TOKENS,
    reasoning_effort: str | None = None,
    shard: str | Shard | None = None,
    parallel: int | None = None,
    gpu_layers: int | None = None,
    threads: int | None = None,
    cluster: str | None = None,
    worker_cpus: int | None = None,
    prompt_dir: str | Path | None = None,
    on_progress: Callable[[JudgeProgress], None] = lambda progress: None,
    on_collected: Callable[[Collected], None] = lambda collected: None,
    on_download: OnBytes | None = None,
) -> JudgeResult:
    """Score the stored responses of ``db`` that ``judge`` has not scored yet, as `icl judge` does.

    ``judge``: openai:MODEL[@URL], local:FILE.gguf or local:NAME. ``plan`` only estimates. ``batch`` uses the Batch API:
    ``collect`` reads the finished batches, ``wait`` looks every ``poll`` seconds until all are finished. ``max_cost``
    is in USD, ``prices`` a price table. ``repeat``: verdicts for each response. ``template``: just-eval=PATH.
    ``model``, ``method``, ``lang`` and ``split`` select responses; None takes all. ``limit``: the first missing
    judgments. ``concurrency``, ``timeout`` (seconds), ``max_tokens`` and ``reasoning_effort`` are for an API judge,
    ``parallel``, ``gpu_layers``, ``threads``, ``cluster`` and ``worker_cpus`` for a local one.

    Raises ConfigError for options that do not fit together, InputError, ModelError, ApiError, ClusterError, JudgeError
    (another process judges with the same judge, or a cost limit without a price) and StoreError. Judgments that were
    made before an error are kept, and the same call continues.
    """
    path, overlay = Path(db), Path(prompt_dir) if prompt_dir else None
    now = not plan and not batch
    with open_cluster(cluster if now else None, worker_cpus=worker_cpus) as nodes:
        opened = open_judge(
            judge,
            concurrency=concurrency,
            timeout=timeout,
            max_tokens=max_tokens,
            reasoning_effort=reasoning_effort,
            prices_file=Path(prices) if prices else None,
            max_cost=max_cost,
            parallel=parallel,
            gpu_layers=gpu_layers,
            threads=threads,
            needs_key=not plan,
            open_worker=None if nodes is None else nodes.worker,
            on_download=on_download,
        )
        scope = Scope(
            open_templates(variant, overlay=overlay, sources=[template] if isinstance(template, str) else template),
            repeat,
            Selection(model, method, lang, split),
            limit,
            Shard.parse(shard) if isinstance(shard, str) else shard,
        )
        if plan:
            return JudgeResult(opened.name, preview=preview(path, opened, scope, batch=batch))
        if now:
            return JudgeResult(opened.name, judge_missing(path, opened, scope, on_progress=on_progress))
    if not isinstance(opened, ApiJudge):
        raise ConfigError("the Batch API is for openai: judges")
    progress = None
    if not collect:
        progress = batches.submit(path, opened, scope, max_cost=max_cost, on_progress=on_progress)
    if wait:
        return JudgeResult(opened.name, progress, batches.wait(path, opened, poll_seconds=poll, on_look=on_collected))
    collected = batches.collect(path, opened) if collect else None
    if collected is not None:
        on_collected(collected)
    return JudgeResult(opened.name, progress, collected)
