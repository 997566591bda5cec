"""Bars for a run on a terminal, a plain line a minute elsewhere; both on stderr, drawn from run.Event."""

from __future__ import annotations

import time
from types import TracebackType

from icl_local.cli import console
from icl_local.running import Event

LINE_SECONDS = 60.0


class Bar:
    """One bar on a terminal or in a notebook; elsewhere a line of text every ``line_seconds``. A context manager."""

    def __init__(self, label: str, *, line_seconds: float = LINE_SECONDS) -> None:
        self.label = label
        self._bars = console.Bars() if console.interactive() else None
        self._task: int | None = None
        self._line_seconds = line_seconds
        self._printed_at = time.monotonic()

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._bars is not None and self._task is not None:
            self._bars.stop()

    def show(self, *, done: int, total: int, rate: str | None = None, note: str | None = None) -> None:
        """Draw ``done`` of ``total``; the first call sets the total and what was done before."""
        if self._bars is None:
            if time.monotonic() - self._printed_at >= self._line_seconds:
                self._printed_at = time.monotonic()
                details = "".join(f", {part}" for part in (rate, note) if part)
                console.say(f"{self.label}: {done:,} of {total:,}{details}")
            return
        if self._task is None:
            self._bars.start()
            self._task = self._bars.add(self.label, total=total, done=done)
            self._bars.begin(self._task)
        self._bars.update(self._task, done=done, rate=rate, note=note)


class RunProgress:
    """A context manager whose ``on_event`` is given to ``icl_local.running.run_models``."""

    def __init__(self, *, interactive: bool | None = None) -> None:
        self._bars = console.Bars() if (console.interactive() if interactive is None else interactive) else None
        self._tasks: dict[str, int] = {}
        self._said_at = 0.0

    def __enter__(self) -> RunProgress:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._bars is not None:
            self._bars.stop()

    def on_event(self, event: Event) -> None:
        """Draw what happened."""
        if self._bars is None:
            self._say(event)
            return
        key = event.cell.label
        if event.kind == "note":
            console.say(event.message)
            return
        if event.kind == "planned":
            self._tasks[key] = self._bars.add(key, total=event.n_queries, done=event.n_done)
            return
        if event.kind == "started":
            self._bars.begin(self._tasks[key])
        errors = f"loops {event.n_loops}, code {event.n_code}" if event.n_loops or event.n_code else ""
        rate = f"{event.tokens_per_second:.0f} tok/s" if event.tokens_per_second else None
        state = {"failed": "failed", "interrupted": "stopped"}.get(event.kind, errors)
        self._bars.update(self._tasks[key], done=event.n_done, rate=rate, note=state)
        if event.kind == "failed":
            console.say(f"{key}: {event.message}", style="red")

    def _say(self, event: Event) -> None:
        now = time.monotonic()
        due = event.kind in ("started", "note", "done", "failed", "interrupted") or now - self._said_at >= LINE_SECONDS
        if event.kind == "planned" or not due:
            return
        self._said_at = now
        if event.kind == "note":
            console.say(f"{event.cell.label}: {event.message}")
            return
        rate = f", {event.tokens_per_second:.0f} tok/s" if event.tokens_per_second else ""
        message = f": {event.message}" if event.message else ""
        console.say(
            f"{event.cell.label}: {event.kind}, {event.n_done} of {event.n_queries}{rate},"
            f" loops {event.n_loops}, code {event.n_code}{message}"
        )
