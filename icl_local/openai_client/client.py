"""``ApiClient``: requests through the openai package; every attempt is returned, errors contain no secrets.

The retries of the openai package are off: it waits up to two minutes if a server says so, and retries an exhausted
quota. Parameters that a server does not support (a JSON schema, a zero temperature, ``max_tokens``) are detected on the
first request and left out of the following ones.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import email.utils
import itertools
import json
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent import futures
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from icl_local.exceptions import ApiError, ConfigError
from icl_local.openai_client.prices import Budget, Price, find_price
from icl_local.openai_client.protocol import ApiReply, ApiRequest, Dialect, Result
from icl_local.openai_client.schedule import LONGEST_WAIT, AdaptiveLimit, Job, Schedule

if TYPE_CHECKING:
    import openai

T = TypeVar("T")

CONCURRENCY_START, CONCURRENCY_CEILING = 8, 64  # of the automatic concurrency
# an address without http:// does not belong to a model's name: its requests would go to OpenAI
_ADDRESS = re.compile(r"openai:(?P<model>[^\s@](?:[^@]|@(?![^@\s]*[/:]))*?)(?:@(?P<url>https?://\S+))?")
_MOST_TOKENS = 2**31 - 1  # a server that reports more is wrong
_TRANSIENT = {408, 409, 425, 429}
_OVERLOADED = {429, 503, 529}
_QUOTA = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"}
_KEY_LIKE = re.compile(r"\bsk-[\w*.\-]{6,}|(?<=Bearer )\S+|(?<=Basic )\S+")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class ApiClient:
    """A model at an OpenAI-compatible server; key, base URL and other settings come from OPENAI_* variables.

    ``concurrency`` of None adapts to the server. ``max_attempts`` is for one request, ``timeout`` (seconds) for one
    attempt. ``backoff`` (seconds) is the first delay. ``price`` and ``budget`` limit the cost. Raises ApiError without
    a key.

    ``name`` is stored and shown, ``identity`` is the part of a key that stands for the model (its base URL has no
    credentials), ``decoding`` are the settings that change a reply.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        concurrency: int | None = None,
        max_attempts: int = 5,
        timeout: float = 300.0,
        backoff: float = 1.0,
        price: Price | None = None,
        budget: Budget | None = None,
    ) -> None:
        url = base_url or os.environ.get("OPENAI_BASE_URL") or "https://api.openai.com/v1"
        key = api_key or os.environ.get("OPENAI_API_KEY") or ""
        try:
            parts, self.base_url = urlsplit(url), public_url(url)
        except ValueError as error:
            raise ApiError(f"OPENAI_BASE_URL is not a URL ({error})") from None
        if not key and parts.hostname == "api.openai.com":
            raise ApiError("OPENAI_API_KEY is not set; set it, or OPENAI_BASE_URL for a server of your own")
        if parts.query or not parts.hostname:
            raise ApiError("OPENAI_BASE_URL must be a plain URL; put a key into OPENAI_API_KEY")
        self.model = model
        self.name = f"openai:{model}"
        self.identity: dict[str, object] = {"backend": "openai", "model": model, "base_url": self.base_url}
        self.decoding: dict[str, object] = {"temperature": 0.0}
        self.price = price
        self.budget = budget
        self.dialect = Dialect()
        self._proven = False  # a request succeeded in this dialect
        self._schedule: Callable[[Iterator[ApiRequest]], Schedule] = lambda requests: Schedule(
            requests,
            limit=AdaptiveLimit(concurrency or CONCURRENCY_START, concurrency or CONCURRENCY_CEILING),
            max_attempts=max_attempts,
            backoff=backoff,
            budget=self.budget,
            ceiling_usd=self.ceiling_usd,
        )
        self._options: dict[str, Any] = {
            "api_key": key or "none",  # a local server needs no key, the openai package requires one
            "base_url": self.base_url,
            "max_retries": 0,
            "timeout": timeout,
        }
        basic = base64.b64encode(f"{parts.username}:{parts.password}".encode()).decode() if parts.password else ""
        if basic:  # as a header, because HTTP libraries log URLs
            self._options["default_headers"] = {"Authorization": f"Basic {basic}"}
        self._secrets = _secrets(key, basic, parts.password or "")

    def redact(self, text: str) -> str:
        """Return ``text`` without this client's secrets and without anything that looks like a key."""
        return _KEY_LIKE.sub("[key]", self._hide(text))

    def ceiling_usd(self, request: ApiRequest, *, batch: bool = False) -> float:
        """Return the highest cost of one attempt, or of a request in a batch, in USD; 0 if no price is known."""
        price = self.price
        return price.usd(request.prompt_bytes() + 64, request.max_tokens, batch=batch) if price else 0.0

    def run(self, requests: Iterable[ApiRequest]) -> Iterator[list[ApiReply]]:
        """Yield every attempt at every request, in lists of those ready together.

        ``requests`` is read as slots become free. A reply keeps its slot until the caller asks for more, so that a kill
        loses no more replies than there are slots. Raises ApiError if the run cannot continue (no access, no quota, no
        such model, no server, cost limit), and an error of ``requests``, after all active requests have ended.
        """
        import openai

        schedule = self._schedule(iter(requests))
        active: dict[futures.Future[tuple[Result, float]], Job] = {}
        api = openai.AsyncOpenAI(**self._options)
        loop = asyncio.new_event_loop()  # in its own thread, because a notebook runs one in the caller's
        thread = threading.Thread(target=_serve, args=(loop,), name="openai-client", daemon=True)
        thread.start()
        try:
            while not schedule.over:
                replies = []
                for future in [future for future in active if future.done()]:
                    job = active.pop(future)
                    if (error := future.exception()) is None:
                        replies.append(schedule.finished(job, *future.result()))
                    else:
                        schedule.broke(error)
                while (next_job := schedule.next(time.monotonic())) is not None:
                    active[asyncio.run_coroutine_threadsafe(self._attempt(api, next_job), loop)] = next_job
                timeout = schedule.wait_seconds(time.monotonic())
                if replies:
                    yield replies
                    schedule.taken(len(replies))
                elif active:
                    futures.wait(active, timeout, futures.FIRST_COMPLETED)
                else:
                    time.sleep(timeout or 0)
        finally:  # the caller may have stopped reading
            if not sys.is_finalizing():  # then the thread is dead, and waiting for it would never end
                asyncio.run_coroutine_threadsafe(_close(api), loop)
                if threading.current_thread() is not thread:  # which may have collected this generator as garbage
                    thread.join()
        if schedule.stop is not None:
            raise schedule.stop

    def call(self, function: Callable[[openai.OpenAI], T], *, max_attempts: int | None = None) -> T:
        """Call ``function`` with a plain client (files, batches), with the same retries and expected errors."""
        import openai

        schedule = self._schedule(iter(()))
        tries = max_attempts or schedule.max_attempts
        with openai.OpenAI(**self._options) as client:
            for attempt in itertools.count(1):
                try:
                    return function(client)
                except (openai.OpenAIError, ValueError) as error:
                    result = self._failure(error, ApiReply("", attempt, "failed"))
                    wait = result.wait_seconds if result.wait_seconds is not None else schedule.delay(attempt)
                    last = attempt >= tries or result.reply.outcome != "failed" or wait > LONGEST_WAIT
                    if last or result.stop:
                        reason = str(result.reply.error)
                        where = "" if self.base_url in reason else f"{self.base_url}: "
                        raise ApiError(result.stop or f"{where}{reason}; check the server and its URL") from None
                    time.sleep(wait)
        raise AssertionError("unreachable")

    async def _attempt(self, api: openai.AsyncOpenAI, job: Job) -> tuple[Result, float]:
        """Make one attempt, or several until the server's dialect is known; return the result and when it came."""
        import openai

        request = job.request
        started = time.monotonic()
        endpoint: Any = api.chat.completions if request.prompt is None else api.completions
        body = {"messages": list(request.messages)} if request.prompt is None else {"prompt": request.prompt}
        while True:
            dialect = self.dialect
            parameters = dialect.parameters(request)
            reply = ApiReply(
                request.id,
                job.attempt,
                "failed",
                structured=None if request.schema is None else dialect.structured,
                parameters={**parameters, **request.extra},
            )
            try:
                raw = await endpoint.with_raw_response.create(
                    model=self.model,
                    **body,
                    **parameters,
                    # in extra_body: the openai package would walk through the schema, a seventh of its time
                    extra_body={**dialect.response_format(request), **request.extra} or None,
                )
                read = self.read_completion(_body(raw.http_response), reply, may_be_empty=request.may_be_empty)
                result = Result(read, _reset_seconds(raw.headers))
            except (openai.OpenAIError, ValueError) as error:  # ValueError: JSON that cannot be read
                changed = self._adapted(dialect, error, has_schema=request.schema is not None)
                if changed is not None:
                    self.dialect = changed
                    continue
                result = self._failure(error, reply)
            self._proven = self._proven or result.reply.outcome == "reply"
            ended = time.monotonic()
            timed = dataclasses.replace(result.reply, seconds=round(ended - started, 4))
            return dataclasses.replace(result, reply=timed), ended

    def _adapted(self, dialect: Dialect, error: Exception, *, has_schema: bool) -> Dialect | None:
        """Return another dialect if no request has succeeded yet and the error is about a parameter.

        llama-cpp-python's server reports a response_format it does not know with status 500.
        """
        import openai

        if self._proven or not isinstance(error, openai.APIStatusError):
            return None
        message = str(error.message)
        if error.status_code in (400, 422) or (error.status_code == 500 and "response_format" in message):
            return dialect.without(error.param, message, has_schema=has_schema)
        return None

    def read_completion(
        self, body: Any, reply: ApiReply, *, may_be_empty: bool = False, batch: bool = False
    ) -> ApiReply:
        """Return the body of a response with status 200 as a reply or a failure; every field may be missing.

        ``batch``: the Batch API gave it, at its price.
        """
        prompt_tokens = _field(body, int, "usage", "prompt_tokens")
        completion_tokens = _field(body, int, "usage", "completion_tokens")
        cost = None
        if self.price is not None and prompt_tokens is not None and completion_tokens is not None:
            cost = self.price.usd(prompt_tokens, completion_tokens, batch=batch)
        choice = _field(body, dict, "choices", 0)
        message = _field(choice, dict, "message")
        text = _field(choice, str, "text") if message is None else _field(message, str, "content")
        refusal = _field(message, str, "refusal")
        finish = _field(choice, str, "finish_reason")
        if finish == "content_filter" and not refusal:
            refusal = "stopped by the server's content filter"
        error = None
        if choice is None:
            detail = body if isinstance(body, str) else _field(body, object, "error")
            error = "answered 200 without a completion" + (f": {self.redact(str(detail))[:200]}" if detail else "")
        elif not text and not refusal and finish != "length" and not (may_be_empty and text is not None):
            error = "answered 200 with no text"
        return dataclasses.replace(
            reply,
            outcome="reply" if error is None else "failed",
            text=None if text is None else self._hide(text),
            refusal=None if refusal is None else self._hide(refusal),
            finish_reason=finish,
            error=error,
            http_status=200,
            model=_field(body, str, "model"),
            system_fingerprint=_field(body, str, "system_fingerprint"),
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            cost_usd=cost,
        )

    def _failure(self, error: Exception, reply: ApiReply) -> Result:
        """Return an exception as an outcome: to retry, rejected, or the end of the run."""
        import openai

        if not isinstance(error, openai.APIStatusError):
            reason = self.redact(str(error.__cause__ or error) or type(error.__cause__ or error).__name__)[:300]
            if isinstance(error, openai.APITimeoutError):
                reason = f"no answer from {self.base_url} in time"
            elif isinstance(error, openai.APIConnectionError):
                reason = f"no answer from {self.base_url} ({reason})"
            elif isinstance(error, ValueError):
                reason = f"answered with JSON that cannot be read ({reason})"
            failed = dataclasses.replace(reply, error=reason)
            return Result(failed, pushed_back=isinstance(error, openai.APITimeoutError))
        status, headers = error.status_code, error.response.headers
        reason = self.redact(" ".join(str(error.message).split()))[:300]
        reply = dataclasses.replace(reply, error=reason, http_status=status)
        if _QUOTA & {str(error.code), str(error.type)}:
            reply = dataclasses.replace(reply, outcome="quota")
            return Result(reply, stop=f"no quota left at {self.base_url} ({reason}); add credit, then run this again")
        if status == 401:
            return Result(reply, stop=f"{self.base_url} refuses the key ({reason}); check OPENAI_API_KEY")
        if status == 404 or (status == 403 and not self._proven):
            return Result(reply, stop=f"{self.base_url} has no {self.model} ({reason}); check model and base URL")
        if status == 403:
            return Result(reply, again=False)
        if is_transient(status):
            wait = _retry_after(headers)
            if wait is None and status == 429:
                wait = _reset_seconds(headers)
            return Result(reply, wait, pushed_back=status in _OVERLOADED)
        return Result(dataclasses.replace(reply, outcome="rejected"))

    def _hide(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "[key]")
        return text


