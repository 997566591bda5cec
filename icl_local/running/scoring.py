"""Score stored answers, or the references of queries: how probable each token is under given weights and prompts.

An answer is scored by the file that wrote it after its own prompt (own), by the base file after the same prompt (same),
and by the base file after the prompt of any method. Its token ids are appended to the prompt's, so every prompt scores
the same tokens. Each result is stored as it comes under a key known before, so a killed command resumes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from icl_local import prompting, store
from icl_local.engine import DecodeProgress, EngineOptions, ProbeStep, Scored, ScoreRequest, Worker, tokenize
from icl_local.exceptions import ConfigError
from icl_local.identity import scoring_key, sha256_text
from icl_local.prompting import Prompt, Query, Recipe
from icl_local.running.cells import load_queries
from icl_local.running.choices import scored_row, token_rows
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

    ``names``: rows that these refer to.
    """

    model: ResolvedModel
    method: str
    requests: dict[str, ScoreRequest] = field(default_factory=dict)
    rows: dict[str, dict[str, object]] = field(default_factory=dict)
    names: list[tuple[str, dict[str, object]]] = field(default_factory=list)

    @property
    def label(self) -> str:
        """Return model and method for people."""
        return f"{self.model.label}{' DPO' if self.model.dpo else ''} · {self.method}"

    def add(self, request: ScoreRequest, kind: str, of: object, prompt: Prompt | None = None, **row: object) -> None:
        """Add a text, identified by ``of``; ``prompt`` None: the answer's own."""
        sha256 = sha256_text(request.prompt)
        key = scoring_key(kind=kind, weights=self.model.sha256, method=self.method, prompt_sha256=sha256, text=of)
        self.requests[key] = replace(request, id=key)
        self.rows[key] = {
            "scoring_id": key,
            "kind": kind,
            "model_id": self.model.model_id,
            "gguf_sha256": self.model.sha256,
            "method": self.method,
            "prompt_id": prompt and prompt.prompt_id,
            "prompt_sha256": sha256,
            "penalty": request.repetition_penalty,
            "retokenised": False,
            **row,
        }
        if prompt is not None and ("prompts", prompt.row()) not in self.names[-1:]:
            self.names.append(("prompts", prompt.row()))

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
        names = [("datasets", one.row()) for one in sets]
        every = [query for one in sets for query in one.queries]
        jobs = [_of_references(base, name, every, names, prompt_dir) for base in bases for name in method]
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
    options, reasons = EngineOptions(parallel=parallel, gpu_layers=gpu_layers, threads=threads), list[str]()
    with store.Store(path) as target:
        todo = sorted((job for job in jobs if job.missing(have)), key=_file)
        for _, alike in groupby(todo, key=_file):
            for scored in _score(target, list(alike), have, options, on_progress, on_note, on_step):
                reasons.append(scored.finish_reason)
    return ScoreResult(counts, reasons.count("scored"), len(reasons) - reasons.count("scored"))


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
            target.put(
                [("runs", run), ("models", job.model.model_row()), ("gguf_files", job.model.file_row()), *job.names]
            )
            missing, began = job.missing(have), time.perf_counter()
            before = len(job.requests) - len(missing)

            def report(now: DecodeProgress, job: Job = job, before: int = before, began: float = began) -> None:
                rate = now.new_tokens / max(1e-9, time.perf_counter() - began)
                on_progress(ScoreProgress(job.label, before + now.done, len(job.requests), rate))

            on_progress(ScoreProgress(job.label, before, len(job.requests), 0.0))
            for scored in worker.score(missing, on_progress=report, **setting.overrides):
                new = [pair for pair in scored.pieces if pair[0] not in known]
                known.update(token for token, _ in new)
                target.put(
                    [*token_rows(model, new), ("scorings", {**job.rows[scored.id], **scored_row(scored), **shared})]
                )
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


def _of_references(
    model: ResolvedModel,
    method: str,
    queries: Sequence[Query],
    names: Sequence[tuple[str, dict[str, object]]],
    overlay: Path | None,
) -> Job:
    """Return the job that scores the references of queries, each after its query's prompt and a space or line break."""
    job = Job(model, method, names=[*names, *(("queries", query.row()) for query in queries)])
    recipes = _recipes(method, {query.language for query in queries}, overlay)
    for query in queries:
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
    without = [row for row in stored if not row["tokens"]]
    found = tokenize(writer.path, [row["raw_text"] for row in without], add_special=False) if without else []
    for row in stored:
        row["retokenised"] = not row["tokens"]
    for row, tokens in zip(without, found, strict=True):
        row["tokens"] = tokens


def _file(job: Job) -> str:
    return job.model.sha256
