"""Workers on the nodes of a Ray cluster, one llama.cpp process each, with the interface of a single worker.

Ray is the extra ``cluster`` and imported only here, inside functions. An actor holds one file at a time and works on a
share of the requests; its completions come as a stream whose buffer is bounded, so that a slow writer slows the actors.
The unfinished requests of a lost actor go to the others; a completion has its request's id, so there are no duplicates.
If the setting is exact and the nodes are alike, the texts are those of a single process (docs/studies.md).
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from icl_local.engine import (
    DEFAULT_PARALLEL,
    Completion,
    EngineInfo,
    EngineOptions,
    Request,
    Stats,
    default_kv_type,
    exact,
)
from icl_local.exceptions import ClusterError, EngineError, ModelError, needs_extra, refuse_idle
from icl_local.running.cluster_node import Load, NodeWorker
from icl_local.running.probe import Setting
from icl_local.weights import ResolvedModel
from icl_local.wording import counted

READY_SECONDS = 180.0  # the run ends after this time without an actor that works
GRACE_SECONDS = 10.0  # once one actor is ready, the first work waits this long for the others
BUFFERED = 256  # finished completions of an actor until it waits for the driver
MOST_LOSSES = 3  # a share during which so many actors were lost is given up


@dataclass
class _Actor:
    """An actor in the driver: its resources, its file, the requests it has not finished, their completions' stream."""

    handle: Any
    needs: Mapping[str, float]
    loading: Any = None
    info: EngineInfo | None = None
    share: dict[str, Request] = field(default_factory=dict)
    stream: Any = None

    @property
    def kind(self) -> tuple[str, ...]:
        """Return what a probe's result holds for: build, CPU features, threads, layers on the GPU."""
        return () if self.info is None else tuple(exact.environment(self.info).values())


class Cluster:
    """The actors of a Ray cluster that is connected, including those that wait for a node.

    ``worker_cpus``: CPUs an actor, by default all of its node's; where nodes have GPUs there is an actor a GPU.
    """

    def __init__(self, ray: Any, worker_cpus: int | None) -> None:
        self.ray = ray
        self._worker_cpus = worker_cpus
        self.actors: list[_Actor] = []
        self._load: Load | None = None
        for node in ray.nodes():
            if node["Alive"]:
                self._open(node["Resources"])
        if not self.actors:
            raise ClusterError(f"no node of the cluster has {worker_cpus or 1} CPUs for a worker")

    def close(self) -> None:
        """End the actors."""
        for actor in self.actors:
            self._kill(actor)

    def worker(self, model: ResolvedModel, options: EngineOptions) -> ClusterGenerator:
        """Load ``model`` on all actors and return them. Raises ModelError if no node has the file, ClusterError."""
        options = replace(options, kv_type=options.kv_type or default_kv_type(model.info))
        if self._worker_cpus and options.threads is None:
            options = replace(options, threads=self._worker_cpus)
        load = Load(model.path.resolve(), model.sha256, model.source, options)
        grace = 0.0
        if load != self._load:
            self._load, grace = load, GRACE_SECONDS
            for actor in self.actors:
                self.reload(actor)
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline and any(actor.loading is not None for actor in self.actors):
            self.settle()
            if self.kinds():  # the others join in when they have loaded
                deadline = min(deadline, time.monotonic() + grace)
        ready = [actor.info for actor in self.actors if actor.info is not None]
        if not ready:
            raise ClusterError(f"no worker of the cluster was ready within {READY_SECONDS:.0f} s")
        return ClusterGenerator(self, options, _together(ready))

    def kinds(self) -> dict[tuple[str, ...], _Actor]:
        """Return one ready actor of every kind of node."""
        return {actor.kind: actor for actor in self.actors if actor.info is not None}

    def give(self, actor: _Actor, share: Sequence[Request], settings: Mapping[str, Any]) -> None:
        """Let an actor complete a share."""
        actor.share = {request.id: request for request in share}
        streaming = {"num_returns": "streaming", "_generator_backpressure_num_objects": BUFFERED}
        actor.stream = actor.handle.generate.options(**streaming).remote(list(share), dict(settings))

    def settle(self) -> list[tuple[_Actor, Any]]:
        """Wait at most a second for an actor; return what those at work gave: a completion, the sums, or an error."""
        waiting = {ref: actor for actor in self.actors for ref in (actor.loading, actor.stream) if ref is not None}
        if not waiting:
            time.sleep(0.05)
            return []
        answers: list[tuple[_Actor, Any]] = []
        for ref in self.ray.wait(list(waiting), num_returns=1, timeout=1.0)[0]:
            actor = waiting[ref]
            try:
                value = self.ray.get(next(ref) if ref is actor.stream else ref)
            except self.ray.exceptions.RayError as error:
                if actor.stream is not None:
                    answers.append((actor, error))
                elif isinstance(error, self.ray.exceptions.RayTaskError):  # loading failed there
                    self._drop(actor, error.cause)
                else:
                    self.replace(actor)
            else:
                if ref is actor.stream:
                    answers.append((actor, value))
                else:
                    actor.info, actor.loading = value, None
        return answers

    def _open(self, resources: Mapping[str, float]) -> None:
        """Create as many actors as fit on a node."""
        gpus, cpus = int(resources.get("GPU", 0)), int(resources.get("CPU", 0))
        each = self._worker_cpus or cpus
        needs = {"num_gpus": 1.0} if gpus else {"num_cpus": float(each)}
        for _ in range(gpus or (cpus // each if each else 0)):
            self.actors.append(_Actor(self._new(needs), needs))

    def _new(self, needs: Mapping[str, float]) -> Any:
        return self.ray.remote(NodeWorker).options(max_restarts=0, **needs).remote()

    def replace(self, actor: _Actor) -> None:
        """Put another actor in the place of a lost one; it waits until a node has room."""
        self._kill(actor)
        actor.handle = self._new(actor.needs)
        self.reload(actor)

    def reload(self, actor: _Actor) -> None:
        """Let an actor load the file; it has no share from now on."""
        actor.info, actor.share, actor.stream = None, {}, None
        actor.loading = actor.handle.load.remote(self._load)

    def _drop(self, actor: _Actor, cause: BaseException) -> None:
        """Continue without a node that cannot load the file. Raises ModelError if it was the last."""
        self._kill(actor)
        self.actors.remove(actor)
        if not self.actors:
            raise cause if isinstance(cause, ModelError) else ClusterError(f"no worker could load the file: {cause}")

    def _kill(self, actor: _Actor) -> None:
        with contextlib.suppress(self.ray.exceptions.RayError, ValueError):
            self.ray.kill(actor.handle)


@contextlib.contextmanager
def open_cluster(address: str | None, *, worker_cpus: int | None = None) -> Iterator[Cluster | None]:
    """Connect to the cluster at ``address`` for the time of the context; None without an address.

    ``address``: auto (the cluster this machine belongs to), local (one on this machine, ended with it), HOST:PORT or
    ray://HOST:PORT. Raises MissingExtra, ClusterError, WrongUsage for ``worker_cpus`` without an address.
    """
    if address is None:
        refuse_idle("workers are those of a --cluster", {"--worker-cpus": worker_cpus is not None})
        yield None
        return
    with needs_extra("cluster"):
        import ray
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no usage report unless the user enables it
    local = address == "local"
    own: dict[str, Any] = {"include_dashboard": False, "object_store_memory": 100 << 20} if local else {}
    _require_reachable(address)
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address, log_to_driver=False, logging_level="error", **own)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ClusterError(f"no Ray cluster at {address} ({reason}); start one: ray start --head") from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_sigterm)  # Ray's own handler exits with another status
    try:
        with contextlib.closing(Cluster(ray, worker_cpus)) as cluster:
            yield cluster
    finally:
        ray.shutdown()


