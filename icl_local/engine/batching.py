"""Continuous batching over sequences that share a prompt prefix: the choice of the tokens of the next batch.

Pure scheduling over a ``Model`` (engine/llama.py, or a fake in tests). The rules follow from how llama.cpp splits a
batch when every sequence has its own KV stream:

- active sequences are 0..k-1 without gaps, tokens ascend by sequence id: any gap would split the batch in two;
- prompts are decoded in separate steps, chunks of equal length side by side;
- the common prefix is decoded once, copied to every sequence, and kept there by cutting a finished sequence back;
- a batch never has fewer than ``min_rows`` tokens, nor requests fewer logits: some kernels sum differently for few
  rows, and the last layer computes only the rows whose logits are requested;
- when the queue is empty the last active sequence moves into a gap.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from icl_local.detect import LoopWatch, stop_pattern
from icl_local.engine.penalty import Seen, greedy
from icl_local.engine.prefix_cache import PrefixCache
from icl_local.engine.protocol import Completion, DecodeProgress, EngineOptions, Request, Stats
from icl_local.engine.scores import N_VALUES, before_score, score_probabilities, value_of

PROGRESS_SECONDS = 0.2


@dataclass(frozen=True)
class BatchToken:
    """One token of a batch: its sequence, its position there, and whether its logits are requested."""

    token: int
    sequence: int
    position: int
    logits: bool = False


class Grammar(Protocol):
    """A constraint on the next token: ``pick`` returns the best allowed id, ``allowed`` all, ascending."""

    def pick(self, logits: NDArray[np.float32]) -> int: ...
    def allowed(self, logits: NDArray[np.float32]) -> NDArray[np.int64]: ...
    def accept(self, token: int) -> None: ...
    def close(self) -> None: ...


class Interrupted(Exception):
    """A decode was aborted on request; its step does not count."""


class Model(Protocol):
    """The part of a model with an open context that scheduling uses."""

    n_ctx_train: int
    n_vocab: int

    def tokenize(self, text: str, *, plain: tuple[int, int] | None = None) -> list[int]: ...
    def piece(self, token: int) -> bytes: ...
    def token_text(self, token: int) -> str: ...
    def is_eog(self, token: int) -> bool: ...
    def open(self, *, n_sequences: int, n_ctx_seq: int) -> None: ...
    def decode(self, batch: Sequence[BatchToken]) -> None: ...
    def logits(self, index: int) -> NDArray[np.float32]: ...
    def copy_sequence(self, source: int, target: int) -> None: ...
    def cut_sequence(self, sequence: int, length: int) -> None: ...
    def save_sequence(self, sequence: int) -> bytes: ...
    def load_sequence(self, sequence: int, state: bytes) -> bool: ...
    def grammar(self, text: str) -> Grammar: ...


@dataclass
class Slot:
    """A request while it is being decoded; logits are wanted from position ``first_row`` of the prompt on."""

    request: Request
    prompt: list[int]
    seen: Seen
    limit: int
    past: int
    first_row: int
    pending: int = -1
    output: bytearray = field(default_factory=bytearray)
    tokens: list[int] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    scores: list[tuple[float, ...]] = field(default_factory=list)
    stop: re.Pattern[bytes] | None = None
    grammar: Grammar | None = None
    watch: LoopWatch | None = None
    watched: int = 0


def common_prefix(prompts: Sequence[list[int]]) -> list[int]:
    """Return the longest common token prefix that leaves every prompt two tokens; empty for fewer than two prompts.

    Two, because attention over a chunk of one token runs another kernel than over a chunk of several.
    """
    if len(prompts) < 2:
        return []
    first, last = min(prompts), max(prompts)
    length = 0
    for a, b in zip(first, last, strict=False):
        if a != b:
            break
        length += 1
    return list(first[: max(0, min(length, min(len(p) for p in prompts) - 2))])


def prefill_steps(remaining: Sequence[tuple[int, int]], *, n_ubatch: int) -> Iterator[list[tuple[int, int]]]:
    """Yield the steps that decode ``remaining`` [(sequence, tokens left)], ascending by sequence.

    A step is [(sequence, tokens)]: a run of neighbouring sequences with chunks of one length, at most ``n_ubatch``
    tokens. No chunk has one token unless the whole prompt has: see ``common_prefix``.
    """
    left = dict(remaining)
    while left:
        run = [min(left)]
        while run[-1] + 1 in left and len(run) < n_ubatch // 4:
            run.append(run[-1] + 1)
        chunk = _chunk([left[s] for s in run], n_ubatch // len(run))
        if chunk == 0:  # no length suits the whole run
            run = run[:1]
            chunk = _chunk([left[run[0]]], n_ubatch)
        yield [(s, chunk) for s in run]
        for s in run:
            left[s] -= chunk
            if left[s] == 0:
                del left[s]


def _chunk(left: Sequence[int], most: int) -> int:
    """Return the largest common chunk of two tokens or more that leaves no sequence exactly one; 0 if there is none."""
    if len(left) == 1 and left[0] == 1:
        return 1
    return next((n for n in range(min(most, *left), 1, -1) if all(x - n != 1 for x in left)), 0)


class Generation:
    """One generate call: iterate for completions, then read ``stats``, its sums.

    Raises Interrupted when the model's decode was aborted; completions yielded before that stay valid.
    """

    def __init__(
        self,
        model: Model,
        requests: Sequence[Request],
        options: EngineOptions,
        *,
        prefix_cache: PrefixCache | None = None,
        on_progress: Callable[[DecodeProgress], None] | None = None,
        kv_bytes_per_token: int = 0,
    ) -> None:
        self._model = model
        self._requests = requests
        self._options = options
        self._cache = prefix_cache
        self._on_progress = on_progress
        self._kv_bytes_per_token = kv_bytes_per_token
        self._active: list[Slot] = []
        self._prefix: list[int] = []
        self._parallel = min(options.parallel or options.parallel_most, max(1, len(requests)))
        self._n_sequences = self._kept = 0
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
            for sequence in self._active:
                if sequence.grammar is not None:
                    sequence.grammar.close()

    def _run(self) -> Iterator[Completion]:
        fitting: list[tuple[Request, list[int]]] = []
        for request in self._requests:
            tokens = self._tokens(request)
            if len(tokens) >= self._model.n_ctx_train or not tokens:
                yield self._finished(self._too_long(request, len(tokens)))
            else:
                fitting.append((request, tokens))
        if not fitting:
            return
        # Long prompts first: neighbours have prompts of like length, and the tail of the run is short.
        fitting.sort(key=lambda pair: -len(pair[1]))
        queue = deque(fitting)
        needed = max(min(self._model.n_ctx_train, len(t) + r.max_tokens) for r, t in fitting)
        self._parallel = min(self._parallel, len(fitting))
        self._n_sequences = max(self._parallel, self._options.min_rows)
        n_ctx_seq = -(-(needed + self._options.min_rows) // 256) * 256
        self.stats.n_ctx_seq = n_ctx_seq
        self.stats.kv_bytes = self._kv_bytes_per_token * n_ctx_seq * self._n_sequences
        self._model.open(n_sequences=self._n_sequences, n_ctx_seq=n_ctx_seq)
        if self._options.share_prefix:
            self._prefix = common_prefix([self._sharable(request, tokens) for request, tokens in fitting])
            self.stats.prefix_tokens = len(self._prefix)
            self._decode_prefix()
        while len(self._active) < self._parallel:
            self._active.append(self._start(*queue.popleft()))
        self._prefill(range(self._parallel))
        yield from self._collect(queue)
        while self._active:
            self._step()
            yield from self._collect(queue)

    def _decode_prefix(self) -> None:
        if not self._prefix:
            return
        state = self._cache.get(self._prefix) if self._cache is not None else None
        if state is not None and self._model.load_sequence(0, state):
            self.stats.prefix_source = "cache"
        else:
            tokens = [BatchToken(token, 0, position) for position, token in enumerate(self._prefix)]
            position = 0
            for step in prefill_steps([(0, len(tokens))], n_ubatch=self._options.n_ubatch):
                count = step[0][1]
                self._decode(tokens[position : position + count], prefill=True)
                position += count
            self.stats.prefix_source = "decoded"
            if self._cache is not None:
                self._cache.put(self._prefix, self._model.save_sequence(0))
        for sequence in range(1, self._parallel):
            self._model.copy_sequence(0, sequence)
        self._kept = len(self._prefix)

    def _tokens(self, request: Request) -> list[int]:
        """Return the tokens to decode before the first that is picked."""
        return self._model.tokenize(request.prompt, plain=request.plain)

    def _sharable(self, request: Request, tokens: list[int]) -> list[int]:
        """Return the first tokens of a sequence of which all but two may come from another sequence."""
        return tokens

    def _too_long(self, request: Request, n_tokens: int) -> Completion:
        return Completion(request.id, "", "prompt_too_long", n_tokens, 0)

    def _start(self, request: Request, prompt: list[int]) -> Slot:
        return Slot(
            request=request,
            prompt=prompt,
            seen=Seen(prompt),
            limit=min(request.max_tokens, self._model.n_ctx_train - len(prompt)),
            past=len(self._prefix),
            first_row=len(prompt) - 1,
            stop=stop_pattern(request.stops) if request.stops else None,
            grammar=self._model.grammar(request.grammar) if request.grammar else None,
            watch=LoopWatch() if self._options.stop_on_loop else None,
        )

    def _prefill(self, fresh: Sequence[int]) -> None:
        """Decode the prompts of the fresh sequences past the prefix, and pick the first token of each."""
        remaining = [(s, len(self._active[s].prompt) - self._active[s].past) for s in fresh]
        for step in prefill_steps(remaining, n_ubatch=self._options.n_ubatch):
            batch: list[BatchToken] = []
            rows: list[tuple[Slot, int]] = []
            for number, count in step:
                sequence = self._active[number]
                for position in range(sequence.past, sequence.past + count):
                    wanted = position >= sequence.first_row
                    if wanted:
                        rows.append((sequence, len(batch)))
                    batch.append(BatchToken(sequence.prompt[position], number, position, wanted))
            offset = self._decode(batch, prefill=True)
            for number, count in step:
                self._active[number].past += count
            for sequence, index in rows:
                self._pick(sequence, offset + index)

    def _step(self) -> None:
        """Decode one token of every active sequence and pick the next."""
        batch = [BatchToken(s.pending, number, s.past, True) for number, s in enumerate(self._active)]
        offset = self._decode(batch, prefill=False)
        for number, sequence in enumerate(self._active):
            sequence.past += 1
            self._pick(sequence, offset + number)
        self._report()

    def _decode(self, tokens: list[BatchToken], *, prefill: bool) -> int:
        """Decode the tokens, padded to ``min_rows``; return the index of the first of them in the batch."""
        before, after = self._padding(tokens)
        batch = [*before, *tokens, *after]
        if any(token.logits for token in batch):  # the last layer and the output projection compute these rows only
            for i in range(len(batch) - 1, -1, -1):
                if sum(token.logits for token in batch) >= self._options.min_rows:
                    break
                batch[i] = replace(batch[i], logits=True)
        started = time.perf_counter()
        self._model.decode(batch)
        for sequence in {token.sequence for token in (*before, *after)}:
            self._model.cut_sequence(sequence, self._past(sequence))
        spent = time.perf_counter() - started
        if prefill:
            self.stats.prefill_seconds += spent
            self.stats.prefilled_tokens += len(tokens)
        else:
            self.stats.decode_seconds += spent
            self.stats.steps += 1
        return len(before)

    def _padding(self, tokens: Sequence[BatchToken]) -> tuple[list[BatchToken], list[BatchToken]]:
        """Return throw-away tokens before and after: as many as the step's own, each in a neighbouring sequence.

        They follow the neighbour's last token and are cut off again, which leaves its KV cells unchanged.
        """
        first, last = tokens[0].sequence, tokens[-1].sequence
        count = len(tokens) // (last - first + 1)
        lacking = -(-(self._options.min_rows - len(tokens)) // count)
        neighbours = [*range(last + 1, self._n_sequences), *range(first - 1, -1, -1)][: max(0, lacking)]
        padding = [
            BatchToken(tokens[0].token, sequence, self._past(sequence) + i)
            for sequence in sorted(neighbours)
            for i in range(count)
        ]
        return [one for one in padding if one.sequence < first], [one for one in padding if one.sequence > last]

    def _past(self, sequence: int) -> int:
        """Return the number of tokens a sequence holds between two steps."""
        if sequence < len(self._active):
            return self._active[sequence].past
        return self._kept if sequence < self._parallel else 0

    def _pick(self, sequence: Slot, index: int) -> None:
        logits = self._model.logits(index)
        if self._options.trace:
            sequence.digests.append(hashlib.blake2b(logits.tobytes(), digest_size=8).hexdigest())
        if sequence.grammar is not None:
            token = sequence.grammar.pick(logits)
            if before_score(sequence.output) and value_of(self._model.piece(token)) < N_VALUES:
                ids = sequence.grammar.allowed(logits)
                pieces = [self._model.piece(int(one)) for one in ids]
                sequence.scores.append(score_probabilities(logits[ids], pieces))
            sequence.grammar.accept(token)
        else:
            token = greedy(logits, sequence.seen.ids, sequence.request.repetition_penalty)
        sequence.seen.add(token)
        sequence.pending = token
        sequence.tokens.append(token)
        sequence.output += self._model.piece(token)
        self.stats.new_tokens += 1

    def _reason(self, sequence: Slot) -> str | None:
        """Return the reason for which the sequence ends with its newest token, or None while it goes on."""
        if not sequence.request.ignore_eog and self._model.is_eog(sequence.pending):
            return "eog"
        if sequence.stop is not None:
            newest = len(sequence.output) - len(self._model.piece(sequence.pending))
            longest = max(map(len, sequence.request.stops)) * 4  # bytes of a character at most
            line = sequence.output.rfind(b"\n", 0, newest) + 1
            if sequence.stop.search(sequence.output, min(line, max(0, newest - longest))):
                return "stop"
        if sequence.watch is not None:
            text = sequence.output.decode("utf-8", "ignore")
            grown, sequence.watched = text[sequence.watched :], len(text)
            if sequence.watch.append(grown):
                return "stopped_on_loop"
        return "length" if len(sequence.tokens) >= sequence.limit else None

    def _collect(self, queue: deque[tuple[Request, list[int]]]) -> Iterator[Completion]:
        """Yield the completions that have ended; refill their sequences from the queue, or close the gaps."""
        refilled: list[int] | None = None
        while refilled is None or refilled:
            refilled = []
            number = 0
            while number < len(self._active):
                reason = self._reason(self._active[number])
                if reason is None:
                    number += 1
                    continue
                yield self._finished(self._ended(self._active[number], reason))
                self._model.cut_sequence(number, len(self._prefix))
                if queue:
                    self._active[number] = self._start(*queue.popleft())
                    refilled.append(number)
                    number += 1
                else:
                    self._close_gap(number)
            self._prefill(refilled)

    def _close_gap(self, number: int) -> None:
        """Move the last active sequence to ``number``, which has ended."""
        moved = self._active.pop()
        last = len(self._active)
        if number < last:
            self._model.copy_sequence(last, number)
            self._model.cut_sequence(last, len(self._prefix))
            self._active[number] = moved

    def _ended(self, sequence: Slot, reason: str) -> Completion:
        if sequence.grammar is not None:
            sequence.grammar.close()
            sequence.grammar = None
        saved = sequence.limit - len(sequence.tokens) if reason == "stopped_on_loop" else 0
        return Completion(
            id=sequence.request.id,
            raw_text=sequence.output.decode("utf-8", "replace"),
            finish_reason=reason,
            prompt_tokens=len(sequence.prompt),
            new_tokens=len(sequence.tokens),
            tokens_saved=saved,
            tokens=tuple(sequence.tokens),
            end_token=self._model.token_text(sequence.pending) if reason == "eog" else None,
            digests=tuple(sequence.digests),
            scores=tuple(sequence.scores),
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
            stats = self.stats
            self._on_progress(DecodeProgress(stats.n_done, len(self._active), stats.new_tokens, stats.kv_bytes))
