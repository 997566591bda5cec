"""Decoded prompt prefixes, kept in memory across cells and on disk across runs.

A prefix state is llama.cpp's KV state of one sequence: restoring it gives the same bits as decoding the prefix. The
folder is bounded; the least recently used file is deleted first. A file is named by a hash over the weights, the build,
the settings and the tokens, and holds its own SHA-256: a torn or foreign file is a miss, never a wrong state.
"""

import hashlib
import os
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

from icl_local.files import write_file
from icl_local.identity import key_of

MIN_DISK_TOKENS = 256  # below that decoding is about as quick as reading
DISK_BYTES = 2 << 30
MEMORY_BYTES = 1 << 30


class PrefixCache:
    """States by token sequence for one loaded model; ``scope`` names everything else that a state depends on."""

    def __init__(self, scope: str, folder: Path | None = None) -> None:
        self.scope = scope
        self._folder = folder
        self._memory: OrderedDict[str, bytes] = OrderedDict()

    def get(self, tokens: Sequence[int]) -> bytes | None:
        """Return the state decoded for exactly these tokens, or None."""
        key = self._key(tokens)
        if key in self._memory:
            self._memory.move_to_end(key)
            return self._memory[key]
        if self._folder is None:
            return None
        path = self._folder / key
        try:
            data = path.read_bytes()
            os.utime(path)
        except OSError:
            return None
        digest, state = data[:32], data[32:]
        if hashlib.sha256(state).digest() != digest:
            return None
        self._remember(key, state)
        return state

    def put(self, tokens: Sequence[int], state: bytes) -> None:
        """Keep a state; if the folder cannot be written, in memory only, since the state can be made again."""
        key = self._key(tokens)
        self._remember(key, state)
        if self._folder is None or len(tokens) < MIN_DISK_TOKENS:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_file(self._folder / key, hashlib.sha256(state).digest() + state)
            self._trim()
        except OSError:
            return

    def forget(self) -> None:
        """Drop the states in memory."""
        self._memory.clear()

    def _remember(self, key: str, state: bytes) -> None:
        self._memory[key] = state
        while len(self._memory) > 1 and sum(map(len, self._memory.values())) > MEMORY_BYTES:
            self._memory.popitem(last=False)

    def _trim(self) -> None:
        assert self._folder is not None
        files = sorted((entry.stat().st_mtime, entry.stat().st_size, entry) for entry in self._folder.iterdir())
        total = sum(size for _, size, _ in files)
        for _, size, path in files[:-1]:
            if total <= DISK_BYTES:
                return
            path.unlink(missing_ok=True)
            total -= size

    def _key(self, tokens: Sequence[int]) -> str:
        return key_of(scope=self.scope, tokens=list(tokens))
