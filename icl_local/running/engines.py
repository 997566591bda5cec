"""What makes the rows of a run: one worker process on this machine, a cluster's actors, or a server."""

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from icl_local import __version__, store
from icl_local.cache import cache_path
from icl_local.engine import EngineOptions, Worker, available_memory
from icl_local.exceptions import StoreLocked
from icl_local.identity import key_of
from icl_local.running.cells import Model
from icl_local.running.cluster import Cluster, ClusterGenerator
from icl_local.running.probe import Setting, setting_for
from icl_local.running.server import ServerGenerator, ServerModel
from icl_local.store import Row

AnyWorker = Worker | ServerGenerator | ClusterGenerator


def new_run(command: str, seed: int | None = None) -> Row:
    """Return the row of raw.runs of a command that begins now."""
    started_at = store.now()
    return {
        "run_id": key_of(kind="run", started_at=started_at, salt=time.monotonic_ns()),
        "command": command,
        "version": __version__,
        "started_at": started_at,
        "seed": seed,
        "host": f"{available_memory() / 2**30:.1f} GiB free",
    }


@dataclass
class Engines:
    """The actors of a cluster, or at most one worker, with the file of the present cell; or a server.

    With ``probe`` the settings that are exact for a file are looked up, or found. The row of raw.runs, ``run_row``,
    gets the build and processor that decode.
    """

    options: EngineOptions
    writer: store.Store
    run_row: Row
    probe: bool = True
    nodes: Cluster | None = None
    _worker: Worker | None = field(default=None, init=False)
    _loaded: tuple[Path, str | None] | None = field(default=None, init=False)

    @contextmanager
    def only_one(
        self, table: str, keys: Collection[str], have: set[str], on_held: Callable[[], None]
    ) -> Iterator[set[str]]:
        """Keep other processes from making the same rows of raw.<table>; yield the keys it has, ``have`` before.

        Where another process makes them, call ``on_held`` and wait. Shards have other keys, so they do not wait.
        """

        def wait() -> None:
            on_held()
            self.writer.flush()  # the wait may be long
            self.close()

        with store.only_one(self.writer.path, f"{table}-{key_of(kind='lock', keys=sorted(keys))}", wait):
            with suppress(StoreLocked):  # then what is stored since the beginning is made again, and kept once
                have = store.ids(self.writer.path, table, f"{table.removesuffix('s')}_id")
            yield have

    def worker(self, model: Model, kv_type: str | None = None) -> AnyWorker:
        """Return what holds the model's file, or a client of the server that has the model."""
        options = replace(self.options, kv_type=kv_type)
        worker: AnyWorker
        if isinstance(model, ServerModel):
            worker = ServerGenerator(model, parallel=options.parallel)
        elif self.nodes is not None:
            worker = self.nodes.worker(model, options)
        else:
            if self._worker is None or self._loaded != (model.path, kv_type):
                self.close()
                self._worker = Worker(model.path, replace(options, prefix_cache=str(cache_path("prefixes"))))
                self._loaded = (model.path, kv_type)
            worker = self._worker
        self.run_row |= {name: getattr(worker.info, name) for name in ("llama_build", "cpu_features", "n_threads")}
        return worker

    def setting(self, model: Model, worker: Any, prompt_characters: int, report: Callable[..., None]) -> Setting:
        """Return the stored setting for the model's file, probed if there is none; a server cannot be probed."""
        if not self.probe or isinstance(model, ServerModel):
            return Setting({}, None)
        how: dict[str, Any] = {"parallel": self.options.parallel, "prompt_characters": prompt_characters}
        find: Any = partial(setting_for, self.writer, model, report=report, **how)
        found: Setting = find(worker) if self.nodes is None else worker.setting(find)
        return found

    def close(self) -> None:
        """End this machine's worker, if there is one; a cluster is closed by the code that opened it."""
        if self._worker is not None:
            self._worker.close()
        self._worker = self._loaded = None
