"""The exactness probe: does batching change nothing for this file on this machine? It is probed, not proven.

A candidate setting is exact when every logit of every generated token is the same, bit for bit, as when its prompts
are decoded one at a time without prefix sharing: in batches of several sizes, the one chosen for this machine among
them, with the prefix shared, in another order, and stopped in the middle and resumed. Some sequences of a batch end
early, so that every number of rows up to its size occurs. Then some of the texts are scored, alone and with others.
docs/exactness.md lists the kernels of llama.cpp whose sums are independent of the batch; running/verify.py collects the
evidence of the work itself.
"""

import itertools
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

from icl_local.engine.protocol import Completion, EngineInfo, Request
from icl_local.engine.sequences import shared_length
from icl_local.engine.worker import Worker
from icl_local.exceptions import EngineError
from icl_local.identity import key_of
from icl_local.wording import counted

RATE_SIZES = (1, 2, 4, 8, 16, 32)
QUICK_RATE_SIZES = (8, 16, 32)
_RATE_WORDS = 600  # about as long as a URIAL prefix: attention over it is a large part of a step
GOOD_ENOUGH = 0.95  # the smallest batch within 5 % of the best rate is chosen: it needs less memory
_RATE_TOKENS = 8
QUICK_CHARACTERS = 1_200  # length of prompts unless a run has longer ones
_WORD_CHARACTERS = 7  # of WORDS, with a space
_SCORED_AT_ONCE, _SCORED_LEAST = 8, 2
_QUICK_MOST, _QUICK_LEAST = (6, 12), (2, 8)  # prompts compared, tokens each

# The candidates, the usually fastest first. K-quants are repacked into blocks of rows whose kernels differ for few and
# many rows, so they are tried without repacking first. With eight rows or more all kernels seen so far agree; those of
# IQ types differ below that.
_REPACKED = {"kv_unified": False, "flash_attn": False, "min_rows": 2, "repack": True}
_NOT_REPACKED, _EIGHT_ROWS = {**_REPACKED, "repack": False}, {**_REPACKED, "min_rows": 8}
_K_QUANTS = ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K")
SETTINGS = tuple(_REPACKED)  # EngineOptions fields that a candidate sets
FAST = {"kv_unified": False, "flash_attn": False, "min_rows": 1, "repack": True}

WORDS = (
    *("harbour", "lantern", "copper", "meadow", "thistle", "ember", "quarry", "willow", "marble", "saffron"),
    *("glacier", "juniper", "velvet", "anchor", "orchard", "falcon", "pebble", "timber", "crystal", "harvest"),
    *("canyon", "ribbon", "meridian", "cobalt", "prairie", "summit", "hollow", "beacon", "drift", "cinder"),
)

# fields of a ProbeResult in raw.probes.detail
_DETAIL = ("cases", "difference", "rates", "failure", "at_once", "prompt_characters", "requested_characters")


@dataclass(frozen=True)
class Difference:
    """The first token at which a batch differed from one at a time."""

    case: str
    prompt: int
    token: int
    text_differs: bool

    def __str__(self) -> str:
        kind = "another text" if self.text_differs else "other logits, the same text"
        return f"{kind}: {self.case}, prompt {self.prompt}, from token {self.token}"


@dataclass(frozen=True)
class ProbeResult:
    """The findings of the probe for one candidate: ``settings`` are EngineOptions fields.

    ``tokens_per_second``: generated tokens over the decode time at ``parallel``, the batch size to use here; 0 if it
    was not measured. ``rates``: the same by batch size. ``n_prompts`` x ``n_tokens`` were compared in each case, at
    most ``at_once`` sequences together, with prompts of up to ``prompt_characters``.
    ``failure``: the error if llama.cpp cannot run with these settings here, such as the end of its process.
    """

    settings: Mapping[str, Any]
    exact: bool
    n_prompts: int
    n_tokens: int
    cases: tuple[str, ...]
    difference: Difference | None = None
    failure: str | None = None
    rates: Mapping[int, float] = field(default_factory=dict)
    at_once: int = 0
    prompt_characters: int = 0
    requested_characters: int = 0  # more than prompt_characters where the model's context holds no longer prompt

    @property
    def parallel(self) -> int:
        """Return the smallest measured batch size within 5 % of the best rate; 0 where none was measured."""
        best = max(self.rates.values(), default=0.0)
        return next((n for n, rate in sorted(self.rates.items()) if rate >= GOOD_ENOUGH * best), 0)

    @property
    def tokens_per_second(self) -> float:
        """Return the rate at ``parallel``."""
        return self.rates.get(self.parallel, 0.0)

    @property
    def outcome(self) -> str:
        """Return the result as text: exact, not usable and why, or the first difference."""
        if self.failure is not None:
            return f"not usable ({self.failure})"
        return "exact" if self.exact else f"not exact ({self.difference})"

    def row(self, *, gguf_sha256: str, info: EngineInfo, created_at: str) -> dict[str, object]:
        """Return the row of raw.probes; each result is a row of its own."""
        key = {"gguf_sha256": gguf_sha256, **environment(info)}
        return {
            "probe_id": key_of(kind="probe", **key, settings=dict(self.settings), at=created_at),
            **key,
            "settings": dict(self.settings),
            "exact": self.exact,
            "n_prompts": self.n_prompts,
            "n_tokens": self.n_tokens,
            "tokens_per_second": self.tokens_per_second,
            "parallel": self.parallel,
            "detail": {name: value for name, value in asdict(self).items() if name in _DETAIL},
            "created_at": created_at,
        }


