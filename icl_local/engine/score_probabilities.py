"""Probabilities of the scores that a judge could have written, at the step where it writes one, in float64."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

MARK = b'"score":'  # a reply that ends so, with or without its space, goes on with a value
N_VALUES = 6  # the scores 1 to 5 and N/A
_UNDECIDED = N_VALUES


def before_score(output: bytes | bytearray) -> bool:
    """Return whether the next token can fix a score."""
    return output.endswith((MARK, MARK + b" "))


def value_of(piece: bytes) -> int:
    """Return the value that a token fixes: 0 to 4 are the scores 1 to 5, 5 is N/A, 6 none yet.

    Its first character after an optional space decides: no score has two digits.
    """
    first = piece.removeprefix(b" ")[:1]
    return {b"1": 0, b"2": 1, b"3": 2, b"4": 3, b"5": 4, b'"': 5}.get(first, _UNDECIDED)


def score_probabilities(logits: NDArray[np.float32], pieces: Sequence[bytes]) -> tuple[float, ...]:
    """Return the probabilities (7,) of the scores 1 to 5, of N/A, and of tokens that fix nothing yet.

    ``logits`` (n,) are those of the allowed tokens in the order of their ids, ``pieces`` (n,) their texts.
    """
    exact = logits.astype(np.float64)
    weights = np.exp(exact - exact.max())
    weights /= weights.sum()
    sums = [0.0] * (N_VALUES + 1)
    for weight, piece in zip(weights.tolist(), pieces, strict=True):
        sums[value_of(piece)] += weight
    return tuple(sums)
