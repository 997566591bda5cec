"""What a study will take, said before it runs: tokens, hours, memory, disk, the judge's money, and what is missing.

No weights are loaded. Tokens are exact where a model's file is here (only its vocabulary is read), each shared prefix
counted once; everything else is an estimate, from this database's own rows where there are some, and marked as such.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from icl_local import prompting, store
from icl_local.engine import DEFAULT_PARALLEL, available_memory, kv_bytes_per_token, tokenize
from icl_local.exceptions import IclError
from icl_local.judging import TOKENS_PER_ASPECT, TOKENS_PER_VERDICT, ApiJudge, open_judge, open_templates
from icl_local.prompting import Query
from icl_local.running import Cell, CellPlan, Shard
from icl_local.study.spec import JudgeSpec, Study, Wanted
from icl_local.study.study import prepare, printed_name, variant_of
from icl_local.weights import ResolvedModel, registry

# Guesses, used where neither files nor earlier rows say better; docs/measurements.md has their sources.
CHARACTERS_PER_TOKEN = {"en": 4.0}
OTHER_CHARACTERS_PER_TOKEN = 3.2
QUERY_CHARACTERS = 113
ANSWER_TOKENS = 310
CHAT_FRAME_TOKENS = 40
BYTES_PER_WEIGHT = 1.07  # Q8_0
BYTES_A_RESPONSE = 12_000  # spool and database, text kept twice
PREFILL_PER_FLOP = 1.1  # weights x tokens per second, over the operations per second of a float32 matrix product
NEW_PER_FLOP = 0.4
_LINES = 3  # before the query, that are tokenised with each query again


@dataclass(frozen=True)
class CellEstimate:
    """One cell. ``prompt_tokens`` of the model's tokenizer; ``prefilled_tokens`` with the shared prefix once; what is
    still to be made: ``new_tokens``, ``seconds``. ``basis`` says what is exact, seen or guessed; ``missing`` why it
    cannot run yet."""

    wanted: Wanted
    n_queries: int
    n_done: int
    prompt_tokens: int
    prefilled_tokens: int
    new_tokens: int
    seconds: float
    memory_bytes: int
    file_bytes: int
    exact_tokens: bool
    seen_outputs: bool
    missing: str | None


@dataclass(frozen=True)
class JudgeEstimate:
    """One judge over all answers of the study that it has not judged; ``usd`` None where no price is stated."""

    judge: str
    judgments: int
    prompt_tokens: int
    completion_tokens: int
    usd: float | None
    note: str = ""


@dataclass(frozen=True)
class StudyPlan:
    """The whole; ``speed`` says where hours come from, ``to_make`` the commands that make what is missing."""

    cells: tuple[CellEstimate, ...]
    judges: tuple[JudgeEstimate, ...]
    speed: str
    disk_bytes: int
    available_memory: int
    to_make: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """Of all cells, one after the other on this machine."""
        return sum(cell.seconds for cell in self.cells)


def plan_study(
    path: Path,
    study: Study,
    *,
    shard: Shard | None = None,
    models_file: Path | None = None,
    parallel: int | None = None,
) -> StudyPlan:
    """The plan of ``study`` for the database ``path``, which need not exist. Raises StoreError."""
    ready, missing = prepare(study, study.cells, shard=shard, models_file=models_file)
    reasons = dict(missing)
    cells = dict(ready)
    seen = _Seen(path)
    speed = _Speed(seen)
    sets = {language: _queries(study, language, shard) for language in {one.language for one in study.cells}}
    tokens = _exact_tokens(study, cells)
    estimates = []
    for one in study.cells:
        queries, total = sets[one.language]
        prompt, prefilled = tokens.get(one) or _guessed_tokens(one, queries, total)
        n_done = seen.done(study, one, cells.get(one), shard, models_file)
        share = 1 - min(1.0, n_done / total)
        mean_new, was_seen = seen.new_tokens(printed_name(one.model, models_file), one)
        new = round(min(mean_new, study.decoding.max_tokens) * total * share)
        weights, file_bytes, memory = _size(one, cells.get(one), study, prompt / total, models_file, parallel)
        estimates.append(
            CellEstimate(
                wanted=one,
                n_queries=total,
                n_done=n_done,
                prompt_tokens=prompt,
                prefilled_tokens=prefilled,
                new_tokens=new,
                seconds=speed.seconds(cells.get(one), weights, round(prefilled * share), new),
                memory_bytes=memory,
                file_bytes=file_bytes,
                exact_tokens=one in tokens,
                seen_outputs=was_seen,
                missing="; ".join(reasons.get(one, ())) or None,
            )
        )
    n_missing = sum(cell.n_queries - min(cell.n_done, cell.n_queries) for cell in estimates)
    files = {(cell.wanted.model, variant_of(cell.wanted)): cell.file_bytes for cell in estimates if cell.missing}
    return StudyPlan(
        cells=tuple(estimates),
        judges=tuple(_judge(spec, estimates, sets) for spec in study.judges),
        speed=speed.told,
        disk_bytes=n_missing * BYTES_A_RESPONSE + sum(files.values()),
        available_memory=available_memory(),
        to_make=_to_make(study, reasons, models_file),
    )


class _Seen:
    """What the database has; nothing where there is none."""

    def __init__(self, path: Path) -> None:
        self._path = path
        there = path.exists() or store.spool_folder(path).exists()
        self._outputs = store.named(path, "plan_outputs").rows if there else []
        self.speeds = store.named(path, "plan_speed").rows if there else []
        self._have = store.ids(path, "responses", "response_id") if there else set()
        self._progress = store.named(path, "plan_done").rows if there else []

    def new_tokens(self, label: str, one: Wanted) -> tuple[float, bool]:
        """Mean new tokens of the cell's own answers, else of its method and language, its method, a guess."""
        key = (label, one.method, one.language, one.dpo)
        for n_parts in (4, 3, 2, 1):
            wanted = {4: key, 3: key[:3], 2: key[1:3], 1: key[1:2]}[n_parts]
            rows = [
                (n, mean)
                for *names, n, mean in self._outputs
                if wanted == {4: tuple(names), 3: tuple(names[:3]), 2: tuple(names[1:3]), 1: tuple(names[1:2])}[n_parts]
            ]
            if rows:
                return sum(n * mean for n, mean in rows) / sum(n for n, _ in rows), True
        return ANSWER_TOKENS, False

    def done(self, study: Study, one: Wanted, cell: Cell | None, shard: Shard | None, models_file: Path | None) -> int:
        """Answers there are: by key where the file is here, else by name."""
        if not self._have:
            return 0
        if cell is not None:
            return len(CellPlan(cell, study.decoding, None).keys & self._have)
        label = printed_name(one.model, models_file)
        key = (label, one.method, one.language, one.dpo)
        counts = [
            n for *names, dataset, n in self._progress if tuple(names) == key and study.dataset in (None, dataset)
        ]
        return max(counts, default=0) // (shard.of if shard else 1)