def open_client(
    text: str,
    *,
    option: str,
    others: str = "",
    prices: str | Path | None = None,
    budget: Budget | None = None,
    **options: Any,
) -> ApiClient:
    """Open the client of ``openai:MODEL`` or ``openai:MODEL@URL`` with its price; ``options`` are those of ApiClient.

    Raises ConfigError, which names ``option`` and the ``others`` it takes, for another form, and where ``budget`` is
    given and no price is known; ApiError without a key.
    """
    model, url = parse_name(text, option=option, others=others)
    client = ApiClient(model, base_url=url, budget=budget, **options)
    client.price = find_price(client.model, client.base_url, prices_file=Path(prices) if prices else None)
    if budget is not None and client.price is None:
        raise ConfigError(
            f"no price is stated for {client.model} at {client.base_url}, so a cost limit cannot be enforced; write it "
            "into a file in the form of models/prices.toml and give that as --prices"
        )
    return client


def parse_name(text: str, *, option: str, others: str = "") -> tuple[str, str | None]:
    """Return MODEL and URL of ``openai:MODEL@URL``. Raises ConfigError, see ``open_client``."""
    match = _ADDRESS.fullmatch(text)
    if match is None:
        shown = re.sub("@.*", "@...", text)  # a URL may hold a password
        raise ConfigError(
            f"{option} cannot be {shown!r}; write openai:MODEL, "
            f"openai:MODEL@URL such as openai:llama3@http://localhost:8080/v1{others}"
        )
    return match["model"], match["url"]


