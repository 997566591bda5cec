"""What decodes the cells of a run: one worker process on this machine, a cluster's actors, or a server."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from icl_local import store
from icl_local.cache import cache_path
from icl_local.engine import EngineOptions, Worker
from icl_local.running.cells import Model
from icl_local.running.cluster import Cluster, ClusterGenerator
from icl_local.running.probe import Setting, setting_for
from icl_local.running.server import ServerGenerator, ServerModel

AnyWorker = Worker | ServerGenerator | ClusterGenerator


class Engines:
    """The actors of a cluster, or at most one worker, with the file of the present cell; or a server.

    With ``probe`` the settings that are exact for a file are looked up, or found.
    """

    def __init__(
        self, options: EngineOptions, writer: store.Store, *, probe: bool = True, nodes: Cluster | None = None
    ) -> None:
        self._options = options
        self._writer = writer
        self._probe = probe
        self._nodes = nodes
        self._worker: Worker | None = None
        self._loaded: tuple[Path, str | None] | None = None

    def worker(self, model: Model, kv_type: str | None = None) -> AnyWorker:
        """Return what holds the model's file, or a client of the server that has the model."""
        if isinstance(model, ServerModel):
            return ServerGenerator(model, parallel=self._options.parallel)
        options = replace(self._options, kv_type=kv_type)
        if self._nodes is not None:
            return self._nodes.worker(model, options)
        if self._worker is None or self._loaded != (model.path, kv_type):
            self.close()
            self._worker = Worker(model.path, replace(options, prefix_cache=str(cache_path("prefixes"))))
            self._loaded = (model.path, kv_type)
        return self._worker

    def setting(
        self, model: Model, worker: Any, *, prompt_characters: int, **callbacks: Callable[..., None]
    ) -> Setting:
        """Return the stored setting for the model's file, probed if there is none; a server cannot be probed."""
        if not self._probe or isinstance(model, ServerModel):
            return Setting({}, None)
        how: dict[str, Any] = {"parallel": self._options.parallel, "prompt_characters": prompt_characters, **callbacks}

        def find(one: Any) -> Setting:
            return setting_for(self._writer, model, one, **how)

        return find(worker) if self._nodes is None else self._nodes.setting(worker, find)

    def close(self) -> None:
        """End this machine's worker, if there is one; a cluster is closed by the code that opened it."""
        if self._worker is not None:
            self._worker.close()
        self._worker = self._loaded = None
