"""`icl judge` in one call: open the judge, select responses, and judge them now, in a batch, or only estimate."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icl_local.engine import EngineOptions
from icl_local.exceptions import WrongUsage, refuse, refuse_idle
from icl_local.judging import batch as batches
from icl_local.judging import rules
from icl_local.judging.batch import Collected
from icl_local.judging.estimate import preview
from icl_local.judging.judges import MAX_TOKENS, ApiJudge, LocalJudge
from icl_local.judging.ledger import RETRIED, JudgeProgress, OnProgress, Scope, judge_missing
from icl_local.judging.rules import RulesJudge, RuleTemplates
from icl_local.judging.samples import drawn_responses
from icl_local.judging.template import VARIANTS, Templates, open_templates
from icl_local.openai_client import Budget, parse_name
from icl_local.results import Table
from icl_local.running import LocalChat, Shard, open_chat, open_cluster
from icl_local.store import Names, Selection, listed

_OTHER_JUDGES = ", local:FILE.gguf, local:smollm2-135m or rules"
TIMEOUT = 300.0  # seconds for one request
_LOCAL = ("parallel", "gpu_layers", "threads", "cluster", "worker_cpus")
_API = ("max_cost", "prices", "timeout", "max_tokens", "reasoning_effort", "concurrency")
_IDLE = {  # kind of judge -> options that do nothing for it, and why
    "openai": (_LOCAL, "a server decodes for an API judge"),
    "local": (_API, "a local judge sends no requests"),
    rules.NAME: ((*_LOCAL, *_API, "variant", "template"), "rules need no model"),
}
_DEFAULTS = {"timeout": TIMEOUT, "max_tokens": MAX_TOKENS, "variant": VARIANTS[0], "template": []}  # the others: None


@dataclass(frozen=True)
class JudgeResult:
    """The outcome of one call of ``judge``.

    ``progress``: counts of the judgments made, or handed to the Batch API. ``collected``: what the Batch API gave back
    (``collect``, ``wait``). ``preview``: the estimates (``plan``).
    """

    judge: str
    progress: JudgeProgress | None = None
    collected: Collected | None = None
    preview: Table | None = None

    @property
    def without_scores(self) -> tuple[str, ...]:
        """Return the statuses, of judgments made now or before, that ``retry`` takes."""
        made = self.progress.statuses + self.progress.before if self.progress else Counter[str]()
        made += self.collected.statuses if self.collected else Counter()
        return tuple(status for status in RETRIED if made[status])


def judge(
    db: str | Path,
    *,
    judge: str,
    plan: bool,
    batch: bool,
    collect: bool,
    wait: bool,
    poll: float,
    max_cost: float | None,
    repeat: int,
    retry: Names,
    variant: str,
    template: str | Sequence[str],
    chosen: Selection,
    sample: str | None,
    draws: int | None,
    limit: int | None,
    shard: str | None,
    cluster: str | None,
    worker_cpus: int | None,
    prompt_dir: str | Path | None,
    on_progress: OnProgress = lambda progress: None,
    on_collected: Callable[[Collected], None] = lambda collected: None,
    **settings: Any,
) -> JudgeResult:
    """Score the stored responses of ``db`` that ``judge`` has not scored yet.

    ``icl_local.judge`` describes the options and has their defaults; ``settings`` are those of ``open_judge``. Raises
    WrongUsage for options that do not fit together, JudgeError where another process judges with the same judge,
    ConfigError, InputError, ModelError, ApiError, ClusterError, StoreError. Judgments made before an error are kept.
    """
    _refuse_unfit(judge, {**locals(), **settings, "template": listed(template)})
    path, overlay, now = Path(db), Path(prompt_dir) if prompt_dir else None, not plan and not batch
    with open_cluster(cluster, worker_cpus=worker_cpus) if now else nullcontext() as nodes:
        worker = None if nodes is None else nodes.worker
        budget = None if max_cost is None else Budget(max_cost)
        opened = open_judge(judge, budget=budget, needs_key=not plan, open_worker=worker, **settings)
        scope = Scope(
            templates_of(judge, variant, overlay=overlay, sources=listed(template)),
            repeat,
            chosen,
            limit,
            Shard.parse(shard) if shard else None,
            None if sample is None else drawn_responses(path, sample),
            retry=listed(retry),
            draws=draws,
        )
        if plan and not isinstance(opened, RulesJudge):
            return JudgeResult(opened.name, preview=preview(path, opened, scope, batch=batch))
        if now:
            return JudgeResult(opened.name, judge_missing(path, opened, scope, on_progress=on_progress))
    assert isinstance(opened, ApiJudge)
    progress = collected = None
    if not collect:
        progress = batches.submit(path, opened, scope, on_progress=on_progress)
    if wait or collect:
        collected = batches.collect(path, opened, wait=wait, poll_seconds=poll, on_look=on_collected)
    return JudgeResult(opened.name, progress, collected)


def _refuse_unfit(judge: str, given: Mapping[str, Any]) -> None:
    """Raise WrongUsage for options of ``judge`` that do not fit together, or do nothing for a judge of this kind."""
    plan, batch, collect, wait, retry = (given[name] for name in ("plan", "batch", "collect", "wait", "retry"))
    refuse({
        "--collect and --wait belong to --batch; add it": (collect or wait) and not batch,
        "--collect sends nothing; give --retry without it": bool(collect and retry),
        "rules cost nothing and end at once; leave --plan and --batch out": judge == rules.NAME and (plan or batch),
        "--batch is for openai: judges; leave it out": batch and not plan and not judge.startswith("openai:"),
    }, error=WrongUsage)  # fmt: skip
    names, reason = _IDLE.get(judge.partition(":")[0], ((), ""))
    refuse_idle(reason, {f"--{name.replace('_', '-')}": given[name] != _DEFAULTS.get(name) for name in names})


def idle_options(judge: str) -> tuple[str, ...]:
    """Return the options of ``judge`` that do nothing for a judge of this name."""
    return _IDLE.get(judge.partition(":")[0], ((), ""))[0]


def check_judge(name: str, variant: str) -> None:
    """Raise ConfigError for a name that ``open_judge`` takes on no machine, and for another variant of the prompt."""
    if name != rules.NAME and not re.fullmatch("local:.+", name):
        parse_name(name, option="judge", others=_OTHER_JUDGES)
    templates_of(name, variant)


def templates_of(judge: str, variant: str, *, overlay: Path | None = None, sources: Sequence[str] = ()) -> Templates:
    """Return the templates of the judge of this name; ``variant``, ``overlay`` and ``sources`` as in open_templates."""
    return RuleTemplates() if judge == rules.NAME else open_templates(variant, overlay=overlay, sources=sources)


def open_judge(
    name: str,
    *,
    max_tokens: int = MAX_TOKENS,
    reasoning_effort: str | None = None,
    needs_key: bool = True,
    parallel: int | None = None,
    gpu_layers: int | None = None,
    threads: int | None = None,
    **chat: Any,
) -> ApiJudge | LocalJudge | RulesJudge:
    """Open the judge ``name``: rules, openai:MODEL[@URL], or local:FILE with a GGUF file or a model's name.

    ``max_tokens`` and ``reasoning_effort`` are for an API, ``parallel`` to ``threads`` for a local judge, ``chat`` is
    for ``open_chat``. ``needs_key`` False is for a judge that gets no requests. Raises ConfigError for another name and
    for a limit of costs without a price, ApiError without a key, ModelError.
    """
    if name == rules.NAME:
        return RulesJudge()
    options = EngineOptions(parallel=parallel, gpu_layers=gpu_layers, threads=threads)
    key = None if needs_key else "none"
    client = open_chat(name, option="--judge", others=_OTHER_JUDGES, options=options, api_key=key, **chat)
    if isinstance(client, LocalChat):
        return LocalJudge(client)
    return ApiJudge(client, max_tokens=max_tokens, reasoning_effort=reasoning_effort)
