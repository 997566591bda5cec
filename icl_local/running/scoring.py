"""Score stored answers, or the references of queries: how probable each token is under given weights and prompts.

An answer is scored by the file that wrote it after its own prompt (own), by the base file after the same prompt (same),
and by the base file after the prompt of any method. Its token ids are appended to the prompt's, so every prompt scores
the same tokens. Each result is stored as it comes under a key known before, so a killed command resumes.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from icl_local import prompting, store
from icl_local.engine import EngineOptions, Request, tokenize
from icl_local.exceptions import ConfigError, refuse
from icl_local.identity import sha256_text
from icl_local.prompting import Query, QuerySet, Recipe
from icl_local.running.cell_run import Event
from icl_local.running.choices import Spelled, asked_row, n_bytes, scored_rows
from icl_local.running.engines import Engines, new_run
from icl_local.running.query_sets import load_queries
from icl_local.running.shard import Shard
from icl_local.running.verify import stored_prompt
from icl_local.store import Record, Row
from icl_local.weights import OnBytes, ResolvedModel, registry, require_same_tokens
from icl_local.wording import shell, with_dpo

OWN, SAME, REFERENCE = "own", "same", "reference"
COLUMNS = ("model", "prompt", "texts", "missing", "tokens")
Text = tuple[Query, Request, Row]  # to score after its own prompt (a reference has none), with its own columns


class Job:
    """What ``model`` scores after the prompts of ``method``: rows by scoring_id, and requests of those not in ``have``.

    ``prompts``: the rows of new prompts. ``made``: the number of texts scored now, by finish_reason.
    """

    def __init__(
        self, model: ResolvedModel, method: str, texts: Iterable[Text], overlay: Path | None, have: set[str]
    ) -> None:
        self.model, self.named = model, (with_dpo(model.label, model.dpo), method)
        self.label = " · ".join(self.named)
        self.missing: list[Request] = []
        self.rows: dict[str, Row] = {}
        self.prompts: dict[str, Record] = {}
        self.made: Counter[str] = Counter()
        recipe = cache(partial(Recipe, method, overlay=overlay))  # of a language
        for query, request, columns in texts:
            prompt_id = None
            if method not in (OWN, SAME):
                prompt = recipe(query.language).prompt(query, info=model.info)
                request = replace(request, prompt=prompt.text, plain=prompt.query_at if request.plain else None)
                prompt_id = prompt.prompt_id
                self.prompts[prompt_id] = "prompts", prompt.row()
            row = asked_row(query, model, method, sha256_text(request.prompt), prompt_id=prompt_id, **columns)
            key = row["scoring_id"]
            if key not in self.rows and key not in have:  # a query may have a reference twice
                self.missing.append(replace(request, id=key))
            self.rows.setdefault(key, {**row, "penalty": request.repetition_penalty})

    def counts(self) -> tuple[str, str, int, int, int]:
        """Return COLUMNS, as they were before the call; tokens are those of the missing texts."""
        n_tokens = sum(request.max_tokens for request in self.missing)
        return *self.named, len(self.rows), len(self.missing), n_tokens

    def score(self, engines: Engines, have: set[str], longest: int, on_event: Callable[[Event], None]) -> None:
        """Score what is missing, and store each result as it comes."""
        missing, n_tokens = self.missing, 0

        def report(kind: str, rate: float = 0.0, **more: Any) -> None:
            done = len(self.rows) - len(missing) + self.made.total()
            on_event(Event(kind, self, done, len(self.rows), rate, **more))

        waiting = partial(report, "note", message="another process scores these texts; waiting for it")
        with engines.only_one("scorings", self.rows, have, waiting) as have:
            missing = [request for request in self.missing if request.id not in have]
            if not missing:
                return
            worker: Any = engines.worker(self.model)
            setting = engines.setting(self.model, worker, longest, report)
            files = ("models", self.model.model_row()), ("gguf_files", self.model.file_row())
            engines.writer.put([("runs", engines.run_row), *files, *self.prompts.values()])
            shared = {"run_id": engines.run_row["run_id"], "exact": setting.exact}
            report("progress")
            began = time.perf_counter()
            spelled: Spelled = set()
            with closing(worker.generate(missing, **setting.overrides)) as made:
                for scored in made:
                    row = {**self.rows[scored.id], **shared}
                    engines.writer.put([*scored_rows(row, scored, self.model, spelled)])
                    n_tokens += scored.new_tokens
                    self.made[scored.finish_reason] += 1
                    report("progress", n_tokens / (time.perf_counter() - began))


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
    prompt_dir: Path | None = None,
    on_event: Callable[[Event], None] = lambda event: None,
    on_download: OnBytes | None = None,
    **engine: Any,
) -> list[Job]:
    """Score answers that ``texts_model`` gave by the method ``texts``: by its own file, and by ``model``'s base file.

    ``texts_model`` None: ``model``'s own variant for that method. ``texts`` "reference": the references of ``queries``.
    ``method``: same, or names of methods. ``dpo``: also by the DPO-trained variant. ``limit`` takes the first texts,
    languages in turn. ``plan`` only counts. ``engine``: fields of EngineOptions. Raises ConfigError without such texts,
    ModelError for another tokenizer, UnknownName, HubError, StoreError.
    """
    refuse({
        "every answer is scored by its own file; leave own out of --method": OWN in method,
        "references have no prompt of their own; name a method, such as --method zero-shot":
            texts == REFERENCE and SAME in method,
    })  # fmt: skip
    part = Shard.parse(shard) if shard else Shard()
    have = store.ids(path, "scorings", "scoring_id")
    resolve = partial(registry.resolve, on_progress=on_download)
    variants = (False, True) if dpo else (False,)
    bases = [resolve(model, method_kind=registry.COMPLETION, dpo=trained) for trained in variants]
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
        author = resolve(texts_model or model, method_kind=kind)
        stored = store.named(path, "texts_to_score", [author.sha256, texts, list(lang), dataset]).records()
        if not stored:
            names = f"--model {shell(texts_model or model)} --method {shell(texts)} --lang {','.join(lang)}"
            make = f"icl run {names} --queries FILE"
            raise ConfigError(f"{path} has no answers of {author.file_name} by {texts}; make them: {make}")
        to_score, rows = _answers(author, part.take(stored[:limit])), []
        for base in bases:
            if base.info.vocab_sha256 != author.info.vocab_sha256:
                ids: set[Any] = {token for _, request, _ in to_score for token in request.target or ()}
                require_same_tokens(author.path, base.path, ids)
        jobs = [Job(author, OWN, to_score, prompt_dir, have)]
    jobs += [Job(base, name, to_score, prompt_dir, have) for base in bases for name in method]
    todo = [job for job in jobs if job.missing]
    if plan or not todo:
        return jobs
    options = EngineOptions(**engine)
    with store.Store(path) as target, closing(Engines(options, target, new_run("score"))) as engines:
        target.put(rows)
        for job in todo:
            alike = [one for one in todo if one.model.sha256 == job.model.sha256]  # one probe for a file's jobs
            longest = max(len(request.prompt) for one in alike for request in one.missing)
            job.score(engines, have, longest, on_event)
    return jobs


def _answers(author: ResolvedModel, stored: Sequence[Row]) -> list[Text]:
    """Return the answers of rows of db/queries/texts_to_score.sql; the author's tokenizer cuts those without tokens."""
    without = [row["raw_text"] for row in stored if row["retokenised"]]
    cut = iter(tokenize(author.path, without, add_special=False) if without else ())
    found = []
    for row in stored:
        query = Query(row["dataset"], row["query_id"], row["language"], row["instruction"], row["split"])
        (prompt, plain), penalty = stored_prompt(row), row["repetition_penalty"] or 1.0
        tokens = next(cut) if row["retokenised"] else row["tokens"]
        request = Request("", prompt, len(tokens), repetition_penalty=penalty, plain=plain, target=tuple(tokens))
        columns = {name: row[name] for name in ("query_key", "response_id", "retokenised")}
        found.append((query, request, columns | {"kind": "answer"}))
    return found


def _references(sets: Iterable[QuerySet]) -> Iterator[Text]:
    """Yield the references of queries; each is scored after its query's prompt and a space or line break."""
    for query in (query for one in sets for query in one.queries):
        for place, text in enumerate(query.expected.get("reference", ())):
            request = Request("", "", n_bytes(text), repetition_penalty=1.0, target=text)
            yield query, request, {"kind": REFERENCE, "choice": place, "text": text}
