"""Infinite loops in a text: maximal periodic runs of at least six copies of a unit (paper, section 6: "repeated more
than 5 times"). Pure.

The literal reading takes any unit: what the regular expression ``(.+?)\\1{5,}`` with DOTALL finds first. The default
reading needs a letter or digit in the unit and a run of 50 characters or more, so that rules, table lines and
indentation stay out. Both are exact: a run of six copies of a unit of p characters holds two equal neighbouring
blocks of p at some multiple of 4 p, so a sample at each of those, n/4 ln n samples over all p, misses nothing. Samples
compare fingerprints (a polynomial hash modulo a prime); what passes is measured character by character.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MIN_COPIES = 6
MIN_SPAN = 50  # characters

_STRIDE = MIN_COPIES - 2  # a run of 6 copies holds a whole pair of blocks at a multiple of this many periods
_SAMPLES = 1 << 18  # samples taken at once, which bounds the memory
_PRIME = 2**31 - 1
_BASE = 1_103_515_245


@dataclass(frozen=True)
class Loop:
    """A maximal periodic run; all lengths in characters. ``copies`` counts the partial last one: span / len(unit)."""

    start: int
    unit: str
    copies: float
    span: int
    reaches_end: bool


def find_loop(text: str) -> Loop | None:
    """Return the leftmost run of six or more copies that spans 50 characters and whose unit has a letter or digit."""
    return find_loops(text)[1]


def find_loops(text: str) -> tuple[Loop | None, Loop | None]:
    """Return the leftmost run of six copies or more, the match of ``(.+?)\\1{5,}`` (DOTALL), and ``find_loop``'s."""
    periods = _Periods(text)
    literal = periods.first_run(min_span=0, wordy=False)
    if literal is None or (literal.span >= MIN_SPAN and any(map(str.isalnum, literal.unit))):
        return literal, literal
    return literal, periods.first_run(min_span=MIN_SPAN, wordy=True)