def _require_reachable(address: str) -> None:
    """Raise ClusterError if nothing answers at the address; Ray itself would wait for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise ClusterError(f"no Ray cluster at {address} ({error}); start one: ray start --head") from error


def _together(nodes: Sequence[EngineInfo]) -> EngineInfo:
    """Return the facts of nodes that share a cell; different builds or CPUs are all named."""
    builds, cpus = {one.llama_build for one in nodes}, {one.cpu_features for one in nodes}
    return replace(nodes[0], llama_build=" | ".join(sorted(builds)), cpu_features=" | ".join(sorted(cpus)))


def _lost() -> ClusterError:
    return ClusterError(
        "the cluster lost every worker that can do this work; what is finished is kept, the same command resumes"
    )


class _Shares:
    """Requests of a call: those to give out, those not finished, and the losses of each."""

    def __init__(self, requests: Sequence[Request]) -> None:
        self.todo = list(requests)
        self.left = {request.id for request in requests}
        self._losses: dict[str, int] = {}

    def fair(self, actors: int, settings: Mapping[str, Any]) -> int:
        """Return the size of the next share, at least what an actor decodes at once."""
        least = settings.get("parallel") or settings.get("parallel_most") or DEFAULT_PARALLEL
        return max(least, -(-len(self.todo) // (2 * actors)))

    def take(self, size: int) -> list[Request]:
        """Return the next share."""
        share, self.todo = self.todo[:size], self.todo[size:]
        return share

    def finish(self, completion: Completion) -> bool:
        """Return whether this completion is the first of its request."""
        if completion.id not in self.left:
            return False
        self.left.remove(completion.id)
        return True

    def again(self, share: Mapping[str, Request], why: str, *, weight: int) -> None:
        """Put back what was not finished. Raises EngineError for a request with too many losses."""
        again = [request for request in share.values() if request.id in self.left]
        for request in again:
            self._losses[request.id] = self._losses.get(request.id, 0) + weight
            if self._losses[request.id] > MOST_LOSSES:
                raise EngineError(f"gave up on {counted(len(again), 'prompt')}: {why}; what is finished is kept")
        self.todo = again + self.todo


class ClusterGenerator:
    """All actors of a cluster with the interface of a Worker.

    ``stats`` are sums over the shares of the last call; seconds are those of all actors together. ``alone``: a kind of
    node, one of which gets a whole call, as a probe needs it.
    """

    def __init__(
        self, cluster: Cluster, options: EngineOptions, info: EngineInfo, *, alone: tuple[str, ...] | None = None
    ) -> None:
        self.options = options
        self.info = info
        # by kind of node, one without gets no work; empty: the same for all
        self.settings: dict[tuple[str, ...], Mapping[str, Any]] = {} if alone is None else {alone: {}}
        self.stats = Stats()
        self._cluster = cluster
        self._alone = alone is not None

    def close(self) -> None:
        """Keep the file loaded until another is requested."""

    def generate(
        self,
        requests: Sequence[Request],
        *,
        on_progress: Callable[[int], None] | None = None,
        **overrides: Any,
    ) -> Iterator[Completion]:
        """Yield completions as they end, in any order.

        A share is half of what is left, divided by the actors, so that all end at about the same time; ``alone`` it is
        everything. Raises EngineError if llama.cpp fails twice on a request, ClusterError if no actor has worked for
        READY_SECONDS.
        """
        self.stats = Stats()
        cluster, work = self._cluster, _Shares(requests)
        quiet_since = time.monotonic()
        tokens = 0
        try:
            while work.left:
                for actor in cluster.actors:
                    settings = self._settings(actor) if actor.info is not None and not actor.share else None
                    if settings is not None and work.todo:
                        settings = {**settings, **overrides}
                        size = len(work.todo) if self._alone else work.fair(len(cluster.actors), settings)
                        cluster.give(actor, work.take(size), settings)
                for actor, item in cluster.settle():
                    if isinstance(item, Completion):
                        actor.share.pop(item.id, None)
                        if work.finish(item):
                            tokens += item.new_tokens
                            yield item
                    elif isinstance(item, Stats):
                        self._add(item)
                        actor.share, actor.stream = {}, None
                    elif isinstance(item, cluster.ray.exceptions.RayTaskError):
                        unfinished = actor.share
                        cluster.reload(actor)
                        work.again(unfinished, str(item.cause) or type(item.cause).__name__, weight=2)
                    else:
                        work.again(actor.share, "its worker was lost", weight=1)
                        cluster.replace(actor)
                if any(actor.share for actor in cluster.actors):
                    quiet_since = time.monotonic()
                elif time.monotonic() - quiet_since > READY_SECONDS:
                    raise _lost()
                if on_progress is not None:
                    on_progress(tokens)
        finally:  # an actor cannot be stopped when its caller has left
            for actor in cluster.actors:
                if actor.share:
                    cluster.replace(actor)

    def setting(self, find: Callable[[ClusterGenerator], Setting]) -> Setting:
        """Return the setting that ``find`` gives for every kind of node; exact if each of them is."""
        found = {
            kind: find(ClusterGenerator(self._cluster, self.options, actor.info, alone=kind))
            for kind, actor in self._cluster.kinds().items()
            if actor.info is not None
        }
        self.settings = {kind: setting.overrides for kind, setting in found.items()}
        first, *others = self.settings.values()
        alike = all(overrides == first for overrides in others)
        return Setting(first if alike else {}, all(setting.exact for setting in found.values()))

    def _settings(self, actor: _Actor) -> Mapping[str, Any] | None:
        """Return the engine options of an actor, None for one that gets no work."""
        if self.settings:
            return self.settings.get(actor.kind)
        return {} if self.options.parallel is None else {"parallel": self.options.parallel}

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each text, by any node: all have one tokenizer. Raises ClusterError."""
        ray = self._cluster.ray
        while actors := [one for one in self._cluster.kinds().values() if self._settings(one) is not None]:
            try:
                return list(ray.get(actors[0].handle.count_tokens.remote(texts)))
            except ray.exceptions.RayError:
                self._cluster.replace(actors[0])
        raise _lost()

    def restart(self) -> None:
        """Do nothing: a node whose llama.cpp has ended loads the file again by itself."""

    def _add(self, stats: Stats) -> None:
        sums = {
            name: getattr(self.stats, name) + getattr(stats, name)
            for name in (
                "n_done", "prompt_tokens", "prefilled_tokens", "new_tokens", "steps",
                "wall_seconds", "prefill_seconds", "decode_seconds", "other_seconds",
            )
        }  # fmt: skip
        peak = max(self.stats.peak_rss_bytes, stats.peak_rss_bytes)
        self.stats = replace(stats, **sums, peak_rss_bytes=peak)
