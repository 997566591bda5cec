"""The engine in a process of its own: an abort inside llama.cpp ends a generate call, never the command.

Parent and worker speak JSON lines over pipes. The worker ends when its standard input closes, so it never outlives
its parent. Two bytes in a small mapped file are llama.cpp's abort flag: the parent sets them on Ctrl-C and a decode
under way stops within one graph node.

Run by ``Worker``; by hand: ``python -m icl_local.engine FLAG_FILE`` and one JSON command a line.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from icl_local.engine.plan import choose_parallel, default_kv_type, kv_bytes_per_token
from icl_local.engine.protocol import (
    Completion,
    DecodeProgress,
    EngineInfo,
    EngineOptions,
    Request,
    Stats,
    completion_from_json,
    request_from_json,
    to_json,
)
from icl_local.exceptions import ConfigError, EngineError, IclError
from icl_local.weights import GgufInfo, read_info

_STOP_SECONDS = 20.0
# Threads that wait for each other spin; beside other programs that burns the time those need to get done. Short
# spinning costs nothing on an idle machine and was 4 times as fast on a busy one (docs/performance.md).
_OPENMP = {"GOMP_SPINCOUNT": "10000"}
_SECRETS = ("_KEY", "_TOKEN", "_SECRET", "_PASSWORD", "_HEADERS")


class Worker:
    """A spawned process that holds one loaded GGUF file. A context manager.

    The header is checked in Python first. Raises ModelError for a damaged file, EngineError when llama.cpp refuses
    or its process dies; the message then holds llama.cpp's last words.
    """

    def __init__(self, model: Path, options: EngineOptions | None = None) -> None:
        info = read_info(model)
        options = options or EngineOptions()
        self.options = options.replace(kv_type=options.kv_type or default_kv_type(info))
        self._model = model
        self._stats = Stats()
        self._flag_file = tempfile.NamedTemporaryFile(prefix="icl-abort-")  # noqa: SIM115 - closed in close()
        self._flag_file.write(b"\0\0")
        self._flag_file.flush()
        self._flag = mmap.mmap(self._flag_file.fileno(), 2)
        self._words = tempfile.TemporaryFile(prefix="icl-worker-")  # noqa: SIM115 - closed in close()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "icl_local.engine", self._flag_file.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._words,
            start_new_session=True,  # Ctrl-C reaches the parent alone, which asks the worker to stop
            # llama.cpp reads files of strangers and needs no key of anybody
            env=_OPENMP | {name: value for name, value in os.environ.items() if not name.upper().endswith(_SECRETS)},
        )
        try:
            self._send({"do": "load", "path": str(model), "options": to_json(self.options)})
            self.info = EngineInfo(**self._receive()["info"])
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def stats(self) -> Stats:
        """Sums of the last generate call."""
        return self._stats

    @property
    def pid(self) -> int:
        """Process id of the worker."""
        return self._process.pid

    def generate(
        self,
        requests: Sequence[Request],
        *,
        on_progress: Callable[[DecodeProgress], None] | None = None,
        **overrides: Any,
    ) -> Iterator[Completion]:
        """Completions as they end, in any order. ``overrides`` replace EngineOptions fields for this call.

        Leaving the loop, or KeyboardInterrupt, stops the worker's decode; what was yielded stands.
        """
        self._flag[0] = 0
        self._send({"do": "generate", "requests": [to_json(r) for r in requests], "overrides": overrides})
        finished = False
        try:
            while True:
                message = self._receive()
                if "completion" in message:
                    yield completion_from_json(message["completion"])
                elif "progress" in message:
                    if on_progress is not None:
                        on_progress(DecodeProgress(**message["progress"]))
                else:
                    self._stats = Stats(**message["stats"])
                    finished = True
                    return
        except IclError:
            finished = True
            raise
        finally:
            if not finished:
                self._stop()

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, BOS included where the file asks for it."""
        self._send({"do": "count", "texts": list(texts)})
        return list(self._receive()["counts"])

    def eog_tokens(self) -> list[int]:
        """Ids that end a generation."""
        self._send({"do": "eog"})
        return list(self._receive()["eog"])

    def forget_prefixes(self) -> None:
        """Drop the prefix states kept in memory, so that the next call decodes its prefix."""
        self._send({"do": "forget"})
        self._receive()

    def close(self) -> None:
        """End the process; waits, then kills."""
        self._flag[0] = 1
        with contextlib.suppress(OSError):
            if self._process.stdin:
                self._process.stdin.close()
        try:
            self._process.wait(timeout=_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()
        self._flag.close()
        self._flag_file.close()
        self._words.close()

    def _stop(self) -> None:
        """Abort the call under way and read what it still says, so that the next call starts clean."""
        self._flag[0] = 1
        timer = threading.Timer(_STOP_SECONDS, self._process.kill)
        timer.start()
        try:
            while True:
                message = self._receive()
                if "stats" in message:
                    self._stats = Stats(**message["stats"])
                    return
        except IclError:
            return
        finally:
            timer.cancel()

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise self._died() from None

    def _receive(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.endswith(b"\n"):
            raise self._died()
        message: dict[str, Any] = json.loads(line)
        if "error" in message:
            kind = ConfigError if message["kind"] == "ConfigError" else EngineError
            raise kind(message["error"])
        return message

    def _died(self) -> EngineError:
        status = self._process.wait()
        self._words.seek(0)
        lines = [line for line in self._words.read()[-20000:].decode("utf-8", "replace").splitlines() if line.strip()]
        telling = [line for line in lines if "GGML_ASSERT" in line or "rror" in line or "terminate" in line]
        told = (telling or lines or ["no message"])[-1].strip()
        how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        return EngineError(
            f"llama.cpp ended ({how}) on {self._model.name}: {told}; what was finished is kept,"
            " the same command goes on"
        )


class _Service:
    """The worker's side: one model, commands in, messages out."""

    def __init__(self, out: IO[bytes], flag: Path) -> None:
        self._out = out
        self._flag_file = flag.open("r+b")
        self._flag = mmap.mmap(self._flag_file.fileno(), 2)
        self._model: Any = None
        self._info: GgufInfo | None = None
        self._options = EngineOptions()

    def handle(self, command: dict[str, Any]) -> None:
        """Do one command and say its result or its error."""
        try:
            getattr(self, "_do_" + command.pop("do"))(**command)
        except IclError as error:
            self._say({"error": str(error), "kind": type(error).__name__})

    def _say(self, message: dict[str, Any]) -> None:
        self._out.write(json.dumps(message).encode() + b"\n")
        self._out.flush()

    def _do_load(self, path: str, options: dict[str, Any]) -> None:
        self._path = Path(path)
        self._info = read_info(self._path)
        self._options = EngineOptions(**options)
        self._load(self._options)
        parallel = self._options.parallel or 0
        self._say({"info": to_json(self._model.info(n_parallel=parallel))})

    def _load(self, options: EngineOptions) -> None:
        import ctypes

        from icl_local.engine.llama import LlamaModel
        from icl_local.engine.prefix_cache import PrefixCache

        if self._model is not None:
            self._model.close()
        address = ctypes.addressof(ctypes.c_char.from_buffer(self._flag))
        self._model = LlamaModel(self._path, options, abort_flag=address)
        info = self._model.info(n_parallel=0)
        stat = self._path.stat()
        scope = [str(self._path), stat.st_size, stat.st_mtime_ns, info.llama_build, info.cpu_features]
        scope += [options.kv_type, options.flash_attn, options.kv_unified, info.repack, info.gpu_layers]
        folder = Path(options.prefix_cache) if options.prefix_cache else None
        self._cache = PrefixCache(json.dumps([*scope, options.n_ubatch]), folder)
        self._loaded = options

    def _do_count(self, texts: list[str]) -> None:
        self._say({"counts": [len(self._model.tokenize(text)) for text in texts]})

    def _do_eog(self) -> None:
        self._say({"eog": [token for token in range(self._model.n_vocab) if self._model.is_eog(token)]})

    def _do_forget(self) -> None:
        self._cache.forget()
        self._say({"forgotten": True})

    def _do_generate(self, requests: list[dict[str, Any]], overrides: dict[str, Any]) -> None:
        from icl_local.detect import LoopWatch
        from icl_local.engine.batching import Generation, Interrupted, Limits
        from icl_local.engine.llama import repacks

        assert self._info is not None
        options = self._options.replace(**overrides)
        if repacks(options) != repacks(self._loaded) or options.gpu_layers != self._loaded.gpu_layers:
            self._load(options)
        self._model.options = options
        wanted = [request_from_json(r) for r in requests]
        generation = Generation(
            self._model,
            wanted,
            Limits(
                parallel=options.parallel or self._parallel(wanted, options),
                n_ubatch=options.n_ubatch,
                min_rows=options.min_rows,
                share_prefix=options.share_prefix,
                trace=options.trace,
            ),
            prefix_cache=self._cache,
            loop_watch=LoopWatch if options.stop_on_loop else None,
            on_progress=lambda progress: self._say({"progress": to_json(progress)}),
            kv_bytes_per_token=kv_bytes_per_token(self._info, options.kv_type or "f16"),
        )
        with contextlib.suppress(Interrupted):
            for completion in generation:
                self._say({"completion": to_json(completion)})
        self._say({"stats": {**to_json(generation.stats), "peak_rss_bytes": peak_rss_bytes()}})

    def _parallel(self, requests: list[Request], options: EngineOptions) -> int:
        assert self._info is not None
        longest = max((len(r.prompt.encode()) // 3 + r.max_tokens for r in requests), default=1)
        need = min(longest, self._info.context_length)
        return choose_parallel(self._info, n_ctx_seq=need, kv_type=options.kv_type or "f16", most=options.parallel_most)


def peak_rss_bytes() -> int:
    """Largest resident memory of this process so far."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def main(flag: str) -> None:
    """Serve commands from standard input until it closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not get between the messages
    service = _Service(out, Path(flag))
    commands: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def read() -> None:
        for line in sys.stdin.buffer:
            commands.put(line)
        os._exit(0)  # the parent closed the pipe or died: a decode under way is of no use to anyone

    threading.Thread(target=read, daemon=True).start()
    while True:
        line = commands.get()
        try:
            service.handle(json.loads(line))
        except BrokenPipeError:
            os._exit(0)
