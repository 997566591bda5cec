"""Render chat templates in a process that can be killed: a template is a program that came with somebody's file.

jinja2's immutable sandbox does not stop endless loops, nor ``'x' * 10**10``, which no signal interrupts. So templates
run in one child process with limits; a render past its time limit ends it, and the next call starts another. A call
costs about 0.2 ms, the start about 0.2 s. They see what Transformers gives them, ``strftime_now`` a fixed date.
"""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from icl_local.child_process import ChildEnded, ChildProcess, Message, SharedChild, serve
from icl_local.exceptions import ModelError
from icl_local.operating_system import end_process_after, limit_process
from icl_local.weights import GgufInfo

if TYPE_CHECKING:
    from jinja2 import Template

CHAT_DATE = "2024-07-26"
"""The default date: what Llama 3.1's own template falls back to ("26 Jul 2024")."""

_MEMORY_BYTES = 512 << 20
_MAX_CHARACTERS = 16 << 20
_ORPHAN_SECONDS = 5.0
_INHERITED = ("PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


def chat_text(
    info: GgufInfo, messages: Sequence[Mapping[str, str]], *, date: str | None = None, time_limit: float = 5.0
) -> str:
    """Return ``messages`` (role, content) rendered by the file's template; the text ends where the answer begins.

    It begins without BOS where the tokenizer adds one. ``date`` (YYYY-MM-DD, default CHAT_DATE) is what
    ``strftime_now`` gives; ``time_limit`` is in seconds. Raises ModelError if the template is not jinja2, leaves the
    sandbox, refuses the messages, or takes too much.
    """
    tokens = {"bos_token": info.bos_token, "eos_token": info.eos_token}
    request = {
        "template": info.chat_template or "",
        "messages": [dict(message) for message in messages],
        "tokens": {name: token for name, token in tokens.items() if token is not None},
        "date": date or CHAT_DATE,
        "time_limit": time_limit,
    }
    try:
        reply = _RENDERER.ask(request, seconds=time_limit)
    except ChildEnded as ended:
        too_long = f"ran longer than {time_limit:g} s and was stopped"
        reply = {"error": too_long if ended.timed_out else "ended the process that renders it"}
    if "error" in reply:
        raise ModelError(f"the model's chat template {reply['error']}; use another file, or a completion method")
    text = str(reply["text"])
    return text.removeprefix(info.bos_token) if info.add_bos and info.bos_token else text


def start_renderer() -> ChildProcess:
    """Start a process that renders templates. Raises ModelError if it does not start."""
    environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    try:
        return ChildProcess("icl_local.prompting", environment=environment)
    except ChildEnded as error:
        raise ModelError(
            f"the process that renders chat templates does not start ({error}); run: icl db doctor"
        ) from None


_RENDERER = SharedChild(start_renderer)


def main() -> None:
    """Serve requests in the child process."""
    sys.dont_write_bytecode = True
    limit_process(_MEMORY_BYTES)
    serve(_handle)


def _handle(request: Message, reply: Callable[[Message], None]) -> None:
    try:
        end_process_after(request.pop("time_limit") + _ORPHAN_SECONDS)  # in case the parent has died
        answer = {"text": _render(**request)}
    except MemoryError:
        answer = {"error": f"needs more than {_MEMORY_BYTES >> 20} MB of memory"}
    except Exception as error:
        answer = {"error": _describe(error)}
    end_process_after(0)
    reply(answer)


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
        """A block that marks the assistant's tokens for training; it renders its body unchanged."""

        tags = {"generation"}  # noqa: RUF012 - jinja2 declares it this way

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


def _describe(error: Exception) -> str:
    from jinja2.exceptions import SecurityError, TemplateError, TemplateSyntaxError, UndefinedError

    message = " ".join(str(error).split())[:300]
    match error:
        case TemplateSyntaxError():
            return f"is not a jinja2 template (line {error.lineno}: {message})"
        case SecurityError():
            return f"tries to leave its sandbox ({message})"
        case TemplateError() if not isinstance(error, UndefinedError):
            return f"refuses the messages ({message})"
    return f"fails ({type(error).__name__}: {message})"
