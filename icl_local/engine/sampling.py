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
        ids, cumulative, least, most = self.kept(logits, u)
        place, last = np.searchsorted(cumulative, (u * least, u * most), side="right")
        if place < last:  # the exact weight decides
            ids, cumulative, least, _ = self.kept(logits, 1.0)
            place = np.searchsorted(cumulative, u * least, side="right")
        return int(ids[min(place, len(ids) - 1)])

    def kept(
        self, logits: NDArray[np.float32], u: float = math.inf
    ) -> tuple[NDArray[np.int64], NDArray[np.float64], float, float]:
        """Return the kept ids by falling probability, ties by id, their cumulative weights, and the weight of all kept.

        The weight is given as the least and the most it can be. ``u`` < 1: the ids may end once they have that share of
        it, and only then can the two differ. A full sort takes several times as long as the exponentials, so only
        the tokens that may be needed are sorted.
        """
        weights = logits.astype(np.float64)
        weights -= weights.max()
        weights /= self.temperature
        np.exp(weights, out=weights)
        total = float(weights.sum())
        above_min_p = total if self.min_p == 0 else float(weights[weights >= self.min_p].sum())
        nucleus = self.top_p * total
        least, floor = min(nucleus, above_min_p), max(self.min_p, _NARROWER)
        while True:
            ids = np.flatnonzero(weights >= floor)
            found = weights[ids]
            if floor <= self.min_p or found.sum() > u * (least + floor):
                break
            floor = max(self.min_p, floor * _NARROWER) if floor > 1e-300 else 0.0
        ids = _falling(logits, ids)
        cumulative = np.cumsum(weights[ids])
        if self.top_p < 1 and cumulative[-1] > nucleus:
            n = int(np.searchsorted(cumulative, nucleus)) + 1
            return ids[:n], cumulative[:n], float(cumulative[n - 1]), float(cumulative[n - 1])
        # the token that completes the nucleus is less probable than all that were found
        return ids, cumulative, least, least if least == above_min_p else least + floor


def _falling(logits: NDArray[np.float32], ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return ``ids`` by falling logit, ties by id.

    Logit and id are one integer each, since numpy sorts integers about ten times as fast as it argsorts with ties kept.
    """
    bits = (logits[ids] + np.float32(0)).view(np.int32).astype(np.int64)  # -0 becomes 0
    rising = np.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    return np.sort((-rising << 32) + ids) & 0xFFFFFFFF