@dataclass(frozen=True)
class ProbeStep:
    """Progress of a probe: ``done`` of ``total`` parts of a candidate, which take about equally long."""

    candidate: int
    n_candidates: int
    done: int
    total: int


OnStep = Callable[[ProbeStep], None]
Case = tuple[str, Sequence[Sequence[Request]], int]  # name, generate calls, batch size


def environment(info: EngineInfo) -> dict[str, str]:
    """Return what else a result depends on: the build, and CPU features with the layers' place."""
    features = f"{info.cpu_features} threads={info.n_threads} gpu_layers={info.gpu_layers} kv={info.kv_type}"
    return {"llama_build": info.llama_build, "cpu_features": features}


def candidates(quantization: str) -> list[dict[str, Any]]:
    """Return the settings worth trying for a file of this type, the usually fastest first."""
    eight = [_EIGHT_ROWS, {**_EIGHT_ROWS, "repack": False}]
    if quantization.startswith("IQ"):
        return [dict(settings) for settings in reversed(eight)]
    first = [_NOT_REPACKED, _REPACKED] if quantization.startswith(_K_QUANTS) else [_REPACKED, _NOT_REPACKED]
    return [dict(settings) for settings in (*first, *eight)]


def probe_prompts(n: int, *, prefix_words: int) -> list[str]:
    """Return ``n`` prompts of different lengths that share a prefix of ``prefix_words`` words.

    They are the same on every machine.
    """
    rng = random.Random(20250301)
    prefix = " ".join(rng.choice(WORDS) for _ in range(prefix_words))
    return [f"{prefix}. Number {i}: {' '.join(rng.choice(WORDS) for _ in range(3 + 5 * i % 23))}" for i in range(n)]


def probe(
    worker: Worker,
    settings: Sequence[Mapping[str, Any]],
    *,
    first_only: bool = False,
    on_event: Callable[[str], None] = lambda text: None,
    on_step: OnStep = lambda step: None,
    **extent: Any,
) -> list[ProbeResult]:
    """Return a result for every candidate of ``settings``, or with ``first_only`` up to the first exact one.

    ``extent``: fields of Trial. A candidate with which the worker's process ends is not usable; the next one gets a new
    process.
    """
    found: list[ProbeResult] = []
    for number, candidate in enumerate(settings, 1):
        if any(result.exact and _more_rows(candidate, result.settings) for result in found):
            continue  # more rows than needed only cost time
        trial = Trial(worker, candidate, **extent)
        step = partial(ProbeStep, number, len(settings), total=trial.n_parts)
        on_event(f"trying {describe(candidate)}: {counted(len(trial.prompts), 'prompt')} x {trial.n_tokens} tokens")
        on_step(step(done=0))
        try:
            for done, _ in enumerate(trial.parts(), 1):
                on_step(step(done=done))
        except EngineError as error:
            trial.result = replace(trial.result, exact=False, failure=str(error), rates={})
            worker.restart()
        on_step(step(done=trial.n_parts))
        on_event(f"{describe(candidate)}: {trial.result.outcome}")
        found.append(trial.result)
        if first_only and trial.result.exact:
            break
    return found