class _Periods:
    """The periodic runs of one text of n characters: O(n log n) time, about 40 n bytes."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        self._sums: NDArray[np.int64] | None = None
        self._powers: NDArray[np.int64] | None = None

    def first_run(self, *, min_span: int, wordy: bool) -> Loop | None:
        """Return the leftmost qualifying run, the shortest period among those that start there.

        Sample all periods, then widen each place that can be a run that starts before the best so far.
        """
        words = None
        if wordy:
            words = np.zeros(len(self.text) + 1, dtype=np.int64)
            np.cumsum(np.fromiter(map(str.isalnum, self.text), dtype=bool, count=len(self.text)), out=words[1:])
        best: Loop | None = None
        n = len(self.codes)
        low, top = 1, n // MIN_COPIES
        while low <= top:
            high = min(top + 1, int(low * math.exp(min(30.0, 4 * _SAMPLES / n))) + 1)
            starts, periods = self._candidates(np.arange(low, high), n if best is None else best.start, words)
            for j, period in zip(starts.tolist(), periods.tolist(), strict=True):
                if best is not None and j >= best.start:
                    before = best.start - 1
                    if before < 0 or self.codes[before] != self.codes[before + period]:
                        continue  # this run cannot reach back beyond the best
                start = j - _agree(self.codes[:j][::-1], self.codes[period : j + period][::-1])
                end = j + _agree(self.codes[j : n - period], self.codes[j + period :]) + period
                if end - start >= max(MIN_COPIES * period, min_span) and (best is None or start < best.start):
                    span = end - start
                    best = Loop(start, self.text[start : start + period], span / period, span, end == n)
            low = high
        return best

    def _candidates(
        self, periods: NDArray[np.int64], before: int, words: NDArray[np.int64] | None
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return samples (position, period), by period, whose fingerprints match five equal pairs in a row."""
        codes = self.codes
        steps = np.minimum(len(codes) - 2 * periods, before + _STRIDE * periods - 1) // (_STRIDE * periods) + 1
        p = np.repeat(periods, steps)
        j = (np.arange(len(p)) - np.repeat(np.cumsum(steps) - steps, steps)) * _STRIDE * p
        keep = (codes[j] == codes[j + p]) & (codes[j + p - 1] == codes[j + 2 * p - 1])
        if words is not None:
            keep &= words[j + p] > words[j]
        j, p = j[keep], p[keep]
        keep = self._same_blocks(j, p)
        j, p = j[keep], p[keep]
        if not len(j):
            return j, p
        # The pair at j is one; whole pairs on its two sides must give three more of the five that six copies have.
        pairs = np.zeros(len(j), dtype=np.int64)
        for side in (-1, 1):
            going = np.ones(len(j), dtype=bool)
            for distance in range(1, _STRIDE):
                going[going] = self._same_blocks(j[going] + side * distance * p[going], p[going])
                pairs += going
        keep = pairs >= _STRIDE - 1
        return j[keep], p[keep]

    def _same_blocks(self, j: NDArray[np.int64], p: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return whether codes[j : j + p] and codes[j + p : j + 2 p] have one fingerprint; False outside the text."""
        if self._sums is None or self._powers is None:
            self._powers = _powers(len(self.codes))
            self._sums = np.zeros(len(self.codes) + 1, dtype=np.int64)
            np.cumsum(self._powers * self.codes % _PRIME, out=self._sums[1:])
        same = (j >= 0) & (j + 2 * p <= len(self.codes))
        j, p = j[same], p[same]
        first = (self._sums[j + p] - self._sums[j]) % _PRIME
        second = (self._sums[j + 2 * p] - self._sums[j + p]) % _PRIME
        same[same] = first * self._powers[p] % _PRIME == second
        return same


def _powers(n: int) -> NDArray[np.int64]:
    """Return _BASE ** i mod _PRIME for i < n; every product stays below 2**62."""
    powers = np.ones(n, dtype=np.int64)
    done = 1
    while done < n:
        more = min(done, n - done)
        powers[done : done + more] = powers[:more] * pow(_BASE, done, _PRIME) % _PRIME
        done += more
    return powers


def _agree(one: NDArray[np.uint32], other: NDArray[np.uint32]) -> int:
    """Return the number of leading items in which two arrays of equal length agree; reads little further than that."""
    done, size = 0, 64
    while done < len(one):
        breaks = np.flatnonzero(one[done : done + size] != other[done : done + size])
        if len(breaks):
            return done + int(breaks[0])
        done, size = done + size, size * 4
    return len(one)


class LoopWatch:
    """Finds a loop while a text is written: ``found`` turns true with the first character that makes one.

    After every ``append``, ``found`` equals ``find_loop(text so far) is not None``. One character costs a few numpy
    operations over as many numbers as there are characters before it: meant for answers, not for megabytes.
    """

    def __init__(self) -> None:
        self.found = False
        self._length = 0
        self._codes = np.zeros(1024, dtype=np.uint32)
        self._words = np.zeros(1025, dtype=np.int32)  # letters and digits before each position
        self._agreeing = np.zeros(1024, dtype=np.int32)  # by period - 1: how many last characters repeat
        self._needed = _needed(1024)

    def append(self, piece: str) -> bool:
        """Take the next piece of the text, of any length; returns ``found``."""
        for character in piece:
            if self.found:
                break
            self._push(character)
        return self.found

    def _push(self, character: str) -> None:
        n = self._length
        if n == len(self._codes):
            self._codes = np.concatenate((self._codes, np.zeros(n, dtype=np.uint32)))
            self._words = np.concatenate((self._words, np.zeros(n, dtype=np.int32)))
            self._agreeing = np.concatenate((self._agreeing, np.zeros(n, dtype=np.int32)))
            self._needed = _needed(2 * n)
        agreeing = self._agreeing[:n]
        agreeing += 1
        agreeing *= self._codes[:n][::-1] == ord(character)
        self._codes[n] = ord(character)
        self._words[n + 1] = self._words[n] + character.isalnum()
        self._length = n = n + 1
        longest = n // MIN_COPIES
        (looping,) = (self._agreeing[:longest] >= self._needed[:longest]).nonzero()
        if len(looping):
            self.found = bool(np.any(self._words[n] > self._words[n - 1 - looping]))


def _needed(size: int) -> NDArray[np.int32]:
    """Return, by period - 1, how many characters must repeat the one a period before for the run to be a loop."""
    periods = np.arange(1, size + 1, dtype=np.int32)
    return np.maximum((MIN_COPIES - 1) * periods, MIN_SPAN - periods)
