"""The repetition penalty exactly as Transformers applies it, and the greedy pick, in numpy.

Transformers' RepetitionPenaltyLogitsProcessor: every token id that occurs in the prompt or in the output so far is
penalised once, however often it occurs; a negative logit is multiplied by the penalty, any other divided by it, in
float32. llama.cpp's own sampler looks back over a window, never sees the prompt in the high-level API, and therefore
gives other text.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray


class Seen:
    """The distinct token ids of a prompt and its output so far, in one int array that grows in place."""

    def __init__(self, tokens: Iterable[int]) -> None:
        distinct = dict.fromkeys(tokens)
        self._members = set(distinct)
        self._ids = np.empty(max(64, 2 * len(distinct)), dtype=np.int64)
        self._n = len(distinct)
        self._ids[: self._n] = list(distinct)

    @property
    def ids(self) -> NDArray[np.int64]:
        """Return the ids [n distinct], in order of first occurrence."""
        return self._ids[: self._n]

    def add(self, token: int) -> None:
        """Count ``token`` as seen."""
        if token in self._members:
            return
        self._members.add(token)
        if self._n == len(self._ids):
            self._ids = np.concatenate([self._ids, np.empty_like(self._ids)])
        self._ids[self._n] = token
        self._n += 1


def penalise(logits: NDArray[np.float32], seen: NDArray[np.int64], penalty: float) -> None:
    """Apply the penalty to ``logits`` [n_vocab] in place, at the ids in ``seen`` (distinct)."""
    if penalty == 1.0:
        return
    factor = np.float32(penalty)
    picked = logits[seen]
    logits[seen] = np.where(picked < 0, picked * factor, picked / factor)


def greedy(logits: NDArray[np.float32], seen: NDArray[np.int64], penalty: float) -> int:
    """Return the id of the largest penalised logit, the lowest on a tie; ``logits`` [n_vocab] changes in place."""
    penalise(logits, seen, penalty)
    return int(logits.argmax())
