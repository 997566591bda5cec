"""Score stored answers, or the references of queries: how probable each token is under given weights and prompts.

An answer is scored by the file that wrote it after its own prompt (own), by the base file after the same prompt (same),
and by the base file after the prompt of any method. Its token ids are appended to the prompt's, so every prompt scores
the same tokens. Each result is stored as it comes under a key known before, so a killed command resumes.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

from icl_local import prompting, store
from icl_local.engine import EngineOptions, ProbeStep, Scored, ScoreRequest, Worker, tokenize
from icl_local.exceptions import ConfigError, refuse
from icl_local.identity import key_of, sha256_text
from icl_local.prompting import Query, QuerySet, Recipe
from icl_local.running.cell_run import used_by
from icl_local.running.choices import asked_row, scored_row, token_rows
from icl_local.running.engines import Engines
from icl_local.running.query_sets import load_queries
from icl_local.running.run import new_run
from icl_local.running.shard import Shard
from icl_local.running.verify import stored_prompt
from icl_local.store import Record
from icl_local.weights import OnBytes, ResolvedModel, registry, require_same_tokens
from icl_local.wording import shell, with_dpo

OWN, SAME, REFERENCE = "own", "same", "reference"
COLUMNS = ("model", "prompt", "texts", "missing", "tokens")
OnScored = Callable[[str, int, int, float], None]  # model and prompt, texts scored, texts, tokens per second


@dataclass(frozen=True)
class ScoreResult:
    """``rows``: COLUMNS of each model and prompt before the call; tokens are those of the missing texts.

    ``n_new`` texts were scored now, ``n_too_long`` exceed the context.
    """

    rows: list[tuple[object, ...]]
    n_new: int = 0
    n_too_long: int = 0


@dataclass(frozen=True)
class Text:
    """A text to score, identified by ``of`` among its kind.

    ``request`` scores it after its own prompt; that of a reference has no prompt, which a method makes.
    """

    kind: str
    of: object
    query: Query
    request: ScoreRequest
    columns: dict[str, object]


class Job:
    """What ``model`` scores after the prompts of ``method``: ``rows`` by scoring_id, and the rows of new prompts.

    ``missing``: requests whose key is not in ``have``.
    """

    def __init__(
        self, model: ResolvedModel, method: str, texts: Iterable[Text], overlay: Path | None, have: set[str]
    ) -> None:
        self.model, self.method, self.model_label = model, method, with_dpo(model.label, model.dpo)
        self.missing: list[ScoreRequest] = []
        self.rows: dict[str, dict[str, object]] = {}
        self.prompts: dict[str, Record] = {}
        recipes: dict[str, Recipe] = {}
        for text in texts:
            request, language = text.request, text.query.language
            columns = {"query_key": text.query.key, "language": language, **text.columns}
            if method not in (OWN, SAME):
                if language not in recipes:
                    recipes[language] = Recipe(method, language, overlay=overlay)
                prompt = recipes[language].prompt(text.query, info=model.info)
                request = replace(request, prompt=prompt.text, plain=prompt.query_at if request.plain else None)
                self.prompts[prompt.prompt_id] = "prompts", prompt.row()
                columns["prompt_id"] = prompt.prompt_id
            key, row = asked_row(text.kind, text.of, model, method, sha256_text(request.prompt))
            if key not in self.rows and key not in have:  # a query may have a reference twice
                self.missing.append(replace(request, id=key))
            self.rows.setdefault(key, {**row, "penalty": request.repetition_penalty, **columns})

    @property
    def label(self) -> str:
        """Return model and method for people."""
        return f"{self.model_label} · {self.method}"

    def counts(self) -> tuple[object, ...]:
        """Return COLUMNS."""
        tokens = sum(request.max_tokens for request in self.missing)
        return self.model_label, self.method, len(self.rows), len(self.missing), tokens


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
    columns: Mapping[str, str] | None = None,
    dataset: str | None = None,
    limit: int | None = None,
    shard: str | None = None,
    plan: bool = False,
    parallel: int | None = None,
    gpu_layers: int | None = None,
    threads: int | None = None,
    prompt_dir: Path | None = None,
    on_progress: OnScored = lambda label, done, total, rate: None,
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
    refuse({
        "every answer is scored by its own file; leave own out of --method": OWN in method,
        "references have no prompt of their own; name a method, such as --method zero-shot":
            texts == REFERENCE and SAME in method,
    })  # fmt: skip
    part, have = Shard.parse(shard) if shard else None, store.ids(path, "scorings", "scoring_id")
    bases = [
        registry.resolve(model, method_kind=prompting.COMPLETION, dpo=trained, on_progress=on_download)
        for trained in ((False, True) if dpo else (False,))
    ]
    if texts == REFERENCE:
        sets = load_queries(
            lang, queries, dataset=dataset, limit=limit, shard=part, columns=columns, overlay=prompt_dir
        )
        to_score, jobs = list(_references(sets)), []
        rows: list[Record] = [("datasets", one.row()) for one in sets]
        rows += [("queries", query.row()) for one in sets for query in one.queries]
        if not to_score:
            raise ConfigError("these queries have no references; give the field with --map reference=COLUMN")
    else:
        kind = prompting.method_spec(texts, overlay=prompt_dir).kind
        author = registry.resolve(texts_model or model, method_kind=kind, on_progress=on_download)
        stored = store.named(path, "texts_to_score", [author.sha256, texts, list(lang), dataset]).records()
        if not stored:
            names = f"--model {shell(texts_model or model)} --method {shell(texts)} --lang {','.join(lang)}"
            make = f"icl run {names} --queries FILE"
            raise ConfigError(f"{path} has no answers of {author.file_name} by {texts}; make them: {make}")
        stored = list(part.take(stored[:limit]) if part else stored[:limit])
        _give_tokens(author, stored)
        for base in bases:
            if base.info.vocab_sha256 != author.info.vocab_sha256:
                require_same_tokens(author.path, base.path, {token for row in stored for token in row["tokens"]})
        to_score, rows = list(map(_answer, stored)), []
        jobs = [Job(author, OWN, to_score, prompt_dir, have)]
    jobs += [Job(base, name, to_score, prompt_dir, have) for base in bases for name in method]
    counts = [job.counts() for job in jobs]
    if plan:
        return ScoreResult(counts)
    options = EngineOptions(parallel=parallel, gpu_layers=gpu_layers, threads=threads)
    run, reasons = new_run("score", None), Counter[str]()
    todo = sorted((job for job in jobs if job.missing), key=attrgetter("model.sha256"))
    with store.Store(path) as target, closing(Engines(options, target)) as engine:
        if todo:
            target.put(rows)
        for job in todo:
            alike = [one for one in todo if one.model.sha256 == job.model.sha256]  # one probe for a file's jobs
            longest = max((len(request.prompt) for one in alike for request in one.missing), default=0)
            waiting = partial(on_note, f"{job.label}: another process scores these texts; waiting for it")
            with store.only_one(path, f"score-{key_of(kind='lock', scorings=sorted(job.rows))}", waiting):
                have = store.ids(path, "scorings", "scoring_id")
                job.missing = [request for request in job.missing if request.id not in have]
                if not job.missing:
                    continue
                worker = engine.worker(job.model)
                assert isinstance(worker, Worker)
                setting = engine.setting(job.model, worker, prompt_characters=longest, on_note=on_note, on_step=on_step)
                run |= used_by(worker.info)
                files = ("models", job.model.model_row()), ("gguf_files", job.model.file_row())
                target.put([("runs", run), *files, *job.prompts.values()])
                shared = {"run_id": run["run_id"], "exact": setting.exact}
                with closing(worker.score(job.missing, **setting.overrides)) as made:
                    reasons += _store(target, job, made, shared, on_progress)
    return ScoreResult(counts, reasons["scored"], reasons["prompt_too_long"])


def _store(
    target: store.Store,
    job: Job,
    made: Iterable[Scored],
    shared: Mapping[str, object],
    on_progress: OnScored,
) -> Counter[str]:
    """Store each result of a job as it comes; return the number by finish_reason."""
    n_before = len(job.rows) - len(job.missing)
    on_progress(job.label, n_before, len(job.rows), 0.0)
    reasons: Counter[str] = Counter()
    began, n_tokens = time.perf_counter(), 0
    for done, scored in enumerate(made, n_before + 1):
        row = {**job.rows[scored.id], **scored_row(scored), **shared}
        target.put([*token_rows(job.model, scored.pieces), ("scorings", row)])
        n_tokens += scored.new_tokens
        reasons[scored.finish_reason] += 1
        on_progress(job.label, done, len(job.rows), n_tokens / (time.perf_counter() - began))
    return reasons


def _answer(row: Mapping[str, Any]) -> Text:
    """Return the answer of a row of db/queries/texts_to_score.sql."""
    query = Query(row["dataset"], row["query_id"], row["language"], row["instruction"], row["split"])
    prompt, plain = stored_prompt(row)
    penalty, tokens = row["repetition_penalty"] or 1.0, tuple(row["tokens"])
    request = ScoreRequest("", prompt, repetition_penalty=penalty, plain=plain, target_tokens=tokens)
    columns = {name: row[name] for name in ("query_key", "response_id", "retokenised")}
    return Text("answer", row["response_id"], query, request, columns)


def _references(sets: Iterable[QuerySet]) -> Iterator[Text]:
    """Yield the references of queries; each is scored after its query's prompt and a space or line break."""
    for query in (query for one in sets for query in one.queries):
        for place, text in enumerate(query.expected.get("reference", ())):
            request = ScoreRequest("", "", target=text, repetition_penalty=1.0)
            yield Text(REFERENCE, [query.key, text], query, request, {"choice": place, "text": text})


def _give_tokens(author: ResolvedModel, stored: Sequence[dict[str, Any]]) -> None:
    """Cut the answers that were stored without tokens by the tokenizer of the file that wrote them."""
    without = [row["raw_text"] for row in stored if not row["tokens"]]
    cut = iter(tokenize(author.path, without, add_special=False) if without else ())
    for row in stored:
        row["retokenised"] = not row["tokens"]
        row["tokens"] = row["tokens"] or next(cut)
