"""Scoring of given texts: a sequence is prompt and target, decoded as a prompt is, with logits for the target.

The rows that predict the target begin at the prompt's last token; the target's last token predicts no scored token and
is not decoded. Prefix sharing, chunks and padding are those of decoding (engine/batching.py), so a score depends on the
other sequences of its batch as little as a decoded token does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from icl_local.engine.batching import Generation, Slot
from icl_local.engine.penalty import Seen, penalise
from icl_local.engine.protocol import EngineOptions, Request, Scored, ScoreRequest
from icl_local.engine.sequences import Model, shared_length

LOGIT_BYTES = 256 << 20  # of one step: float32, one row a scored token


@dataclass
class ScoreSlot(Slot):
    """A sequence that is scored; the lists grow row by row."""

    first_row: int = 0
    target: Sequence[int] = ()
    straddles: bool = False
    logprobs: list[float] = field(default_factory=list)
    ranks: list[int] = field(default_factory=list)
    ranks_decoded: list[int] = field(default_factory=list)
    top_ids: list[int] = field(default_factory=list)


class Scoring(Generation):
    """One score call: iterate for Scored, then read ``stats``, whose ``new_tokens`` are the scored ones."""

    def __init__(self, model: Model, requests: Sequence[Request], options: EngineOptions, **rest: Any) -> None:
        rows = max(2, LOGIT_BYTES // (4 * model.n_vocab))
        super().__init__(model, requests, options.replace(n_ubatch=min(options.n_ubatch, rows)), **rest)
        self._targets: dict[str, tuple[list[int], bool]] = {}

    def _tokens(self, request: Request) -> list[int]:
        assert isinstance(request, ScoreRequest)
        prompt, straddles = super()._tokens(request), False
        whole = [*prompt, *request.target_tokens]
        if request.target is not None:
            alone, whole = prompt, self._model.tokenize(request.prompt + request.target, plain=request.plain)
            prompt = whole[: max(1, shared_length(alone, whole))]
            straddles = len(prompt) < len(alone)
        self._targets[request.id] = whole[len(prompt) :], straddles
        return whole[:-1] if len(whole) > len(prompt) > 0 else prompt

    def _first_row(self, request: Request, prompt: list[int]) -> int:
        target, _ = self._targets[request.id]
        return len(prompt) - max(1, len(target))

    def _too_long(self, request: Request, n_tokens: int) -> Scored:
        return Scored(request.id, "", "prompt_too_long", n_tokens, 0)

    def _start(self, request: Request, prompt: list[int]) -> ScoreSlot:
        first_row = self._first_row(request, prompt)
        target, straddles = self._targets.pop(request.id)
        seen = Seen(prompt[: first_row + 1])
        return ScoreSlot(request, prompt, seen, 0, first_row=first_row, target=target, straddles=straddles)

    def _pick(self, sequence: Slot, index: int) -> None:
        assert isinstance(sequence, ScoreSlot)
        if not sequence.target:
            return
        logits = self._model.logits(index)
        token, top = sequence.target[len(sequence.ranks)], int(logits.argmax())
        if self._options.trace:
            sequence.digests.append(hashlib.blake2b(logits.tobytes(), digest_size=8).hexdigest())
        sequence.top_ids.append(top)
        sequence.logprobs.append(log_probability(logits, token))
        sequence.ranks.append(rank(logits, token))
        penalise(logits, sequence.seen.ids, sequence.request.repetition_penalty)
        sequence.ranks_decoded.append(rank(logits, token))
        sequence.seen.add(token)
        self.stats.new_tokens += 1

    def _reason(self, sequence: Slot) -> str:
        return "scored"

    def _ended(self, sequence: Slot, reason: str) -> Scored:
        assert isinstance(sequence, ScoreSlot)
        text = b"".join(map(self._model.piece, sequence.target))
        ids = sorted({*sequence.target, *sequence.top_ids})
        return Scored(
            id=sequence.request.id,
            raw_text=text.decode("utf-8", "replace"),
            finish_reason=reason,
            prompt_tokens=sequence.first_row + 1,
            new_tokens=len(sequence.target),
            tokens=tuple(sequence.target),
            digests=tuple(sequence.digests),
            logprobs=tuple(sequence.logprobs),
            ranks=tuple(sequence.ranks),
            ranks_decoded=tuple(sequence.ranks_decoded),
            top_ids=tuple(sequence.top_ids),
            pieces=tuple((one, self._piece(one)) for one in ids),
            n_bytes=len(text),
            straddles=sequence.straddles,
        )

    def _piece(self, token: int) -> str:
        return self._model.piece(token).decode("utf-8", "replace") or self._model.token_text(token)


def log_probability(logits: NDArray[np.float32], token: int) -> float:
    """Return the natural logarithm of the token's probability by softmax.

    The exponentials are float32, their sum is float64: within 1e-6 of float64 throughout, in a fifth of the time.
    """
    top = logits.max()
    total = np.exp(logits - top).sum(dtype=np.float64)
    return float(np.float64(logits[token]) - np.float64(top) - np.log(total))


def rank(logits: NDArray[np.float32], token: int) -> int:
    """Return the token's place by logit, from 1; among equal logits the lower id comes first."""
    value = logits[token]
    return 1 + int(np.count_nonzero(logits > value)) + int(np.count_nonzero(logits[:token] == value))
