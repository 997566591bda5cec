"""The cost of a study before it runs: tokens, hours, memory, disk, the judge's price, and what is missing.

No weights are loaded. Tokens are exact if a model's file is here (only its vocabulary is read), what prompts share
counted once; everything else is an estimate, from this database's own rows if there are some, and marked as such.
"""

import os
import statistics
import timeit
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from icl_local import prompting, store
from icl_local.engine import DEFAULT_PARALLEL, available_memory, kv_bytes_per_token, tokenize, tokens_to_prefill
from icl_local.exceptions import IclError
from icl_local.judging import (
    ApiJudge,
    Estimate,
    Judge,
    Load,
    RulesJudge,
    Scope,
    estimates,
    open_judge,
    templates_of,
    what_sizes_show,
)
from icl_local.prompting import Query, QuerySet
from icl_local.running import CHOICES, Cell, CellPlan, Shard
from icl_local.study.spec import JudgeSpec, Study, StudyCell
from icl_local.study.study import prepare, stored_responses
from icl_local.weights import ResolvedModel, registry
from icl_local.wording import counted, with_dpo

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
    """The cost of one cell. A query with several draws counts as often in ``n_queries``.

    ``prompt_tokens`` are of the model's tokenizer, ``prefilled_tokens`` count what prompts share once; ``new_tokens``
    and ``seconds`` are of the responses still to be made. ``exact_tokens``: counted, not guessed; ``outputs``: the
    stored responses that ``new_tokens`` come from. ``missing``: why the cell cannot run yet.
    """

    cell: StudyCell
    n_queries: int
    n_done: int
    prompt_tokens: int
    prefilled_tokens: int
    new_tokens: int
    seconds: float
    memory_bytes: int
    file_bytes: int
    exact_tokens: bool
    outputs: str | None
    missing: str | None

    def row(self) -> tuple[object, ...]:
        """Return the fields of ``StudyPlan.columns``."""
        return (
            with_dpo(self.cell.model, self.cell.dpo),
            self.cell.method,
            self.cell.language,
            self.n_queries,
            self.n_done,
            f"{'' if self.exact_tokens else '~'}{self.prompt_tokens:,}",
            f"{'' if self.exact_tokens else '~'}{self.prefilled_tokens:,}",
            f"{'≈' if self.outputs else '~'}{self.new_tokens:,}",
            round(self.seconds / 3600, 2),
            round(self.memory_bytes / 1e9, 1),
            "missing" if self.missing else "ready",
        )


class JudgeEstimate(NamedTuple):
    """One judge over all responses of the study that it has not judged, in figures and in one line.

    ``sizes``: what numbers of queries show.
    """

    total: Estimate
    line: str
    sizes: Sequence[str]


@dataclass(frozen=True)
class StudyPlan:
    """The whole study; ``speed`` says where hours come from, ``to_make`` has the commands that make what is missing."""

    cells: tuple[CellEstimate, ...]
    judges: tuple[JudgeEstimate, ...]
    speed: str
    disk_bytes: int
    to_make: tuple[str, ...]

    columns = ("model", "method", "lang", "queries", "done", "prompt", "prefill", "new", "hours", "GB", "state")

    @property
    def memory_bytes(self) -> int:
        """Return the memory of the largest cell."""
        return max(cell.memory_bytes for cell in self.cells)

    def rows(self) -> list[tuple[object, ...]]:
        """Return a row a cell with the fields of ``columns``, and one of sums."""
        names = ("n_queries", "n_done", "prompt_tokens", "prefilled_tokens", "new_tokens", "seconds")
        n_queries, n_done, *tokens, seconds = (sum(getattr(cell, name) for cell in self.cells) for name in names)
        work = (n_queries, n_done, *(f"{n:,}" for n in tokens), round(seconds / 3600, 2))
        memory, n_ready = round(self.memory_bytes / 1e9, 1), sum(not cell.missing for cell in self.cells)
        sums = ("all", counted(len(self.cells), "cell"), "", *work, memory, f"{n_ready} ready")
        return [*(cell.row() for cell in self.cells), sums]

    def notes(self) -> list[str]:
        """Return the lines below the table: judges, where the numbers come from, memory, disk."""
        seen = Counter(cell.outputs for cell in self.cells)
        free = available_memory()
        fits = "" if self.memory_bytes <= free else "; too much here: take a smaller quantization"
        return [
            *(judge.line for judge in self.judges),
            "~ a guess, a judge's by its earlier verdicts if there are enough; ≈ from responses in this database; "
            "tokens without a mark are the file's own tokenizer's",
            *(f"≈ of {counted(n, 'cell')}: {outputs}" for outputs, n in seen.items() if outputs),
            f"hours: {self.speed}",
            f"memory: {self.memory_bytes / 1e9:.1f} GB at most of {free / 1e9:.1f} GB free{fits}",
            f"disk: about {self.disk_bytes / 1e9:.1f} GB, files to get or make included",
            *dict.fromkeys(line for judge in self.judges for line in judge.sizes),
        ]


