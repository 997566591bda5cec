"""A node's side of a cluster: a llama.cpp worker. Independent of Ray."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icl_local.engine import Completion, EngineInfo, EngineOptions, Request, Stats, Worker
from icl_local.exceptions import ModelError
from icl_local.weights import checksum, hub


@dataclass(frozen=True)
class Load:
    """A file for an actor: its path, its checksum, its source, and the engine's options."""

    path: Path
    sha256: str
    source: str
    options: EngineOptions


class NodeWorker:
    """A Ray actor: a Worker that is started with the first file."""

    def __init__(self) -> None:
        self._worker: Worker | None = None
        self._load: Load | None = None

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

    def generate(self, requests: Sequence[Request], overrides: Mapping[str, Any]) -> Iterator[Completion | Stats]:
        """Yield the completions as they end, then the sums. Raises EngineError; the file is to be loaded again then."""
        assert self._worker is not None, "load comes before generate"
        try:
            yield from self._worker.generate(requests, **overrides)
            yield self._worker.stats
        except Exception:
            self.unload()  # llama.cpp may be gone
            raise


def _local_file(load: Load) -> Path:
    path = load.path
    if not path.is_file() and load.source.startswith("hf:"):
        path = hub.fetch(load.source).path
    if not path.is_file():
        raise ModelError(f"a node has no {path}; put the file there on every node, or name it as hf:owner/repo/file")
    if checksum.sha256_of(path) != load.sha256:
        raise ModelError(f"{path} on a node differs from the file here; copy it to every node")
    return path
