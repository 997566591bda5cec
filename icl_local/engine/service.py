"""The worker process: commands in, results out, around one loaded model. See engine/worker.py for the parent's side.

``python -m icl_local.engine`` reads one JSON command a line. A worker loads a model and generates; another process does
single tasks on files (engine/file_tasks.py).
"""

import contextlib
import json
import mmap
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from icl_local.child_process import Message, serve
from icl_local.engine.memory import choose_parallel
from icl_local.engine.protocol import EngineOptions, Request, request_from_json
from icl_local.exceptions import EngineError, IclError
from icl_local.operating_system import peak_memory_bytes
from icl_local.weights import read_info


def main() -> None:
    """Serve commands from standard input until it closes."""
    serve(_Service().handle)


class _Service:
    """Commands by name: ``{"do": NAME, ...}`` calls ``_do_NAME`` with the other fields; ``load`` comes first."""

    _model: Any = None

    def handle(self, command: Message, reply: Callable[[Message], None]) -> None:
        """Run one command and send its result or its error."""
        self._reply = reply
        try:
            getattr(self, "_do_" + command.pop("do"))(**command)
        except IclError as error:
            reply({"error": str(error), "kind": type(error).__name__})
        except OSError as error:
            reply({"error": str(error), "kind": EngineError.__name__})

    def _do_load(self, path: str, flag_file: str, options: dict[str, Any]) -> None:
        with Path(flag_file).open("r+b") as file:
            self._flag = mmap.mmap(file.fileno(), 2)
        self._path = Path(path)
        self._info = read_info(self._path)
        self._options = EngineOptions(**options)
        self._load(self._options)
        self._reply({"info": asdict(self._model.info())})

    def _load(self, options: EngineOptions) -> None:
        import ctypes

        from icl_local.engine.llama import LlamaModel
        from icl_local.engine.prefix_cache import PrefixCache

        if self._model is not None:
            self._model.close()
        address = ctypes.addressof(ctypes.c_char.from_buffer(self._flag))
        self._model = LlamaModel(self._path, options, abort_flag=address)
        folder = Path(options.prefix_cache) if options.prefix_cache else None
        self._cache = PrefixCache(self._scope(options), folder)
        self._loaded = options

    def _scope(self, options: EngineOptions) -> str:
        """Return all that a prefix's state depends on, but its tokens: file, build, machine and settings."""
        info, stat = self._model.info(), self._path.stat()
        scope = [str(self._path), stat.st_size, stat.st_mtime_ns, info.llama_build, info.cpu_features]
        scope += [options.kv_type, options.flash_attn, options.kv_unified, info.repack, info.gpu_layers]
        return json.dumps([*scope, options.n_ubatch, options.min_rows])

    def _do_count(self, texts: list[str]) -> None:
        self._reply({"counts": [len(self._model.tokenize(text)) for text in texts]})

    def _do_eog(self) -> None:
        self._reply({"eog": [token for token in range(self._model.n_vocab) if self._model.is_eog(token)]})

    def _do_forget(self) -> None:
        self._cache.forget()
        self._reply({"forgotten": True})

    def _do_generate(self, requests: list[dict[str, Any]], overrides: dict[str, Any]) -> None:
        from icl_local.engine.batching import Generation
        from icl_local.engine.llama import repacks
        from icl_local.engine.sequences import Interrupted

        options = replace(self._options, **overrides)
        if repacks(options) != repacks(self._loaded) or options.gpu_layers != self._loaded.gpu_layers:
            self._load(options)
        self._model.options = options
        self._cache.scope = self._scope(options)
        prompts = [request_from_json(request) for request in requests]
        generation = Generation(
            self._model,
            prompts,
            replace(options, parallel=options.parallel or self._parallel(prompts, options)),
            prefix_cache=self._cache,
            on_progress=lambda tokens: self._reply({"progress": tokens}),
        )
        with contextlib.suppress(Interrupted):
            for completion in generation:
                self._reply({"completion": asdict(completion)})
        self._reply({"stats": {**asdict(generation.stats), "peak_rss_bytes": peak_memory_bytes()}})

    def _parallel(self, requests: list[Request], options: EngineOptions) -> int:
        longest = max((len(r.prompt.encode()) // 3 + r.max_tokens for r in requests), default=1)
        need = min(longest, self._info.context_length)
        return choose_parallel(self._info, n_ctx_seq=need, kv_type=options.kv_type or "f16", most=options.parallel_most)

    def _do_task(self, name: str, **arguments: Any) -> None:
        from icl_local.engine import llama

        self._reply({"result": llama.TASKS[name](**arguments)})