def plan_study(
    path: Path,
    study: Study,
    *,
    shard: Shard | None = None,
    parallel: int | None = None,
    prices: Path | None = None,
) -> StudyPlan:
    """Return the plan of ``study`` for the database ``path``, which need not exist. Raises StoreError.

    ``prices``: a price table, read before the built-in one.
    """
    found = study.query_sets(shard=shard)
    cells, reasons = prepare(study, study.cells, found)
    seen = _outputs(path, study)
    stored = stored_responses(path, study, cells, found)
    speed = _Speed(store.named(path, "plan_speed").rows if store.exists(path) else [])
    sets = {language: _queries(study, one, shard) for language, one in found.items()}
    tokens = _exact_tokens(study, cells)
    draws = len(study.decoding.draw_numbers)
    estimates = []
    for one in study.cells:
        queries, n_queries = sets[one.language]
        total = n_queries * draws
        label = registry.printed_name(one.model)
        guessed, own = _guessed_tokens(study, one, queries, n_queries)
        prompt, prefilled = tokens.get(one) or (guessed * draws, own)
        n_done = len(stored[one])
        left = 1 - min(1.0, n_done / total)
        nearest = ((label, one.method, one.language, one.dpo), (None, one.method, one.language, None),
                   (None, one.method, None, None))  # fmt: skip
        mean_new, outputs = next((seen[key] for key in nearest if key in seen), (ANSWER_TOKENS, None))
        answer = 0 if study.decoding.decode == CHOICES else min(mean_new, study.decoding.max_tokens)
        new = round(answer * total * left)
        weights, file_bytes, memory = _size(one, cells.get(one), study, prompt / total, parallel)
        estimates.append(
            CellEstimate(
                cell=one,
                n_queries=total,
                n_done=n_done,
                prompt_tokens=prompt,
                prefilled_tokens=prefilled,
                new_tokens=new,
                seconds=speed.seconds(cells.get(one), weights, round(prefilled * left), new),
                memory_bytes=memory,
                file_bytes=file_bytes,
                exact_tokens=one in tokens,
                outputs=outputs,
                missing="; ".join(reasons.get(one, ())) or None,
            )
        )
    n_missing = sum(estimate.n_queries - min(estimate.n_done, estimate.n_queries) for estimate in estimates)
    files = {(one.cell.model, study.variant(one.cell)): one.file_bytes for one in estimates if one.missing}
    return StudyPlan(
        cells=tuple(estimates),
        judges=tuple(_judge(path, study, spec, estimates, sets, stored, prices) for spec in study.judges),
        speed=speed.source,
        disk_bytes=n_missing * BYTES_A_RESPONSE + sum(files.values()),
        to_make=_to_make(study, reasons),
    )


def _outputs(path: Path, study: Study) -> dict[tuple[Any, ...], tuple[float, str]]:
    """Return the mean new tokens of stored responses, and in words which responses these are.

    They were made under the study's token limit, or under a higher one and taken up to it. Keys are (model, method,
    language, dpo) of a cell, and with None for what all have, of a method and language, and of a method.
    """
    limit = study.decoding.max_tokens
    rows = store.named(path, "plan_outputs", [limit, study.decoding.stop_on_loop]).rows if store.exists(path) else []
    found = {}
    for *key, what, n, n_cut, total in rows:
        words = f"{counted(n, 'response')} of the same {what}, {n_cut:,} of them cut at {limit:,} tokens"
        found[tuple(key)] = float(total / n), words
    return found


