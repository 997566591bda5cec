"""Score stored answers, or the references of queries: how probable each token is under given weights and prompts.

An answer is scored by the file that wrote it after its own prompt (own), by the base file after the same prompt (same),
and by the base file after the prompt of any method. Its token ids are appended to the prompt's, so every prompt scores
the same tokens. Each result is stored as it comes under a key known before, so a killed command resumes.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

from icl_local import prompting, store
from icl_local.engine import EngineOptions, ProbeStep, Scored, ScoreRequest, Worker, tokenize
from icl_local.exceptions import ConfigError
from icl_local.identity import sha256_text
from icl_local.prompting import Prompt, Query, QuerySet, Recipe
from icl_local.running.cells import load_queries
from icl_local.running.choices import Row, asked_row, scored_row, token_rows
from icl_local.running.probe import setting_for
from icl_local.running.run import new_run
from icl_local.running.shard import Shard
from icl_local.running.verify import stored_prompt
from icl_local.weights import OnBytes, ResolvedModel, cache_folder, registry, require_same_tokens

OWN, SAME, REFERENCE = "own", "same", "reference"
COLUMNS = ("model", "prompt", "texts", "missing", "tokens")


@dataclass(frozen=True)
class ScoreProgress:
    """Texts that are scored, of how many under this model and prompt (``label``); tokens per second of this process."""

    label: str
    done: int
    total: int
    tokens_per_second: float


@dataclass(frozen=True)
class ScoreResult:
    """``rows``: COLUMNS of each model and prompt before the call; tokens are those of the missing texts.

    ``n_new`` texts were scored now, ``n_too_long`` exceed the context.
    """

    rows: list[tuple[object, ...]]
    n_new: int = 0
    n_too_long: int = 0


@dataclass(frozen=True)
class Job:
    """What ``model`` scores after the prompts of ``method``: requests and their rows by scoring_id.

    ``names``: rows that these refer to, by a name of each.
    """

    model: ResolvedModel
    method: str
    requests: dict[str, ScoreRequest] = field(default_factory=dict)
    rows: dict[str, dict[str, object]] = field(default_factory=dict)
    names: dict[str, Row] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Return model and method for people."""
        return f"{self.model.label}{' DPO' if self.model.dpo else ''} · {self.method}"

    def add(self, request: ScoreRequest, kind: str, of: object, prompt: Prompt | None = None, **row: object) -> None:
        """Add a text, identified by ``of``; ``prompt`` None: the answer's own."""
        penalty, sha256 = request.repetition_penalty, sha256_text(request.prompt)
        row = asked_row(kind, of, self.model, self.method, sha256, penalty=penalty) | row
        key = str(row["scoring_id"])
        self.requests[key], self.rows[key] = replace(request, id=key), row
        if prompt is not None:
            row["prompt_id"] = prompt.prompt_id
            self.names.setdefault(prompt.prompt_id, ("prompts", prompt.row()))

    def missing(self, have: set[str]) -> list[ScoreRequest]:
        """Return the requests that are not in ``have``."""
        return [request for key, request in self.requests.items() if key not in have]

    def counts(self, have: set[str]) -> tuple[object, ...]:
        """Return COLUMNS."""
        missing = self.missing(have)
        tokens = sum(request.max_tokens for request in missing)
        return self.label.split(" · ")[0], self.method, len(self.requests), len(missing), tokens


def score_texts(
    path: Path,
    *,
    model: str,
    texts: str,
    method: Sequence[str] = (SAME,),
    lang: Sequence[str] = ("en",),
    dpo: bool = False,
    texts_model: str | None = None,
    queries: Sequence[str] = (),
    dataset: str | None = None,
    limit: int | None = None,
    shard: str | None = None,
    plan: bool = False,
    parallel: int | None = None,
    gpu_layers: int | None = None,
    threads: int | None = None,
    prompt_dir: Path | None = None,
    on_progress: Callable[[ScoreProgress], None] = lambda progress: None,
    on_note: Callable[[str], None] = lambda note: None,
    on_step: Callable[[ProbeStep], None] = lambda step: None,
    on_download: OnBytes | None = None,
) -> ScoreResult:
    """Score answers that ``texts_model`` gave by the method ``texts``: by its own file, and by ``model``'s base file.

    ``texts_model`` None: ``model``'s own variant for that method. ``texts`` "reference": the references of ``queries``.
    ``method``: same, or names of methods. ``dpo``: also by the DPO-trained variant. ``limit`` takes the first texts,
    languages in turn. ``plan`` only counts. Raises ConfigError without such texts, ModelError for another tokenizer,
    UnknownName, HubError, StoreError.
    """
    part = Shard.parse(shard) if shard else None
    bases = [
        registry.resolve(model, method_kind=prompting.COMPLETION, dpo=trained, on_progress=on_download)
        for trained in ((False, True) if dpo else (False,))
    ]
    if texts == REFERENCE:
        sets = load_queries(lang, queries, dataset=dataset, limit=limit, shard=part, overlay=prompt_dir)
        jobs = [_of_references(base, name, sets, prompt_dir) for base in bases for name in method]
    else:
        kind = prompting.method_spec(texts, overlay=prompt_dir).kind
        writer = registry.resolve(texts_model or model, method_kind=kind, on_progress=on_download)
        stored = store.named(path, "texts_to_score", [writer.sha256, texts, list(lang), dataset]).records()
        if not stored:
            run = f"icl run --model {texts_model or model} --method {texts} --lang {','.join(lang)} --queries FILE"
            raise ConfigError(f"{path} has no answers of {writer.file_name} by {texts}; make them: {run}")
        stored = list(part.take(stored[:limit]) if part else stored[:limit])
        _give_tokens(writer, stored)
        for base in bases:
            if base.info.vocab_sha256 != writer.info.vocab_sha256:
                require_same_tokens(writer.path, base.path, {token for row in stored for token in row["tokens"]})
        jobs = [_of_answers(writer, OWN, stored, prompt_dir)]
        jobs += [_of_answers(base, name, stored, prompt_dir) for base in bases for name in method]
    have = store.ids(path, "scorings", "scoring_id")
    counts = [job.counts(have) for job in jobs]
    if plan:
        return ScoreResult(counts)
    options = EngineOptions(parallel=parallel, gpu_layers=gpu_layers, threads=threads)
    file = attrgetter("model.sha256")
    todo = sorted((job for job in jobs if job.missing(have)), key=file)
    with store.Store(path) as target:
        reasons = Counter(
            scored.finish_reason
            for _, alike in groupby(todo, key=file)
            for scored in _score(target, list(alike), have, options, on_progress, on_note, on_step)
        )
    return ScoreResult(counts, reasons["scored"], reasons["prompt_too_long"])