def quick_probe(
    worker: Worker,
    settings: Sequence[Mapping[str, Any]],
    *,
    seconds: float = 45.0,
    parallel: int | None = None,
    prompt_characters: int = QUICK_CHARACTERS,
    on_event: Callable[[str], None] = lambda text: None,
    on_step: OnStep = lambda step: None,
) -> list[ProbeResult]:
    """Run a probe cut to about ``seconds`` by a first timing of this file; ``on_event`` gets the estimate first.

    ``prompt_characters``: length of the prompts; ``parallel``: the batch size, None for the best one here. On a slow
    machine fewer prompts of a batch are compared, at least two of eight tokens; batch size and length stay.
    """
    per_token = _seconds_per_token(worker, settings)
    (n_prompts, n_tokens), words = _QUICK_MOST, max(40, prompt_characters // _WORD_CHARACTERS)
    words = _fitting(worker, words, 1)
    sizes = (parallel,) if parallel else QUICK_RATE_SIZES
    while (estimate := per_token * _quick_tokens(n_prompts, words, n_tokens, sizes)) > seconds:
        if (n_prompts, n_tokens) == _QUICK_LEAST:
            break
        n_prompts, n_tokens = max(_QUICK_LEAST[0], n_prompts - 1), max(_QUICK_LEAST[1], n_tokens - 1)
    on_event(f"probing whether batching changes anything here: about {max(1, estimate):.0f} s, once for this file")
    return probe(
        worker,
        settings,
        prompts=probe_prompts(n_prompts, prefix_words=words),
        n_tokens=n_tokens,
        sizes=(parallel,) if parallel else (),
        rate_sizes=sizes,
        rate_words=words,
        first_only=True,
        on_event=on_event,
        on_step=on_step,
    )


def _seconds_per_token(worker: Worker, settings: Sequence[Mapping[str, Any]]) -> float:
    """Time a short request with the worker's own options, or the first candidate that llama.cpp can run here."""
    request = Request("t", " ".join(WORDS * 3), 4, ignore_eog=True)
    for candidate in [{}, *settings]:
        started = time.perf_counter()
        try:
            (timed,) = worker.generate([request], **{**candidate, "parallel": 1})
            return (time.perf_counter() - started) / (timed.prompt_tokens + timed.new_tokens)
        except EngineError as error:
            failure = error
            worker.restart()
    raise failure


def describe(settings: Mapping[str, Any]) -> str:
    """Return settings as text."""
    kv = "one unified KV buffer" if settings.get("kv_unified") else "a KV stream each"
    flash = "flash attention" if settings.get("flash_attn") else "no flash attention"
    weights = "repacked" if settings.get("repack") else "plain"
    return f"{kv}, {flash}, {weights} weights, at least {counted(settings.get('min_rows', 2), 'row')}"


def _quick_tokens(n_prompts: int, words: int, n_tokens: int, sizes: Sequence[int]) -> float:
    alone = n_prompts * (2 * words + 30 + n_tokens)
    together = 2 * words + 3 * max(sizes) * (30 + n_tokens / 2)
    rates = 2 * words + sum(sizes) * (_RATE_TOKENS / 2 + 8)
    scored = 2 * words * (_SCORED_LEAST + 1) + (_SCORED_LEAST + _SCORED_AT_ONCE) * (30 + n_tokens)
    return alone + together + rates + scored


@dataclass
class Trial:
    """A candidate being compared, and its ``result`` so far.

    ``prompts``, which should share a prefix and differ in length, get ``n_tokens`` each, and are compared at ``sizes``.
    For an exact candidate rates are measured at ``rate_sizes``, on a shared prefix of ``rate_words`` words, fewer if
    the context is shorter; the batch size that they choose is then compared too.
    """

    worker: Worker
    settings: Mapping[str, Any]
    prompts: Sequence[str]
    n_tokens: int
    sizes: Sequence[int]
    rate_sizes: Sequence[int] = RATE_SIZES
    rate_words: int = _RATE_WORDS

    def __post_init__(self) -> None:
        longest = max(map(len, self.prompts))
        self.result = ProbeResult(self.settings, True, len(self.prompts), self.n_tokens, (), prompt_characters=longest)

    @property
    def n_parts(self) -> int:
        """Return how many parts there are at most: prompts alone, cases, scored texts, rates, cases of their size."""
        chosen = self.rate_sizes[:1] if set(self.rate_sizes) - set(self.sizes) else ()
        cases = sum(len(compared) + 2 for compared in (self.sizes, chosen) if compared)
        return len(self.prompts) + 1 + len(self.rate_sizes) + cases

    def parts(self) -> Iterator[None]:
        """Compare at the sizes, measure rates, compare at the batch size that they choose; yield after each part."""
        requests = [Request(str(i), prompt, self.n_tokens, ignore_eog=True) for i, prompt in enumerate(self.prompts)]
        alone = {}
        for completion in self._traced(requests, parallel=1, share_prefix=False):
            alone[completion.id] = completion
            yield
        yield from self._compare(_cases(requests, self.sizes), alone)
        if self.result.exact:
            first, together = alone[requests[0].id], _filled(requests, _SCORED_AT_ONCE)
            texts = [replace(one, target=alone.get(one.id, first).tokens) for one in together]
            some = texts[: max(_SCORED_LEAST, len(requests) // 8)]
            single = {done.id: done for done in self._traced(some, parallel=1, share_prefix=False)}
            yield from self._compare([(f"scored, {_SCORED_AT_ONCE} at a time", [texts], _SCORED_AT_ONCE)], single)
        rates = {}
        for size in self.rate_sizes if self.result.exact else ():
            held, rates[held] = self._rate(size)
            yield
        self.result = replace(self.result, rates=rates)
        if self.result.parallel not in (0, *self.sizes):
            yield from self._compare(_cases(requests, (self.result.parallel,)), alone)
        at_once = max((*self.sizes, self.result.parallel))
        self.result = replace(self.result, at_once=at_once) if self.result.exact else replace(self.result, rates={})

    def _compare(self, cases: Iterable[Case], alone: Mapping[str, Completion]) -> Iterator[None]:
        """Add cases to the result, and the first difference from ``alone`` if there is one."""
        for case, batches, size in cases:
            self.result = replace(self.result, cases=(*self.result.cases, case))
            for completion in itertools.chain.from_iterable(self._traced(batch, parallel=size) for batch in batches):
                single = alone.get(completion.id, completion)
                if completion != single:
                    token = shared_length(single.digests, completion.digests)
                    difference = Difference(case, int(single.id), token, single.tokens != completion.tokens)
                    self.result = replace(self.result, exact=False, difference=difference)
                    return
            yield

    def _traced(self, requests: Sequence[Request], **how: Any) -> Iterator[Completion]:
        return self.worker.generate(requests, trace=True, stop_on_loop=False, **{**self.settings, **how})

    def _rate(self, size: int) -> tuple[int, float]:
        """Return a batch size, ``size`` or what memory holds, and its generated tokens per second over a few steps."""
        prompts = _rate_prompts(size, _fitting(self.worker, self.rate_words, size))
        requests = [Request(str(i), prompt, _RATE_TOKENS, ignore_eog=True) for i, prompt in enumerate(prompts)]
        how = {"parallel": None, "parallel_most": size}
        list(self.worker.generate(requests, stop_on_loop=False, **{**self.settings, **how}))
        stats = self.worker.stats
        rate = (stats.new_tokens - stats.n_done) / stats.decode_seconds if stats.decode_seconds else 0.0
        return stats.n_parallel or size, rate


def _cases(requests: Sequence[Request], sizes: Sequence[int]) -> Iterator[Case]:
    """Yield the cases that are compared with one at a time."""
    rng = random.Random(1)
    for size in sizes:
        yield f"{size} at a time, prefix shared", [_filled(requests, size)], size
    if sizes:
        shuffled = _filled(requests, sizes[-1])
        rng.shuffle(shuffled)
        yield f"{sizes[-1]} at a time, shuffled", [shuffled], sizes[-1]
        middle = len(requests) // 2
        halves = [_filled(half, sizes[-1]) for half in (requests[middle:], requests[:middle]) if half]
        yield f"{sizes[-1]} at a time, resumed", halves, sizes[-1]


def _filled(requests: Sequence[Request], size: int) -> list[Request]:
    """Return the requests, and others beside them that end one after the other, until there are ``size``."""
    lacking = max(0, size - len(requests))
    return [
        *requests,
        *(
            replace(
                requests[i % len(requests)],
                id=f"beside {i}",
                prompt=f"{requests[i % len(requests)].prompt} {WORDS[i % len(WORDS)]}",
                max_tokens=1 + requests[0].max_tokens * i // lacking,
            )
            for i in range(lacking)
        ),
    ]


def _more_rows(candidate: Mapping[str, Any], known: Mapping[str, Any]) -> bool:
    """Return whether the candidate pads to more rows than the known settings, and differs in nothing else."""
    return candidate["min_rows"] > known["min_rows"] and {**candidate, "min_rows": known["min_rows"]} == known


def _fitting(worker: Worker, words: int, size: int) -> int:
    """Return ``words``, halved until prompts with so many shared words fit into the context."""
    while words and max(worker.count_tokens(_rate_prompts(size, words))) + 256 >= worker.info.n_ctx_train:
        words //= 2
    return words


def _rate_prompts(n: int, words: int) -> list[str]:
    """Return prompts that differ in their last words only, so that decoding is timed."""
    prefix = probe_prompts(1, prefix_words=words)[0].partition(". Number")[0]
    return [f"{prefix}. Number {i} of them." for i in range(n)]
