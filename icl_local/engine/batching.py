"""Continuous batching: the requests of a generate call over the sequences of a context, until each has ended.

Pure scheduling over a ``Model`` (engine/llama.py, or a fake in tests). Active sequences are 0..k-1 without gaps. A
sequence that ends takes the next prompt; when the queue is empty, the last active sequence moves into its place.
engine/sequences.py has the rules for what sequences share and for the batches.
"""

import hashlib
import re
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from icl_local.detect import LoopWatch, stop_pattern
from icl_local.engine.penalty import Seen, greedy, penalise
from icl_local.engine.prefix_cache import PrefixCache
from icl_local.engine.protocol import UNUSABLE_FILE, Completion, EngineOptions, Request, Stats
from icl_local.engine.score_probabilities import N_VALUES, before_score, score_probabilities, value_of
from icl_local.engine.scoring import LOGIT_BYTES, Target, split
from icl_local.engine.sequences import BatchToken, Grammar, Interrupted, Model, Sequences, n_shared, tokens_to_prefill
from icl_local.exceptions import EngineError

PROGRESS_SECONDS = 0.2


@dataclass
class Slot:
    """A request with the tokens before its last pick, and from where on they have logits; then what was picked."""

    request: Request
    prompt: list[int]
    first_row: int
    limit: int
    target: Target | None
    stop: re.Pattern[bytes] | None
    seen: Seen = field(init=False)
    output: bytearray = field(default_factory=bytearray)
    tokens: list[int] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    probabilities: list[tuple[float, ...]] = field(default_factory=list)
    grammar: Grammar | None = None
    watch: LoopWatch | None = None
    watched: int = 0