def _score(
    target: store.Store,
    jobs: Sequence[Job],
    have: set[str],
    options: EngineOptions,
    on_progress: Callable[[ScoreProgress], None],
    on_note: Callable[[str], None],
    on_step: Callable[[ProbeStep], None],
) -> Iterator[Scored]:
    """Score what is missing of ``jobs`` of one file; store each result and yield it."""
    model, run = jobs[0].model, new_run("score", None)
    known = {token for (token,) in target.named("known_tokens", [model.info.vocab_sha256]).rows}
    with Worker(model.path, options.replace(prefix_cache=str(cache_folder() / "prefixes"))) as worker:
        info = worker.info
        run |= {"llama_build": info.llama_build, "cpu_features": info.cpu_features, "n_threads": info.n_threads}
        longest = max(len(request.prompt) for job in jobs for request in job.missing(have))
        how: dict[str, Any] = {"parallel": options.parallel, "prompt_characters": longest}
        setting = setting_for(target, model, worker, **how, on_note=on_note, on_step=on_step)
        shared = {"run_id": run["run_id"], "exact": setting.exact}
        for job in jobs:
            files = ("models", job.model.model_row()), ("gguf_files", job.model.file_row())
            target.put([("runs", run), *files, *job.names.values()])
            missing, total = job.missing(have), len(job.requests)
            on_progress(ScoreProgress(job.label, total - len(missing), total, 0.0))
            began, n_tokens = time.perf_counter(), 0
            for done, scored in enumerate(worker.score(missing, **setting.overrides), total - len(missing) + 1):
                new = [pair for pair in scored.pieces if pair[0] not in known]
                known.update(token for token, _ in new)
                row = {**job.rows[scored.id], **scored_row(scored), **shared}
                target.put([*token_rows(model, new), ("scorings", row)])
                n_tokens += scored.new_tokens
                on_progress(ScoreProgress(job.label, done, total, n_tokens / (time.perf_counter() - began)))
                yield scored


def _of_answers(model: ResolvedModel, method: str, stored: Sequence[Mapping[str, Any]], overlay: Path | None) -> Job:
    """Return the job that scores rows of db/queries/texts_to_score.sql."""
    job = Job(model, method)
    recipes = {} if method in (OWN, SAME) else _recipes(method, {row["language"] for row in stored}, overlay)
    for row in stored:
        text, plain = stored_prompt(row)
        prompt = None
        if recipes:
            query = Query(row["dataset"], row["query_id"], row["language"], row["instruction"], row["split"])
            prompt = recipes[query.language].prompt(query, info=model.info)
            text, plain = prompt.text, prompt.query_at if row["plain_queries"] else None
        request = ScoreRequest(
            "",
            text,
            repetition_penalty=row["repetition_penalty"] or 1.0,
            plain=plain,
            target_tokens=tuple(row["tokens"]),
        )
        named = {name: row[name] for name in ("response_id", "query_key", "language", "retokenised")}
        job.add(request, "answer", row["response_id"], prompt, **named)
    return job


def _of_references(model: ResolvedModel, method: str, sets: Sequence[QuerySet], overlay: Path | None) -> Job:
    """Return the job that scores the references of queries, each after its query's prompt and a space or line break."""
    job = Job(model, method, names={one.queries[0].language: ("datasets", one.row()) for one in sets})
    queries = [query for one in sets for query in one.queries]
    recipes = _recipes(method, {query.language for query in queries}, overlay)
    for query in queries:
        job.names[query.key] = ("queries", query.row())
        prompt = recipes[query.language].prompt(query, info=model.info)
        for place, reference in enumerate(query.expected.get("reference", ())):
            request = ScoreRequest("", prompt.text, target=reference, repetition_penalty=1.0)
            named = {"query_key": query.key, "language": query.language, "choice": place, "text": reference}
            job.add(request, REFERENCE, [query.key, reference], prompt, **named)
    if not job.requests:
        raise ConfigError("these queries have no references; give the field with --map reference=COLUMN")
    return job


def _recipes(method: str, languages: set[str], overlay: Path | None) -> dict[str, Recipe]:
    """Return the recipe of a method in each language."""
    spec = prompting.method_spec(method, overlay=overlay)
    return {language: Recipe(spec, language, overlay=overlay) for language in languages}


def _give_tokens(writer: ResolvedModel, stored: Sequence[dict[str, Any]]) -> None:
    """Cut the answers that were stored without tokens by the tokenizer of the file that wrote them."""
    without = [row["raw_text"] for row in stored if not row["tokens"]]
    cut = iter(tokenize(writer.path, without, add_special=False) if without else ())
    for row in stored:
        row["retokenised"] = not row["tokens"]
        row["tokens"] = row["tokens"] or next(cut)
