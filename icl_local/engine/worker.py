"""The engine in its own process: an abort inside llama.cpp ends a generate call, never the command.

Two bytes in a small mapped file are llama.cpp's abort flag: the parent sets them on Ctrl-C, and the decode under way
stops within one graph node. engine/service.py is the other side.
"""

from __future__ import annotations

import contextlib
import mmap
import re
import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from icl_local.child_process import ChildEnded, ChildProcess, Message, environment_without_secrets
from icl_local.engine.memory import default_kv_type
from icl_local.engine.protocol import (
    UNUSABLE_FILE,
    Completion,
    EngineInfo,
    EngineOptions,
    Request,
    Stats,
    completion_from_json,
)
from icl_local.exceptions import ConfigError, EngineError, IclError
from icl_local.weights import ResolvedModel, read_info

OpenWorker = Callable[[ResolvedModel, EngineOptions], Any]  # here or on a cluster

_STOP_SECONDS = 20.0
_SOURCE_FOLDER = re.compile(r"\S*/(?=[\w.-]+:\d+: )")
_ENVIRONMENT = {
    # Threads that wait for each other spin, which takes CPU time from other programs. Short spinning costs nothing on
    # an idle machine and was 4 times as fast on a busy one (docs/measurements.md).
    "GOMP_SPINCOUNT": "10000",
    # An abort would start a debugger to print a backtrace; two threads that abort at once would block each other.
    "GGML_NO_BACKTRACE": "1",
}


def start_process() -> ChildProcess:
    """Start a process that serves engine/service.py's commands; it gets no keys. Raises ChildEnded."""
    return ChildProcess("icl_local.engine", environment=_ENVIRONMENT | environment_without_secrets())


def checked(message: Message) -> Message:
    """Return ``message``, or raise the ConfigError or EngineError that it reports."""
    if "error" in message:
        raise (ConfigError if message["kind"] == "ConfigError" else EngineError)(message["error"])
    return message


def ended_error(ended: ChildEnded, model: Path | None, advice: str) -> EngineError:
    """Return the error that describes the end of a process: with its last words, without the build's source folders."""
    reason = _SOURCE_FOLDER.sub("", ended.last_words)
    name = "" if model is None else f" on {model.name}"
    return EngineError(f"llama.cpp ended ({ended.how}){name}: {reason}; {advice}")


class Worker:
    """A process that holds one loaded GGUF file; ``stats`` are sums of its last generate call. A context manager.

    Raises ModelError for a file that is not a usable GGUF file, EngineError if llama.cpp refuses it or its process
    ends; the message then holds llama.cpp's last words.
    """

    def __init__(self, model: Path, options: EngineOptions | None = None) -> None:
        info = read_info(model)
        options = options or EngineOptions()
        self.options = replace(options, kv_type=options.kv_type or default_kv_type(info))
        self._model = model
        self.stats = Stats()
        self._flag_file = tempfile.NamedTemporaryFile(prefix="icl-abort-")  # noqa: SIM115 - closed in close()
        self._flag_file.write(b"\0\0")
        self._flag_file.flush()
        self._flag = mmap.mmap(self._flag_file.fileno(), 2)
        self._process: ChildProcess | None = None
        try:
            self._load()
        except BaseException:
            self.close()
            raise

    def _load(self) -> None:
        self._flag[0] = 0
        self._advice = UNUSABLE_FILE
        with self._reported():
            self._process = start_process()
        what = {"path": str(self._model), "flag_file": self._flag_file.name, "options": asdict(self.options)}
        loaded = self._ask({"do": "load", **what})
        self.info = EngineInfo(**loaded["info"])
        self._advice = f"what was finished is kept: run the same command again; if it ends here again, {UNUSABLE_FILE}"

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """Return the process id of the worker."""
        assert self._process is not None
        return self._process.pid

    def generate(
        self,
        requests: Sequence[Request],
        *,
        on_progress: Callable[[int], None] | None = None,
        **overrides: Any,
    ) -> Generator[Completion]:
        """Yield completions as they end, in any order; ``overrides`` replace EngineOptions fields for this call.

        ``on_progress`` gets the tokens generated or scored so far.

        Leaving the loop, or KeyboardInterrupt, stops the worker's decode; what was yielded stays valid.
        """
        self._flag[0] = 0
        self.stats = Stats()
        self._send({"do": "generate", "requests": [asdict(r) for r in requests], "overrides": overrides})
        try:
            while "stats" not in (message := self._receive()):
                if "completion" in message:
                    yield completion_from_json(message["completion"])
                elif on_progress is not None:
                    on_progress(message["progress"])
        except IclError:
            raise
        except BaseException:
            self._stop()
            raise
        self.stats = Stats(**message["stats"])

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each text, with BOS where the file asks for it."""
        return list(self._ask({"do": "count", "texts": list(texts)})["counts"])

    def eog_tokens(self) -> list[int]:
        """Return the ids that end a generation."""
        return list(self._ask({"do": "eog"})["eog"])

    def forget_prefixes(self) -> None:
        """Drop the prefix states kept in memory, so that the next call decodes its prefix."""
        self._ask({"do": "forget"})

    def restart(self) -> None:
        """Load the file again in a new process, such as after the old one has ended. Raises as the constructor."""
        self._end_process()
        self._load()

    def close(self) -> None:
        """End the process: wait, then kill."""
        self._end_process()
        self._flag.close()
        self._flag_file.close()

    def _end_process(self) -> None:
        self._flag[0] = 1
        if self._process is not None:
            self._process.close(seconds=_STOP_SECONDS)

    def _stop(self) -> None:
        """Abort the call under way and read its remaining messages, so that the next call starts clean."""
        assert self._process is not None
        self._flag[0] = 1
        with contextlib.suppress(IclError), self._process.time_limit(_STOP_SECONDS):
            while "stats" not in (message := self._receive()):
                pass
            self.stats = Stats(**message["stats"])

    def _ask(self, message: Message) -> Message:
        self._send(message)
        return self._receive()

    def _send(self, message: Message) -> None:
        assert self._process is not None
        with self._reported():
            self._process.send(message)

    def _receive(self) -> Message:
        assert self._process is not None
        with self._reported():
            return checked(self._process.receive())

    @contextlib.contextmanager
    def _reported(self) -> Iterator[None]:
        """Raise the end of the process as an EngineError."""
        try:
            yield
        except ChildEnded as ended:
            raise ended_error(ended, self._model, self._advice) from None