class _Speed:
    """Weights times tokens per second: of this database's own runs, else from timing a matrix product."""

    def __init__(self, seen: _Seen) -> None:
        self._by_file = {sha: (prefill, new) for sha, _, prefill, new in seen.speeds if prefill and new}
        rates = [(parameters * prefill, parameters * new) for _, parameters, prefill, new in seen.speeds
                 if parameters and prefill and new]  # fmt: skip
        if rates:
            self._prefill = statistics.median(rate for rate, _ in rates)
            self._new = statistics.median(rate for _, rate in rates)
            self.told = f"measured in this database's runs of {len(rates)} files, scaled by the number of weights"
        else:
            flops = _flops()
            self._prefill, self._new = flops * PREFILL_PER_FLOP, flops * NEW_PER_FLOP
            self.told = (
                f"a guess from a matrix product timed just now ({flops / 1e9:.0f} GFLOP/s), good to a factor of 3"
            )

    def seconds(self, cell: Cell | None, weights: int, prefill_tokens: int, new_tokens: int) -> float:
        """Of a cell on this machine."""
        known = self._by_file.get(cell.gguf_sha256 or "") if cell else None
        prefill, new = known or (self._prefill / max(1, weights), self._new / max(1, weights))
        return float(prefill_tokens / prefill + new_tokens / new)


def _queries(study: Study, language: str, shard: Shard | None) -> tuple[Sequence[Query], int]:
    """The queries that are here, and how many there will be."""
    try:
        found = study.query_set(language, shard=shard).queries
        return found, len(found)
    except IclError:
        expected = min(n for n in (study.n_queries or 1000, study.sample, study.limit) if n is not None)
        return (), max(1, expected // (shard.of if shard else 1))


def _exact_tokens(study: Study, cells: Mapping[Wanted, Cell]) -> dict[Wanted, tuple[int, int]]:
    """(prompt tokens, tokens to prefill) of cells whose file is here; cells of one file read its vocabulary once."""
    by_file: dict[Path, list[Wanted]] = {}
    for one, cell in cells.items():
        by_file.setdefault(cell.model.path, []).append(one)
    tokens = {}
    for path, wanted in by_file.items():
        texts: list[str] = []
        shapes = []
        for one in wanted:
            prompts = [prompt.text for _, prompt in CellPlan(cells[one], study.decoding, None).by_key.values()]
            # A tokenizer splits at line ends, so what stands before the lines next to the query is tokenised only once.
            start = _common(prompts)
            for _ in range(_LINES):
                start = max(0, prompts[0].rfind("\n", 0, start))
            shapes.append((one, len(texts), len(prompts)))
            texts += [prompts[0], *(prompt[start:] for prompt in prompts)]
        counts = [len(ids) for ids in tokenize(path, texts)]
        for one, first, n in shapes:
            own = counts[first + 1 : first + 1 + n]
            prefix = counts[first] - own[0]
            tokens[one] = n * prefix + sum(own), prefix + sum(own)
    return tokens


def _common(prompts: Sequence[str]) -> int:
    """Length of the prefix that all prompts share, in characters."""
    first, last = min(prompts), max(prompts)
    return next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))