def is_transient(http_status: int) -> bool:
    """Return whether a request that failed with this status may succeed later."""
    return http_status in _TRANSIENT or http_status >= 500


def public_url(url: str) -> str:
    """Return a base URL without user and password, which can be stored and shown."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path.rstrip('/')}"


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    """Run a loop until something in it stops it."""
    loop.run_forever()
    loop.close()


async def _close(api: openai.AsyncOpenAI) -> None:
    """Cancel the other tasks of this loop, the requests under way, close the connections, and stop the loop."""
    loop = asyncio.get_running_loop()
    try:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with contextlib.suppress(Exception):  # every reply is there: a connection that fails now changes nothing
            await api.close()
        await loop.shutdown_asyncgens()
    finally:
        loop.stop()


def _secrets(*known: str) -> list[str]:
    """Return the values to hide, longest first; values under 8 characters are not secrets and occur inside words."""
    found = [*known]
    found += [os.environ.get(name, "") for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_WEBHOOK_SECRET")]
    for line in os.environ.get("OPENAI_CUSTOM_HEADERS", "").split("\n"):
        value = line.partition(":")[2].strip()
        found += [value, value.rpartition(" ")[2]]
    found += [json.dumps(secret)[1:-1] for secret in found]
    return sorted({secret for secret in found if len(secret) >= 8}, key=len, reverse=True)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds to wait by retry-after-ms, or by Retry-After as seconds or as a date."""
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        with contextlib.suppress(ValueError):
            seconds = float(headers.get(name, "")) * scale
            return min(max(0.0, seconds), 1e9)  # also makes 0 of NaN
    date = email.utils.parsedate_tz(headers.get("retry-after", ""))
    return None if date is None else max(0.0, email.utils.mktime_tz(date) - time.time())


def _reset_seconds(headers: Mapping[str, str]) -> float | None:
    """Return the seconds until an exhausted limit is reset (x-ratelimit-remaining-* is 0); None if there is none."""
    waits = []
    for kind in ("requests", "tokens"):
        if headers.get(f"x-ratelimit-remaining-{kind}") == "0":
            parts = _DURATION.findall(headers.get(f"x-ratelimit-reset-{kind}", ""))
            waits.append(sum(float(number) * _SECONDS[unit] for number, unit in parts))
    return max(waits) if waits else None


def _body(response: Any) -> Any:
    """Return the JSON of a response, or the text of a page, which claims no JSON. Raises ValueError."""
    try:
        return response.json()
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except ValueError:
        if response.headers.get("content-type", "").partition(";")[0].endswith("json"):
            raise
        return response.text


def _field(value: Any, kind: type[T], *path: str | int) -> T | None:
    """Return what stands at ``path`` in a JSON value; None where it is of another kind, or a number of no tokens."""
    try:
        for key in path:
            value = value[key]
    except (LookupError, TypeError):
        return None
    valid = isinstance(value, kind) and not isinstance(value, bool)
    return None if not valid or (isinstance(value, int) and not 0 <= value <= _MOST_TOKENS) else value
