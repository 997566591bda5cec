"""The sequences of an open context: what each holds, what a new prompt keeps of that, and batches with equal sums.

The rules follow from how llama.cpp splits a batch when every sequence has its own KV stream, and from its kernels:

- tokens ascend by sequence id, without gaps between the ids: a gap would split the batch in two;
- prompts are decoded in separate steps, chunks of equal length side by side;
- a batch never has fewer than ``min_rows`` tokens, nor requests fewer logits: some kernels sum differently for few
  rows, and the last layer computes only the rows whose logits are requested;
- a prompt keeps what it shares with the one before, which in token order shares most with it of all earlier ones: that
  sequence is copied and cut. Two tokens at least are left to each prompt, since attention over a chunk of one token
  runs another kernel than over several; generated tokens are never kept, for the same reason.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from icl_local.engine.prefix_cache import PrefixCache
from icl_local.engine.protocol import EngineOptions, Stats

_WORTH = 1 / 20  # of a prompt's tokens to decode: what a copy must save


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
    """The part of a model with an open context that decoding uses."""

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


class Sequences:
    """The sequences of a model's open context, ``n`` of them; ``past`` counts the tokens that each has."""

    def __init__(self, model: Model, options: EngineOptions, stats: Stats, n: int) -> None:
        self._model = model
        self._options = options
        self._stats = stats
        self._prompts: list[list[int]] = [[] for _ in range(n)]
        self._newest = 0
        self.past = [0] * n

    def hold_prefix(self, prefix: list[int], n: int, cache: PrefixCache | None) -> None:
        """Give the first ``n`` sequences, all empty, the prefix of all prompts, from ``cache`` or decoded once."""
        self._prompts[0] = prefix
        state = cache.get(prefix) if cache is not None else None
        if state is not None and self._model.load_sequence(0, state):
            self._stats.prefix_source = "cache"
        else:
            list(self.prefill({0: len(prefix)}))
            self._stats.prefix_source = "decoded"
            if cache is not None:
                cache.put(prefix, self._model.save_sequence(0))
        self.past[0] = self._stats.prefix_tokens = len(prefix)
        for sequence in range(1, n):
            self._copy(0, sequence)

    def place(self, free: Sequence[int], prompt: list[int], *, first_row: int) -> int | None:
        """Return the sequence of ``free`` that will decode ``prompt``, cut to what it shares before ``first_row``.

        None if the prompt should wait, because it shares much with what the one before has still to decode.
        """
        newest = self._newest
        number = newest if newest in free else free[0]
        most = first_row if self._options.share_prefix else 0
        to_come = n_shared(self._prompts[newest], prompt, most=most)
        kept, copied = (n_shared(self._prompts[one][: self.past[one]], prompt, most=most) for one in (number, newest))
        worth = _WORTH * (len(prompt) - max(kept, copied))
        if to_come - max(kept, copied) > worth:
            return None
        if copied - kept > worth:
            self._copy(newest, number)
            kept = copied
        self._model.cut_sequence(number, kept)
        self._prompts[number], self.past[number], self._newest = prompt, kept, number
        return number

    def prefill(self, rows_from: Mapping[int, int]) -> Iterator[tuple[int, int]]:
        """Decode the prompts placed in the sequences, with logits from a position on: {sequence: position}.

        Yields (sequence, batch index of the logits) row by row; the logits are valid until the next row is asked for.
        """
        remaining = [(one, len(self._prompts[one]) - self.past[one]) for one in sorted(rows_from)]
        for step in prefill_steps(remaining, n_ubatch=self._options.n_ubatch):
            batch = [
                BatchToken(self._prompts[one][position], one, position, position >= rows_from[one])
                for one, count in step
                for position in range(self.past[one], self.past[one] + count)
            ]
            offset = self.decode(batch, prefill=True)
            yield from ((token.sequence, offset + index) for index, token in enumerate(batch) if token.logits)

    def decode(self, tokens: list[BatchToken], *, prefill: bool = False) -> int:
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
            self._model.cut_sequence(sequence, self.past[sequence])
        spent = time.perf_counter() - started
        for token in tokens:
            self.past[token.sequence] += 1
        if prefill:
            self._stats.prefill_seconds += spent
            self._stats.prefilled_tokens += len(tokens)
        else:
            self._stats.decode_seconds += spent
            self._stats.steps += 1
        return len(before)

    def release(self, sequence: int) -> None:
        """Keep the prompt of a sequence, and cut off what was generated."""
        self.past[sequence] = len(self._prompts[sequence])
        self._model.cut_sequence(sequence, self.past[sequence])

    def move(self, source: int, target: int) -> None:
        """Continue in ``target`` with what ``source`` holds."""
        self._copy(source, target)
        self.release(source)

    def _copy(self, source: int, target: int) -> None:
        self._model.copy_sequence(source, target)
        self._prompts[target], self.past[target] = self._prompts[source], self.past[source]

    def _padding(self, tokens: Sequence[BatchToken]) -> tuple[list[BatchToken], list[BatchToken]]:
        """Return throw-away tokens before and after: as many as the step's own, each in a neighbouring sequence.

        They follow the neighbour's last token and are cut off again, which leaves its KV cells unchanged.
        """
        first, last = tokens[0].sequence, tokens[-1].sequence
        count = len(tokens) // (last - first + 1)
        lacking = -(-(self._options.min_rows - len(tokens)) // count)
        neighbours = [*range(last + 1, len(self.past)), *range(first - 1, -1, -1)][: max(0, lacking)]
        padding = [
            BatchToken(tokens[0].token, sequence, self.past[sequence] + i)
            for sequence in sorted(neighbours)
            for i in range(count)
        ]
        return [one for one in padding if one.sequence < first], [one for one in padding if one.sequence > last]


def n_shared(held: Sequence[int], prompt: Sequence[int], *, most: int | None = None) -> int:
    """Return how many tokens ``prompt`` can keep of ``held``: what they share, at most ``most``, and two are left."""
    if len(held) < 2:  # one token alone is decoded by another kernel
        return 0
    return max(0, min(shared_length(held, prompt), len(prompt) - 2, len(prompt) if most is None else most))


def shared_length(a: Sequence[object], b: Sequence[object]) -> int:
    """Return the number of first items that are equal."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def tokens_to_prefill(prompts: Sequence[list[int]]) -> int:
    """Return the tokens that are decoded for the prompts: what they share once, but two of each prompt at least."""
    ordered = [[], *sorted(prompts)]
    return sum(len(prompt) - n_shared(held, prompt) for held, prompt in pairwise(ordered))


def prefill_steps(remaining: Sequence[tuple[int, int]], *, n_ubatch: int) -> Iterator[list[tuple[int, int]]]:
    """Yield the steps that decode ``remaining`` [(sequence, tokens left)], ascending by sequence.

    A step is [(sequence, tokens)]: a run of neighbouring sequences with chunks of one length, at most ``n_ubatch``
    tokens. No chunk has one token unless the whole prompt has.
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