def _guessed_tokens(one: Wanted, queries: Sequence[Query], total: int) -> tuple[int, int]:
    a_token = CHARACTERS_PER_TOKEN.get(one.language, OTHER_CHARACTERS_PER_TOKEN)
    asked = sum(len(query.instruction) for query in queries) or QUERY_CHARACTERS * total
    method = prompting.method_spec(one.method)
    if method.kind == prompting.CHAT:
        tokens = round(asked / a_token) + CHAT_FRAME_TOKENS * total
        return tokens, tokens
    probe = Query("plan", "0", one.language, "", "multi")
    prompt = prompting.build(probe, method=one.method, language=one.language)
    block = len(prompt.head) - (prompt.head.rfind("\n#") + 1) if "\n#" in prompt.head else len(prompt.head)
    own = round((asked + total * (block + len(prompt.tail or ""))) / a_token)
    prefix = round((len(prompt.head) - block) / a_token)
    return total * prefix + own, prefix + own


def _size(
    one: Wanted, cell: Cell | None, study: Study, prompt_tokens: float, models_file: Path | None, parallel: int | None
) -> tuple[int, int, int]:
    """(weights, bytes of the file, bytes of memory); without the file a Q8_0 one is assumed, its KV cache left out."""
    if cell is not None and isinstance(cell.model, ResolvedModel):
        info = cell.model.info
        kv = kv_bytes_per_token(info) * round(prompt_tokens + study.decoding.max_tokens)
        return info.parameters, info.bytes, info.bytes + kv * (parallel or DEFAULT_PARALLEL)
    family = registry.load_registry(models_file).get(one.model)
    weights = family.parameters if family and family.parameters else 0
    size = round(weights * BYTES_PER_WEIGHT)
    return weights, size, size


def _judge(
    spec: JudgeSpec, cells: Sequence[CellEstimate], sets: Mapping[str, tuple[Sequence[Query], int]]
) -> JudgeEstimate:
    """All answers of the study: those there are and those to come."""
    templates = open_templates(spec.variant)
    judgments = prompt_tokens = completion_tokens = 0
    for cell in cells:
        queries, total = sets[cell.wanted.language]
        asked = sum(len(query.instruction) for query in queries) / len(queries) if queries else QUERY_CHARACTERS
        left = max(1, cell.n_queries - cell.n_done)
        answer = 4 * (cell.new_tokens / left if cell.new_tokens else ANSWER_TOKENS)
        n_safety = sum(query.split == "safety" for query in queries) if queries else total // 5
        for split, n in (("multi", total - n_safety), ("safety", n_safety)):
            template = templates.get(split=split, language=cell.wanted.language)
            judgments += n * spec.repeats
            prompt_tokens += round(n * spec.repeats * (len(template.text) + asked + answer) / 4)
            completion_tokens += n * spec.repeats * (TOKENS_PER_VERDICT + TOKENS_PER_ASPECT * len(template.aspects))
    try:
        judge = open_judge(spec.judge, needs_key=False) if spec.judge.startswith("openai:") else None
    except IclError as error:
        return JudgeEstimate(spec.judge, judgments, prompt_tokens, completion_tokens, None, str(error))
    price = judge.client.price if isinstance(judge, ApiJudge) else None
    if price is None:
        note = "no price is stated for it" if judge else "local: no money, about as long as the cells"
        return JudgeEstimate(spec.judge, judgments, prompt_tokens, completion_tokens, None, note)
    usd = price.usd(prompt_tokens, completion_tokens)
    note = f"${price.usd(prompt_tokens, completion_tokens, batch=True):.2f} with --batch; prices of {price.as_of}"
    return JudgeEstimate(spec.judge, judgments, prompt_tokens, completion_tokens, usd, note)


def _to_make(study: Study, reasons: Mapping[Wanted, tuple[str, ...]], models_file: Path | None) -> tuple[str, ...]:
    """Each reason once, in the order of the cells; what a DPO step of the study makes is said so."""
    steps = {(training.model, f"{training.variant}-dpo") for training in study.trainings}
    told = []
    for one, why in reasons.items():
        by_step = (one.model, variant_of(one)) in steps
        made = f"{one.model} ({variant_of(one)}) is made by the study's own DPO step"
        told += [made if by_step and "no file for" in reason else reason for reason in why]
    return tuple(dict.fromkeys(told))


def _flops() -> float:
    """float32 operations per second of this machine's matrix products, the best of about half a second."""
    import numpy as np

    matrix = np.ones((768, 768), dtype=np.float32)
    best: float = 0.0
    began = time.perf_counter()
    while time.perf_counter() - began < 0.5:
        started = time.perf_counter()
        matrix @ matrix
        best = max(best, 2.0 * 768**3 / (time.perf_counter() - started))
    return float(best)
