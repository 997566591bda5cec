"""A model without weights: the next token is a hash of the sequence so far, and every rule of decoding is checked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from icl_local.engine.sequences import BatchToken, Grammar, Interrupted

EOG = 0


class FakeModel:
    """Tokens are bytes. ``script`` maps a sequence of tokens to the next one; the default hashes it."""

    def __init__(
        self,
        *,
        n_ctx_train: int = 4096,
        script: Callable[[list[int]], int] | None = None,
        interrupt_after: int | None = None,
        min_rows: int = 2,
    ) -> None:
        self.n_ctx_train = n_ctx_train
        self.n_vocab = 256
        self.min_rows = min_rows
        self.batches: list[list[BatchToken]] = []
        self._script = script or self._hashed
        self._interrupt_after = interrupt_after
        self._sequences: list[list[int]] = []
        self._logits: dict[int, NDArray[np.float32]] = {}

    def tokenize(self, text: str, *, plain: tuple[int, int] | None = None) -> list[int]:
        return list(text.encode())

    def piece(self, token: int) -> bytes:
        return b"" if token == EOG else bytes([token])

    def token_text(self, token: int) -> str:
        return "<end>" if token == EOG else chr(token)

    def is_eog(self, token: int) -> bool:
        return token == EOG

    def open(self, *, n_sequences: int, n_ctx_seq: int) -> None:
        assert n_ctx_seq % 256 == 0
        self.n_ctx_seq = n_ctx_seq
        self._sequences = [[] for _ in range(n_sequences)]

    def decode(self, batch: Sequence[BatchToken]) -> None:
        if self._interrupt_after is not None and len(self.batches) >= self._interrupt_after:
            raise Interrupted
        self.batches.append(list(batch))
        ids = [token.sequence for token in batch]
        assert ids == sorted(ids), "tokens must ascend by sequence"
        assert sorted(set(ids)) == list(range(min(ids), max(ids) + 1)), "sequences must have no gaps"
        assert len(batch) >= self.min_rows, "a batch must have the least number of tokens"
        requested = sum(token.logits for token in batch)
        assert requested == 0 or requested >= self.min_rows, "a batch must request the least number of logits"
        lengths = {ids.count(number) for number in ids}
        assert len(lengths) == 1, "chunks must have one length"
        self._logits = {}
        for index, token in enumerate(batch):
            sequence = self._sequences[token.sequence]
            assert token.position == len(sequence), "positions must go on where the sequence ends"
            assert token.position < self.n_ctx_seq
            sequence.append(token.token)
            if token.logits:
                self._logits[index] = self._row(sequence)

    def logits(self, index: int) -> NDArray[np.float32]:
        return self._logits[index]

    def copy_sequence(self, source: int, target: int) -> None:
        self._sequences[target] = list(self._sequences[source])

    def cut_sequence(self, sequence: int, length: int) -> None:
        del self._sequences[sequence][length:]

    def save_sequence(self, sequence: int) -> bytes:
        return json.dumps(self._sequences[sequence]).encode()

    def load_sequence(self, sequence: int, state: bytes) -> bool:
        self._sequences[sequence] = json.loads(state)
        return True

    def grammar(self, text: str) -> Grammar:
        raise NotImplementedError

    def _row(self, sequence: list[int]) -> NDArray[np.float32]:
        logits = np.zeros(256, dtype=np.float32)
        logits[self._script(sequence)] = 1e6
        return logits

    @staticmethod
    def _hashed(sequence: list[int]) -> int:
        digest = hashlib.sha256(bytes(sequence)).digest()
        return EOG if digest[0] < 8 else 97 + digest[1] % 26