class _Speed:
    """Weights times tokens per second, from this database's own runs or from timing a matrix product.

    ``rows``: SHA-256, number of weights, and tokens per second of prefill and of decoding, a file each.
    """

    def __init__(self, rows: Sequence[tuple[Any, ...]]) -> None:
        self._by_file = {sha: (prefill, new) for sha, _, prefill, new in rows if prefill and new}
        rates = [(parameters * prefill, parameters * new) for _, parameters, prefill, new in rows
                 if parameters and prefill and new]  # fmt: skip
        if rates:
            self._prefill = statistics.median(rate for rate, _ in rates)
            self._new = statistics.median(rate for _, rate in rates)
            self.source = f"measured in this database's runs of {counted(len(rates), 'file')}, scaled by the weights"
        else:
            flops = _flops()
            self._prefill, self._new = flops * PREFILL_PER_FLOP, flops * NEW_PER_FLOP
            self.source = (
                f"a guess from a matrix product timed just now ({flops / 1e9:.0f} GFLOP/s), accurate to a factor of 3"
            )

    def seconds(self, cell: Cell | None, weights: int, prefill_tokens: int, new_tokens: int) -> float:
        """Return the seconds of a cell on this machine."""
        known = self._by_file.get(cell.model.sha256 or "") if cell else None
        prefill, new = known or (self._prefill / max(1, weights), self._new / max(1, weights))
        return float(prefill_tokens / prefill + new_tokens / new)


