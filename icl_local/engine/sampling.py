"""Sampling from the kept tokens, with random numbers that depend only on what is drawn.

Temperature, top-p and min-p are applied as in Transformers and in its order, after the repetition penalty, in float64.
The uniform number of a token comes from its request and its position and not from batch, order or machine, so every
draw can be decoded again.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from icl_local.identity import draw

_NARROWER = 1 / 64  # from one share of the best token's probability to the next, until the kept tokens are found


@dataclass(frozen=True)
class Sampling:
    """How tokens are sampled. ``of`` names the draw: seed, data set, query, number of the draw.

    ``temperature`` > 0 divides the logits; ``top_p`` keeps the most probable tokens that together reach it, ``min_p``
    those with at least that share of the best token's probability. 1 and 0 keep all.
    """

    temperature: float
    top_p: float
    min_p: float
    of: tuple[int | str, ...]

    def pick(self, logits: NDArray[np.float32], position: int) -> int:
        """Return the id drawn from penalised ``logits`` [n_vocab] for the token at ``position`` of the answer.

        It is the first kept id whose cumulative probability exceeds the uniform number.
        """
        u = draw(*self.of, position)
        ids, cumulative, total = self.kept(logits, u)
        place = int(np.searchsorted(cumulative, u * total, side="right"))
        return int(ids[min(place, len(ids) - 1)])

    def kept(
        self, logits: NDArray[np.float32], u: float = math.inf
    ) -> tuple[NDArray[np.int64], NDArray[np.float64], float]:
        """Return the kept ids by falling probability, ties by id, their cumulative weights, and the weight of all kept.

        Where all tokens are kept, ids may end once their weight exceeds the share ``u``. A full sort takes several
        times as long as the exponentials, so only the tokens are sorted that can be needed.
        """
        weights = logits.astype(np.float64)
        weights -= weights.max()
        weights /= self.temperature
        np.exp(weights, out=weights)
        total = float(weights.sum())
        keeps_all = self.top_p == 1 and self.min_p == 0
        enough = total * (u if keeps_all else self.top_p)
        floor = max(self.min_p, _NARROWER)
        while True:
            ids = np.flatnonzero(weights >= floor)
            found = weights[ids]
            if floor <= self.min_p or found.sum() > enough:
                break
            floor = max(self.min_p, floor * _NARROWER) if floor > 1e-300 else 0.0
        ids = _falling(logits, ids)
        cumulative = np.cumsum(weights[ids])
        if self.top_p < 1:
            n = int(np.searchsorted(cumulative, self.top_p * total)) + 1
            ids, cumulative = ids[:n], cumulative[:n]
        return ids, cumulative, total if keeps_all else float(cumulative[-1])


def _falling(logits: NDArray[np.float32], ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return ``ids`` by falling logit, ties by id.

    Logit and id are one integer each, since numpy sorts integers about ten times as fast as it argsorts with ties kept.
    """
    bits = (logits[ids] + np.float32(0)).view(np.int32).astype(np.int64)  # -0 becomes 0
    rising = np.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    return np.sort((-rising << 32) + ids) & 0xFFFFFFFF