class Generation:
    """One generate call: iterate for completions, then read ``stats``, its sums.

    ``on_progress`` gets the tokens so far. Raises Interrupted when the model's decode was aborted; completions yielded
    before that stay valid.
    """

    def __init__(
        self,
        model: Model,
        requests: Sequence[Request],
        options: EngineOptions,
        *,
        prefix_cache: PrefixCache | None = None,
        on_progress: Callable[[int], None] | None = None,
    ) -> None:
        self._model = model
        self._requests = requests
        if any(request.target is not None for request in requests):
            most = max(2, LOGIT_BYTES // (4 * model.n_vocab))
            options = replace(options, n_ubatch=min(options.n_ubatch, most))
        self._options = options
        self._cache = prefix_cache
        self._on_progress = on_progress
        self._active: dict[int, Slot] = {}
        self._queue: deque[Slot] = deque()
        self._parallel = min(options.parallel or options.parallel_most, max(1, len(requests)))
        self._progress_at = 0.0
        self.stats = Stats(n_parallel=self._parallel, prefix_source="none")

    def __iter__(self) -> Iterator[Completion]:
        started = time.perf_counter()
        try:
            yield from self._run()
        except Interrupted:
            self.stats.interrupted = True
            raise
        finally:
            stats = self.stats
            stats.wall_seconds = time.perf_counter() - started
            stats.other_seconds = stats.wall_seconds - stats.prefill_seconds - stats.decode_seconds
            for slot in self._active.values():
                if slot.grammar is not None:
                    slot.grammar.close()

    def _run(self) -> Iterator[Completion]:
        fitting: list[Slot] = []
        for slot in map(self._slot, self._requests):
            if len(slot.prompt) >= self._model.n_ctx_train or not slot.prompt:
                yield self._finished(Completion(slot.request.id, "", "prompt_too_long", len(slot.prompt), 0))
            else:
                fitting.append(slot)
        if not fitting:
            return
        self._open(fitting)
        self._fill()
        yield from self._collect()
        while self._active:
            self._step()
            yield from self._collect()

    def _open(self, fitting: list[Slot]) -> None:
        """Queue the requests, open a context for them, and decode the prefix that all prompts share.

        In token order what prompts share is decoded once. Where that saves less than a tenth beyond the prefix of all,
        long prompts come first, so that a run does not end with a few long answers.
        """
        options = self._options
        prompts = sorted(slot.prompt for slot in fitting)
        prefix = prompts[0][: n_shared(prompts[0], prompts[-1])] if options.share_prefix and len(prompts) > 1 else []
        all_but_prefix = sum(map(len, prompts)) - len(prefix) * (len(prompts) - 1)
        in_token_order = options.share_prefix and tokens_to_prefill(prompts) <= 0.9 * all_but_prefix
        self._queue.extend(sorted(fitting, key=lambda slot: slot.prompt if in_token_order else [-len(slot.prompt)]))
        needed = max(len(slot.prompt) + slot.limit for slot in fitting)
        self._parallel = min(self._parallel, len(fitting))
        n_sequences = max(self._parallel, options.min_rows)
        n_ctx_seq = -(-(needed + options.min_rows) // 256) * 256
        self._model.open(n_sequences=n_sequences, n_ctx_seq=n_ctx_seq)
        self._sequences = Sequences(self._model, options, self.stats, n_sequences)
        if len(prefix) > 1:
            self._sequences.hold_prefix(prefix, self._parallel, self._cache)

    def _slot(self, request: Request) -> Slot:
        prompt, target = split(self._model, request)
        first_row = len(prompt) if target is not None and not target.ids else len(prompt) - 1
        if target is not None and prompt:
            prompt = [*prompt, *target.ids[:-1]]
        limit = min(request.max_tokens, self._model.n_ctx_train - len(prompt))
        stop = stop_pattern(request.stops) if request.stops else None
        return Slot(request, prompt, first_row, limit, target, stop)

    def _start(self, slot: Slot) -> None:
        """Make what takes memory while a request is decoded."""
        slot.seen = Seen(slot.prompt[: slot.first_row + 1])
        if slot.request.grammar:
            slot.grammar = self._model.grammar(slot.request.grammar)
        if self._options.stop_on_loop:
            slot.watch = LoopWatch()

    def _fill(self) -> None:
        """Start queued requests in the free sequences, decode their prompts, and pick the first token of each."""
        while self._queue and (free := [one for one in range(self._parallel) if one not in self._active]):
            fresh: dict[int, int] = {}
            while free and self._queue:
                slot = self._queue[0]
                number = self._sequences.place(free, slot.prompt, first_row=slot.first_row)
                if number is None:
                    break
                free.remove(number)
                self._start(slot)
                self._active[number] = self._queue.popleft()
                fresh[number] = slot.first_row
            for number, index in self._sequences.prefill(fresh):
                self._pick(self._active[number], index)

    def _step(self) -> None:
        """Decode one token of every active sequence and pick the next."""
        active = sorted(self._active.items())
        past = self._sequences.past
        offset = self._sequences.decode([BatchToken(slot.tokens[-1], one, past[one], True) for one, slot in active])
        for index, (_, slot) in enumerate(active):
            self._pick(slot, offset + index)
        self._report()

    def _pick(self, slot: Slot, index: int) -> None:
        """Add the token after a row of the batch to its slot."""
        logits = self._model.logits(index)
        if np.isnan(logits[0]):  # then all are: the last hidden state is not a number
            raise EngineError(f"the model computes no numbers (NaN); {UNUSABLE_FILE}")
        if self._options.trace:
            slot.digests.append(hashlib.blake2b(logits.tobytes(), digest_size=8).hexdigest())
        token = self._token(slot, logits)
        slot.seen.add(token)
        slot.tokens.append(token)
        slot.output += self._model.piece(token)
        self.stats.new_tokens += 1

    def _token(self, slot: Slot, logits: NDArray[np.float32]) -> int:
        """Return the token that follows; ``logits`` [n_vocab] change in place."""
        seen, penalty = slot.seen.ids, slot.request.repetition_penalty
        if slot.target is not None:
            return slot.target.next(logits, seen, penalty)
        if slot.grammar is not None:
            token = slot.grammar.pick(logits)
            if before_score(slot.output) and value_of(self._model.piece(token)) < N_VALUES:
                ids = slot.grammar.allowed(logits)
                pieces = [self._model.piece(int(one)) for one in ids]
                slot.probabilities.append(score_probabilities(logits[ids], pieces))
            slot.grammar.accept(token)
            return token
        if slot.request.sampling is not None:
            penalise(logits, seen, penalty)
            return slot.request.sampling.pick(logits, len(slot.tokens))
        return greedy(logits, seen, penalty)

    def _reason(self, slot: Slot) -> str | None:
        """Return the reason for which the sequence ends with its newest token, or None while it goes on."""
        if slot.target is not None:
            return "scored"
        if not slot.request.ignore_eog and self._model.is_eog(slot.tokens[-1]):
            return "eog"
        if slot.stop is not None:
            newest = len(slot.output) - len(self._model.piece(slot.tokens[-1]))
            longest = max(map(len, slot.request.stops)) * 4  # bytes of a character at most
            line = slot.output.rfind(b"\n", 0, newest) + 1
            if slot.stop.search(slot.output, min(line, max(0, newest - longest))):
                return "stop"
        if slot.watch is not None:
            text = slot.output.decode("utf-8", "ignore")
            grown, slot.watched = text[slot.watched :], len(text)
            if slot.watch.append(grown):
                return "stopped_on_loop"
        return "length" if len(slot.tokens) >= slot.limit else None

    def _collect(self) -> Iterator[Completion]:
        """Yield the completions that have ended; fill their sequences from the queue, or close the gaps."""
        while ended := {one: reason for one, slot in self._active.items() if (reason := self._reason(slot))}:
            for number, reason in ended.items():
                self._sequences.release(number)
                yield self._finished(self._ended(self._active.pop(number), reason))
            self._fill()
        for number in range(len(self._active)):
            if number not in self._active:
                last = max(self._active)
                self._sequences.move(last, number)
                self._active[number] = self._active.pop(last)

    def _ended(self, slot: Slot, reason: str) -> Completion:
        if slot.grammar is not None:
            slot.grammar.close()
            slot.grammar = None
        saved = slot.limit - len(slot.tokens) if reason == "stopped_on_loop" else 0
        return Completion(
            id=slot.request.id,
            raw_text=slot.output.decode("utf-8", "replace"),
            finish_reason=reason,
            prompt_tokens=min(slot.first_row + 1, len(slot.prompt)),
            new_tokens=len(slot.tokens),
            tokens_saved=saved,
            tokens=tuple(slot.tokens),
            end_token=self._model.token_text(slot.tokens[-1]) if reason == "eog" else None,
            digests=tuple(slot.digests),
            probabilities=tuple(slot.probabilities),
            n_bytes=len(slot.output),
            **(slot.target.result(self._model) if slot.target is not None else {}),
        )

    def _finished(self, completion: Completion) -> Completion:
        self.stats.n_done += 1
        self.stats.prompt_tokens += completion.prompt_tokens
        self._report(force=True)
        return completion

    def _report(self, *, force: bool = False) -> None:
        if self._on_progress is None:
            return
        now = time.perf_counter()
        if force or now - self._progress_at >= PROGRESS_SECONDS:
            self._progress_at = now
            self._on_progress(self.stats.new_tokens)