def _queries(study: Study, found: QuerySet | IclError, shard: Shard | None) -> tuple[Sequence[Query], int]:
    """Return the queries that are here, and how many there will be."""
    if not isinstance(found, IclError):
        return found.queries, len(found.queries)
    expected = min(n for n in (study.n_queries or 1000, study.sample, study.limit) if n is not None)
    return (), max(1, expected // (shard.of if shard else 1))


def _exact_tokens(study: Study, cells: Mapping[StudyCell, Cell]) -> dict[StudyCell, tuple[int, int]]:
    """Return (prompt tokens, tokens to prefill) of cells whose file is here; each file's vocabulary is read once."""
    tokens = {}
    for path, of_file in groupby(cells.items(), key=lambda pair: pair[1].model.path):  # prepare has sorted them
        texts: list[str] = []
        shapes = []
        for one, cell in of_file:
            prompts = [prompt.text for _, prompt in CellPlan(cell, study.decoding).by_key.values()]
            # A tokenizer splits at line ends, so the text before the lines next to the query is tokenised only once.
            start = len(os.path.commonprefix(prompts))  # noqa: RUF071  (of strings, not of paths)
            for _ in range(_LINES):
                start = max(0, prompts[0].rfind("\n", 0, start))
            shapes.append((one, len(texts), len(prompts)))
            texts += [prompts[0], *(prompt[start:] for prompt in prompts)]
        ids = tokenize(path, texts)
        for one, first, n in shapes:
            own = ids[first + 1 : first + 1 + n]
            prefix = len(ids[first]) - len(own[0])
            tokens[one] = n * prefix + sum(map(len, own)), prefix + tokens_to_prefill(own)
    return tokens


def _guessed_tokens(study: Study, one: StudyCell, queries: Sequence[Query], total: int) -> tuple[int, int]:
    a_token = CHARACTERS_PER_TOKEN.get(one.language, OTHER_CHARACTERS_PER_TOKEN)
    characters = sum(len(query.instruction) for query in queries) or QUERY_CHARACTERS * total
    if study.kind(one) == registry.CHAT:
        tokens = round(characters / a_token) + CHAT_FRAME_TOKENS * total
        return tokens, tokens
    sample = Query("plan", "0", one.language, "", "multi")
    recipe = prompting.Recipe(one.method, one.language, overlay=study.prompt_dir, pools=study.pools)
    prompt = recipe.prompt(sample)
    block = len(prompt.head) - (prompt.head.rfind("\n#") + 1) if "\n#" in prompt.head else len(prompt.head)
    own = round((characters + total * (block + len(prompt.tail or ""))) / a_token)
    prefix = round((len(prompt.head) - block) / a_token)
    return total * prefix + own, prefix + own


def _size(
    one: StudyCell,
    cell: Cell | None,
    study: Study,
    prompt_tokens: float,
    parallel: int | None,
) -> tuple[int, int, int]:
    """Return (weights, bytes of the file, bytes of memory); without the file that of a Q8_0 one without a KV cache."""
    if cell is not None and isinstance(cell.model, ResolvedModel):
        info = cell.model.info
        kv = kv_bytes_per_token(info) * round(prompt_tokens + study.decoding.max_tokens)
        return info.parameters, info.bytes, info.bytes + kv * (parallel or DEFAULT_PARALLEL)
    family = registry.load_registry().get(one.model)
    weights = family.parameters if family and family.parameters else 0
    size = round(weights * BYTES_PER_WEIGHT)
    return weights, size, size


def _judge(
    path: Path,
    study: Study,
    spec: JudgeSpec,
    cells: Sequence[CellEstimate],
    sets: Mapping[str, tuple[Sequence[Query], int]],
    stored: Mapping[StudyCell, Mapping[tuple[str, int], str]],
    prices: Path | None,
) -> JudgeEstimate:
    """Estimate one judge for the responses of a study: stored ones that it has not judged, and those to come."""
    templates = templates_of(spec.judge, spec.variant, overlay=study.prompt_dir)
    judge: Judge | None = None
    note = ""
    try:
        if not spec.to_fetch():  # else it has judged nothing yet
            judge = open_judge(spec.judge, needs_key=False, prices=prices)
    except IclError as error:
        note = str(error)
    loads = []
    for cell in cells:
        queries, _ = sets[cell.cell.language]
        pairs = [(query, number) for query in queries for number in study.decoding.draw_numbers]
        to_come = [query for query, number in pairs if (query.query_id, number) not in stored[cell.cell]]
        left = len(to_come) if queries else max(0, cell.n_queries - cell.n_done)
        query_length = sum(len(query.instruction) for query in to_come) / left if to_come else QUERY_CHARACTERS
        answer = CHARACTERS_PER_TOKEN["en"] * (cell.new_tokens / left if left else 0)
        n_safety = sum(query.split == "safety" for query in to_come) if queries else left // 5
        for split, n in (("multi", left - n_safety), ("safety", n_safety)):
            template = templates.get(split=split, language=cell.cell.language)
            characters = n * spec.repeats * (len(template.text) + query_length + answer)
            loads.append(Load(split, cell.cell.language, template, n * spec.repeats, characters))
    own = {response_id for of_cell in stored.values() for response_id in of_cell.values()}
    _, total, _ = estimates(path, judge, Scope(templates, spec.repeats, responses=own), loads)
    if isinstance(judge, RulesJudge):
        total, note = total._replace(prompt_tokens=0, completion_tokens=0), "no model and no money"
    elif isinstance(judge, ApiJudge) and (price := judge.client.price):
        batch = price.usd(total.prompt_tokens, total.completion_tokens, batch=True)
        note = f"${batch:.2f} with --batch; prices of {price.as_of}"
    elif not note:
        local = "local: no money, about as long as the cells"
        note = "no price is stated for it" if isinstance(judge, ApiJudge) else local
    usd = "" if total.usd is None else f", ${total.usd:.2f}"
    tokens = f"~{total.prompt_tokens:,} + ~{total.completion_tokens:,} tokens"
    line = f"judge {spec.label}: {counted(total.missing, 'judgment')}, {tokens}{usd} ({note})"
    return JudgeEstimate(total, line, what_sizes_show(path, spec.judge, total.usd_per_verdict))


def _to_make(study: Study, reasons: Mapping[StudyCell, list[str]]) -> tuple[str, ...]:
    """Return each reason once, in the order of the cells, or the DPO step of the study that makes the model."""
    steps = {(training.model, f"{training.variant}-dpo") for training in study.trainings}
    found: list[str] = []
    for one, why in reasons.items():
        by_step = (one.model, study.variant(one)) in steps
        made = f"{one.model} ({study.variant(one)}) is made by the study's own DPO step"
        found += [made if by_step and "no file for" in reason else reason for reason in why]
    return tuple(dict.fromkeys(found))


def _flops() -> float:
    """Return float32 operations per second of this machine's matrix products, the best of those in about 0.5 s."""
    import numpy as np

    matrix = np.ones((768, 768), dtype=np.float32)
    timer = timeit.Timer(lambda: matrix @ matrix)
    timer.timeit(1)  # the first product also loads the library
    number, _ = timer.autorange()  # as many as take 0.2 s, one if that takes longer
    return 2.0 * 768**3 / min(timer.repeat(number, 1))
