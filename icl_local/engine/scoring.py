"""Scoring of given texts: decoding whose tokens are given, so that a sequence is its prompt and target at once.

The rows that predict the target begin at the prompt's last token; the target's last token predicts no scored token and
is not decoded. All else is engine/batching.py's, so a score depends on the other sequences of its batch as little as a
decoded token does.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from icl_local.engine.penalty import penalise
from icl_local.engine.protocol import Request
from icl_local.engine.sequences import Model, shared_length

LOGIT_BYTES = 256 << 20  # of one step: float32, one row a scored token


@dataclass
class Target:
    """The ids to score, whether they begin before the prompt's end, and logprob, ranks and first choice of each."""

    ids: list[int]
    straddles: bool = False
    found: list[tuple[float, int, int, int]] = field(default_factory=list)

    def next(self, logits: NDArray[np.float32], seen: NDArray[np.int64], penalty: float) -> int:
        """Return the next id, and keep what ``logits`` [n_vocab] say about it; they change in place."""
        token, top = self.ids[len(self.found)], int(logits.argmax())
        logprob, raw_rank = log_probability(logits, token), rank(logits, token)
        penalise(logits, seen, penalty)
        self.found.append((logprob, raw_rank, rank(logits, token), top))
        return token

    def result(self, model: Model) -> dict[str, Any]:
        """Return fields of a Completion."""
        names = ("logprobs", "ranks", "ranks_decoded", "top_ids")
        columns = dict(zip(names, zip(*self.found, strict=True), strict=False))  # nothing found: no columns
        occurring = sorted({*self.ids, *columns.get("top_ids", ())})
        texts = [model.piece(one).decode("utf-8", "replace") or model.token_text(one) for one in occurring]
        return {**columns, "pieces": tuple(zip(occurring, texts, strict=True)), "straddles": self.straddles}


def split(model: Model, request: Request) -> tuple[list[int], Target | None]:
    """Return the ids of a request's prompt, and its target if it has one."""
    alone = model.tokenize(request.prompt, plain=request.plain)
    if not isinstance(request.target, str):
        return alone, None if request.target is None else Target(list(request.target))
    whole = model.tokenize(request.prompt + request.target, plain=request.plain)
    start = max(1, shared_length(alone, whole))
    return whole[:start], Target(whole[start:], start < len(alone))


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
