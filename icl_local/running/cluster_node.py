"""A node's side of a cluster: a llama.cpp worker and a buffer of finished completions. Independent of Ray."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icl_local.engine import Completion, DecodeProgress, EngineInfo, EngineOptions, Request, Stats, Worker
from icl_local.exceptions import ModelError
from icl_local.weights import checksum, hub

BUFFERED = 256  # finished completions that are kept until the worker waits for the driver
POLL_SECONDS = 2.0  # longest time of a poll


@dataclass(frozen=True)
class Load:
    """A file for an actor: its path, its checksum, its source, and the engine's options."""

    path: Path
    sha256: str
    source: str
    options: EngineOptions


@dataclass(frozen=True)
class Finished:
    """An actor's answer to a poll: new completions, and at the end (``over``) sums and the error."""

    completions: tuple[Completion, ...]
    over: bool
    new_tokens: int
    stats: Stats
    error: str | None = None


class NodeWorker:
    """A Ray actor: a Worker, and a thread that feeds it."""

    def __init__(self) -> None:
        self._worker: Worker | None = None
        self._load: Load | None = None
        self._out: queue.Queue[Completion | None] = queue.Queue(BUFFERED)
        self._thread: threading.Thread | None = None
        self._error: str | None = None
        self._new_tokens = 0

    def load(self, load: Load) -> EngineInfo:
        """Load the file. Raises ModelError if this node has another file, or none, under that path."""
        if self._load != load or self._worker is None:
            self.unload()
            self._worker, self._load = Worker(_local_file(load), load.options), load
        return self._worker.info

    def unload(self) -> None:
        """End the worker process."""
        if self._worker is not None:
            self._worker.close()
        self._worker = self._load = None

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each text."""
        assert self._worker is not None, "load comes before count_tokens"
        return self._worker.count_tokens(texts)

    def start(self, requests: Sequence[Request], overrides: Mapping[str, Any]) -> None:
        """Start to complete ``requests``."""
        self._error, self._new_tokens = None, 0
        self._thread = threading.Thread(target=self._work, args=(requests, overrides), daemon=True)
        self._thread.start()

    def poll(self, wait_seconds: float = POLL_SECONDS) -> Finished:
        """Return what has been finished since the last poll; wait for the first completion."""
        found, over = [], False
        with contextlib.suppress(queue.Empty):
            item = self._out.get(timeout=wait_seconds)
            while item is not None:
                found.append(item)
                item = self._out.get_nowait()
            over = True
        stats = self._worker.stats if self._worker is not None and over else Stats()
        return Finished(tuple(found), over, self._new_tokens, stats, self._error if over else None)

    def _work(self, requests: Sequence[Request], overrides: Mapping[str, Any]) -> None:
        def count(progress: DecodeProgress) -> None:
            self._new_tokens = progress.new_tokens

        try:
            assert self._worker is not None, "load comes before start"
            for completion in self._worker.generate(requests, on_progress=count, **overrides):
                self._out.put(completion)
        except Exception as error:
            self._error = str(error) or type(error).__name__
            self.unload()  # llama.cpp may be gone: the file is loaded again for the next share
        finally:
            self._out.put(None)


def _local_file(load: Load) -> Path:
    path = load.path
    if not path.is_file() and load.source.startswith("hf:"):
        path = hub.fetch(load.source).path
    if not path.is_file():
        raise ModelError(f"a node has no {path}; put the file there on every node, or name it as hf:owner/repo/file")
    if checksum.sha256_of(path) != load.sha256:
        raise ModelError(f"{path} on a node differs from the file here; copy it to every node")
    return path
