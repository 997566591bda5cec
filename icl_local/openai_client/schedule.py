"""Decide which request is sent next, when, how many at once, and when to stop. Pure: the caller passes the time."""

import dataclasses
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from icl_local.exceptions import ApiError
from icl_local.openai_client.prices import Budget
from icl_local.openai_client.protocol import ApiReply, ApiRequest, Result

GIVE_UP_AFTER = 10  # requests in a row that failed in all attempts: the server is down, not busy
GIVE_UP_AT_FIRST = 3  # the same, before the first success
LONGEST_WAIT = 120.0  # seconds that a server may request; a longer wait ends the run
_LONGEST_DELAY = 30.0


@dataclass(frozen=True)
class Job:
    """One attempt to send; ``attempt`` counts from 1, ``due`` is when a retry may begin."""

    request: ApiRequest
    attempt: int = 1
    due: float = 0.0


class AdaptiveLimit:
    """The number of active requests: one more per success until the first overload, afterwards one more per round.

    An overload halves it, at most once a second.
    """

    def __init__(self, start: int, ceiling: int) -> None:
        self.value = max(1, min(start, ceiling))
        self.ceiling = ceiling
        self._fast = True
        self._credit = 0
        self._halved_at = float("-inf")

    def succeeded(self) -> None:
        """Count one success."""
        self._credit += 1
        if self._fast or self._credit >= self.value:
            self.value, self._credit = min(self.ceiling, self.value + 1), 0

    def pushed_back(self, now: float) -> None:
        """Count one overload; ``now`` in seconds."""
        if now - self._halved_at >= 1.0:
            self.value, self._fast, self._credit, self._halved_at = max(1, self.value // 2), False, 0, now


@dataclass
class Schedule:
    """The state of one run. One request at a time is sent until the first success, because it detects the dialect.

    ``stop`` is the error because of which nothing more is sent; None while the run continues.
    """

    requests: Iterator[ApiRequest]
    limit: AdaptiveLimit
    max_attempts: int
    backoff: float
    budget: Budget | None
    ceiling_usd: Callable[[ApiRequest], float]
    stop: BaseException | None = None
    answered: bool = False
    _waiting: list[Job] = field(default_factory=list)
    _active: int = 0  # requests sent, until the caller has taken their replies
    _exhausted: bool = False
    _failed_in_a_row: int = 0
    _pause_until: float = 0.0

    @property
    def over(self) -> bool:
        """Return whether no request is active and none will be sent."""
        return not self._active and (self.stop is not None or (self._exhausted and not self._waiting))

    def next(self, now: float) -> Job | None:
        """Return the attempt to send at ``now``; None if a slot, a due time or a reply must come first."""
        width = self.limit.value if self.answered else 1
        if self.stop is not None or now < self._pause_until or self._active >= width:
            return None
        if retries := [job for job in self._waiting if job.due <= now]:
            job = min(retries, key=lambda job: job.due)
            self._waiting.remove(job)
        elif (request := self._next_request()) is not None:
            job = Job(request)
        else:
            self._exhausted = True
            return None
        if self.budget is not None and not self.budget.reserve(self.ceiling_usd(job.request)):
            self._waiting.append(dataclasses.replace(job, due=now))
            if not self._active:
                self._end(
                    f"one more request could exceed the cost limit of ${self.budget.limit_usd:.2f} "
                    f"(${self.budget.spent_usd:.4f} is spent); raise it to go on"
                )
            return None
        self._active += 1
        return job

    def finished(self, job: Job, result: Result, now: float) -> ApiReply:
        """Record an attempt that ended at ``now``; return the reply with ``final`` set. It keeps its slot."""
        reply = result.reply
        self._settle(job, reply)
        unproven = reply.outcome == "rejected" and not self.answered
        if unproven:  # the next request shows whether all are rejected, or only this one
            reply = dataclasses.replace(reply, outcome="failed")
        failed = reply.outcome == "failed"
        if result.pushed_back:
            self.limit.pushed_back(now)
        elif not failed:
            self.limit.succeeded()
        if reply.outcome == "reply":
            self.answered = True
        wait = result.wait_seconds
        if result.stop is not None:
            self._end(result.stop)
        elif wait is not None and wait > LONGEST_WAIT:
            self._end(f"the server asks to wait {wait:.0f} s; run the same command again after that")
        elif wait is not None:
            self._pause_until = max(self._pause_until, now + wait)
        again = failed and result.again and job.attempt < self.max_attempts
        if again and self.stop is None:
            due = now + (self.delay(job.attempt) if wait is None else wait)
            self._waiting.append(Job(job.request, job.attempt + 1, due))
        self._failed_in_a_row = 0 if not failed else self._failed_in_a_row + (unproven or not again)
        if self._failed_in_a_row >= (GIVE_UP_AFTER if self.answered else GIVE_UP_AT_FIRST):
            self._end(f"{self._failed_in_a_row} requests in a row failed: {reply.error}; try again later")
        return dataclasses.replace(reply, final=not again or self.stop is not None)

    def taken(self, n: int) -> None:
        """Free the slots of ``n`` finished attempts, which the caller has stored."""
        self._active -= n

    def broke(self, error: BaseException) -> None:
        """Record an attempt that ended in an error of this program."""
        self._active -= 1
        self._end(error)

    def wait_seconds(self, now: float) -> float | None:
        """Return the seconds until the next request is due; None if only a reply changes anything."""
        due = [moment for moment in (self._pause_until, *(job.due for job in self._waiting)) if moment > now]
        return min(due) - now if due and self.stop is None else None

    def delay(self, attempt: int) -> float:
        """Return the seconds before the attempt after ``attempt``: doubling, with jitter."""
        return min(_LONGEST_DELAY, self.backoff * 2.0 ** (attempt - 1)) * random.uniform(0.5, 1.0)

    def _next_request(self) -> ApiRequest | None:
        try:
            return None if self._exhausted else next(self.requests, None)
        except Exception as error:  # raised by the run after the replies that are paid for
            self._end(error)
            return None

    def _end(self, reason: str | BaseException) -> None:
        """Send nothing more; the first reason counts."""
        if self.stop is None:
            self.stop = ApiError(reason) if isinstance(reason, str) else reason

    def _settle(self, job: Job, reply: ApiReply) -> None:
        """Record the cost: the tokens that the server reported, else its highest possible charge."""
        if self.budget is not None:
            ceiling = self.ceiling_usd(job.request)
            unknown = ceiling if reply.outcome == "reply" or reply.http_status is None else 0.0
            self.budget.settle(ceiling, unknown if reply.cost_usd is None else reply.cost_usd)
