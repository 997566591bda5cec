"""Renders chat templates, which are programs that came with a file from somewhere, in a process that can be killed.

jinja2's immutable sandbox keeps a template away from Python's attributes, but not from endless loops and not from
``'x' * 10**10``, which no signal interrupts. So templates run in one child process per parent, started at the first
call, with a cap on memory, no right to write files and no environment; a render past its time limit ends it, and the
next call starts another. A call costs some 0.2 ms, the start about 0.2 s.

The environment is the one Transformers renders in (trim_blocks, lstrip_blocks, loop controls, ``raise_exception``,
``tojson`` without HTML escapes, ``strftime_now``, ``generation`` blocks), but ``strftime_now`` tells a pinned date.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from icl_local.exceptions import ConfigError, ModelError
from icl_local.weights import GgufInfo

if TYPE_CHECKING:
    from jinja2 import Template

CHAT_DATE = "2024-07-26"
"""Pinned by default: the date Llama 3.1's own template falls back to ("26 Jul 2024")."""

_MEMORY_BYTES = 512 << 20
_MAX_CHARACTERS = 16 << 20
_START_SECONDS = 60.0
_ORPHAN_SECONDS = 5.0
_INHERITED = ("PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


def render_chat(
    template: str,
    messages: Sequence[Mapping[str, str]],
    *,
    bos_token: str | None = None,
    eos_token: str | None = None,
    date: str | None = None,
    time_limit: float = 5.0,
) -> str:
    """``messages`` (role, content) as text that ends where the assistant's answer begins.

    ``date`` (YYYY-MM-DD, default CHAT_DATE) is what ``strftime_now`` tells; ``time_limit`` is in seconds.
    Raises ModelError, in one line, where the template is no jinja2, breaks out of the sandbox, refuses the messages,
    or takes too much time or memory; ConfigError where ``date`` is none.
    """
    day = date or CHAT_DATE
    try:
        datetime.strptime(day, "%Y-%m-%d")
    except ValueError as error:
        raise ConfigError(f"{day!r} is no date for chat templates; write it as {CHAT_DATE}") from error
    tokens = {"bos_token": bos_token, "eos_token": eos_token}
    request = {
        "template": template,
        "messages": [dict(message) for message in messages],
        "tokens": {name: token for name, token in tokens.items() if token is not None},
        "date": day,
        "time_limit": time_limit,
    }
    reply = _RENDERER.ask(request, time_limit)
    if "error" in reply:
        raise ModelError(f"the model's chat template {reply['error']}; use another file, or a completion method")
    return str(reply["text"])


def chat_text(info: GgufInfo, messages: Sequence[Mapping[str, str]], *, date: str | None = None) -> str:
    """Return ``messages`` rendered by the file's own template, without BOS where its tokenizer adds one.

    The one place that knows who writes BOS: the template, unless the tokenizer does. Raises as ``render_chat``.
    """
    text = render_chat(
        info.chat_template or "", messages, bos_token=info.bos_token, eos_token=info.eos_token, date=date
    )
    return text.removeprefix(info.bos_token) if info.add_bos and info.bos_token else text


class _Renderer:
    """The parent's side of the child process: one question at a time, from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, request: Mapping[str, object], time_limit: float) -> dict[str, str]:
        line = json.dumps(request).encode() + b"\n"
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._start()
            try:
                answer = self._exchange(line, time_limit)
            except TimeoutError:
                self._end()
                return {"error": f"ran longer than {time_limit:g} s and was stopped"}
            except BaseException:  # Ctrl-C too: an unread answer must not become the next one's
                self._end()
                raise
            if not answer.endswith(b"\n"):
                self._end()
                return {"error": "ended its renderer"}
            reply: dict[str, str] = json.loads(answer)
            return reply

    def _start(self) -> None:
        self._end()
        atexit.register(self._end)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "icl_local.prompting"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env={name: os.environ[name] for name in _INHERITED if name in os.environ},
            start_new_session=True,  # Ctrl-C is the parent's to handle
        )
        try:
            ready = self._exchange(b"", _START_SECONDS)
        except TimeoutError:
            ready = b""
        if not ready.endswith(b"\n"):
            self._end()
            raise ModelError("the process that renders chat templates does not start; run: icl doctor")

    def _exchange(self, line: bytes, seconds: float) -> bytes:
        """Write ``line`` and read one; both pipes are watched, so neither side can block the other for ever."""
        assert self._process is not None
        source, sink = self._process.stdout, self._process.stdin
        assert source is not None
        assert sink is not None
        deadline, left, answer = time.monotonic() + seconds, memoryview(line), bytearray()
        with selectors.DefaultSelector() as selector:
            selector.register(source, selectors.EVENT_READ)
            if left:
                selector.register(sink, selectors.EVENT_WRITE)
            while not answer.endswith(b"\n"):
                ready = selector.select(max(0.0, deadline - time.monotonic()))
                if not ready:
                    raise TimeoutError
                for key, _ in ready:
                    if key.fileobj is sink:
                        try:
                            left = left[os.write(sink.fileno(), left[:4096]) :]
                        except BrokenPipeError:
                            return b""
                        if not left:
                            selector.unregister(sink)
                    elif chunk := os.read(source.fileno(), 1 << 16):
                        answer += chunk
                    else:
                        return bytes(answer)
        return bytes(answer)

    def _end(self) -> None:
        atexit.unregister(self._end)
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


_RENDERER = _Renderer()


def serve() -> None:
    """The child: a line of JSON in, a line of JSON out, until its input ends."""
    _limit_resources()
    sys.stdout.buffer.write(b"\n")
    sys.stdout.buffer.flush()
    for line in sys.stdin.buffer:
        try:
            request = json.loads(line)
            # ends the process by SIGALRM, whatever it is in, should the parent that would end it be gone
            signal.setitimer(signal.ITIMER_REAL, request.pop("time_limit") + _ORPHAN_SECONDS)
            reply = {"text": _render(**request)}
        except MemoryError:
            reply = {"error": "needs more memory than it gets"}
        except Exception as error:
            reply = {"error": _told(error)}
        signal.setitimer(signal.ITIMER_REAL, 0)
        sys.stdout.buffer.write(json.dumps(reply).encode() + b"\n")
        sys.stdout.buffer.flush()


def _limit_resources() -> None:
    import resource

    sys.dont_write_bytecode = True
    limits = {resource.RLIMIT_AS: _MEMORY_BYTES, resource.RLIMIT_FSIZE: 0, resource.RLIMIT_CORE: 0}
    for limit, value in limits.items():
        with contextlib.suppress(ValueError, OSError):  # macOS does not cap address space; the time limit remains
            resource.setrlimit(limit, (value, value))


def _render(template: str, messages: list[dict[str, str]], tokens: dict[str, str], date: str) -> str:
    day = datetime.strptime(date, "%Y-%m-%d")
    text = _compiled(template).render(
        messages=messages,
        tools=None,
        documents=None,
        add_generation_prompt=True,
        strftime_now=day.strftime,
        **tokens,
    )
    if len(text) > _MAX_CHARACTERS:
        raise MemoryError
    return text


@functools.lru_cache(maxsize=4)
def _compiled(template: str) -> Template:
    from jinja2 import nodes
    from jinja2.exceptions import TemplateError
    from jinja2.ext import Extension
    from jinja2.parser import Parser
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """``{% generation %}...{% endgeneration %}`` marks the assistant's tokens for training: its body as it is."""

        tags = {"generation"}  # noqa: RUF012 - jinja2 declares it so

        def parse(self, parser: Parser) -> list[nodes.Node]:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    def tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None, **options: Any) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **options)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    return environment.from_string(template)


def _told(error: Exception) -> str:
    from jinja2.exceptions import SecurityError, TemplateError, TemplateSyntaxError, UndefinedError

    message = " ".join(str(error).split())[:300]
    match error:
        case TemplateSyntaxError():
            return f"is no jinja2 template (line {error.lineno}: {message})"
        case SecurityError():
            return f"reaches out of its sandbox ({message})"
        case TemplateError() if not isinstance(error, UndefinedError):
            return f"refuses the messages ({message})"
    return f"fails ({type(error).__name__}: {message})"
