"""A child process that speaks JSON lines, for code that may crash, hang or take too much memory: llama.cpp, templates.

Both sides are here. The parent has ``ChildProcess`` (one process) and ``SharedChild`` (one process for all callers,
started again when it has ended); the child calls ``serve``. The child ends when its standard input closes, so it never
outlives its parent.
"""

import atexit
import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

from icl_local.operating_system import own_session

Message = dict[str, Any]

_START_SECONDS = 60.0
_SECRETS = ("_KEY", "_TOKEN", "_SECRET", "_PASSWORD", "_HEADERS")
_LAST_BYTES = 20_000  # of standard error that are searched for the last words
_REPORTS = ("GGML_ASSERT", "rror", "terminate")  # a line with one of these says more than the last line


class ChildEnded(Exception):
    """The child process ended: ``how`` (a signal's name or exit status), ``last_words`` and ``timed_out``."""

    def __init__(self, how: str, last_words: str, *, timed_out: bool) -> None:
        super().__init__(f"{how}: {last_words}")
        self.how = how
        self.last_words = last_words
        self.timed_out = timed_out


def environment_without_secrets() -> dict[str, str]:
    """Return this process's environment without variables that hold keys or passwords."""
    return {name: value for name, value in os.environ.items() if not name.upper().endswith(_SECRETS)}


class ChildProcess:
    """A started ``python -m MODULE ARGUMENTS`` that has called ``serve``. Its methods raise ChildEnded."""

    def __init__(self, module: str, *arguments: str, environment: Mapping[str, str]) -> None:
        self._stderr = tempfile.TemporaryFile(prefix="icl-child-")  # noqa: SIM115 - closed in close()
        self._timed_out = False
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=environment,
            **own_session(),
        )
        self.pid = self._process.pid
        try:
            with self.time_limit(_START_SECONDS):
                self.receive()
        except BaseException:
            self.close(seconds=0)
            raise

    @property
    def alive(self) -> bool:
        """Return whether the process runs."""
        return self._process.poll() is None

    def send(self, message: Mapping[str, Any]) -> None:
        """Write one message."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
        except (OSError, ValueError):  # a closed pipe, or one that close() has closed
            raise self._ended() from None

    def receive(self) -> Message:
        """Wait for the next message and return it."""
        assert self._process.stdout is not None
        line = b"" if self._process.stdout.closed else self._process.stdout.readline()
        if not line.endswith(b"\n"):
            raise self._ended()
        message: Message = json.loads(line)
        return message

    @contextlib.contextmanager
    def time_limit(self, seconds: float) -> Iterator[None]:
        """Kill the process if the block takes longer; ``receive`` then raises ChildEnded."""
        timer = threading.Timer(seconds, self._time_out)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def close(self, *, seconds: float) -> None:
        """Close its standard input, wait up to ``seconds`` for its end, then kill it. May be called twice."""
        if not seconds:
            self._process.kill()
        with contextlib.suppress(OSError):
            if self._process.stdin:
                self._process.stdin.close()
        try:
            self._process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()
        self._stderr.close()

    def _time_out(self) -> None:
        self._timed_out = True
        self._process.kill()

    def _ended(self) -> ChildEnded:
        status = self._process.wait()
        how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        return ChildEnded(how, self._last_words(), timed_out=self._timed_out)

    def _last_words(self) -> str:
        if self._stderr.closed:
            return "it was closed"
        self._stderr.seek(0)
        lines = self._stderr.read()[-_LAST_BYTES:].decode("utf-8", "replace").splitlines()
        lines = [line.strip() for line in lines if line.strip()]
        reports = [line for line in lines if any(word in line for word in _REPORTS)]
        return (reports or lines or ["no message"])[-1]


class SharedChild:
    """One child process for all callers: ``start`` makes it at the first call, and again after it has ended."""

    def __init__(self, start: Callable[[], ChildProcess]) -> None:
        self._start = start
        self._lock = threading.Lock()
        self._child: ChildProcess | None = None

    @property
    def pid(self) -> int | None:
        """Return the process id; None if no process runs."""
        return self._child.pid if self._child is not None and self._child.alive else None

    def ask(self, message: Mapping[str, Any], *, seconds: float | None = None) -> Message:
        """Send one message and return its reply; callers from several threads wait for each other.

        Raises ChildEnded, with ``timed_out`` if the reply took longer than ``seconds``.
        """
        with self._lock:
            if self._child is None or not self._child.alive:
                self._end()
                self._child = self._start()
                atexit.register(self._end)
            try:
                with contextlib.nullcontext() if seconds is None else self._child.time_limit(seconds):
                    self._child.send(message)
                    return self._child.receive()
            except BaseException:  # Ctrl-C too: an unread reply must not become the next call's
                self._end()
                raise

    def _end(self) -> None:
        atexit.unregister(self._end)
        if self._child is not None:
            self._child.close(seconds=0)
            self._child = None


def serve(handle: Callable[[Message, Callable[[Message], None]], None]) -> NoReturn:
    """Call ``handle(message, reply)`` for every message until standard input closes; then end the process.

    A thread reads, so that the process ends during a call too: its result is of no use any more.
    """
    for asks_to_stop in (signal.SIGINT, signal.SIGTERM):  # a scheduler sends it to every process; the parent decides
        signal.signal(asks_to_stop, signal.SIG_IGN)
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not come between the messages
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def read() -> None:
        for line in sys.stdin.buffer:
            lines.put(line)
        os._exit(0)

    def reply(message: Message) -> None:
        try:
            out.write(json.dumps(message).encode() + b"\n")
            out.flush()
        except BrokenPipeError:
            os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    reply({"ready": True})
    while True:
        handle(json.loads(lines.get()), reply)
