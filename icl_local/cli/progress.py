"""Bars for a run on a terminal, a plain line a minute elsewhere; both on stderr, drawn from run.Event."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from icl_local.cli import console
from icl_local.running import Event

LINE_SECONDS = 60.0


class RunProgress:
    """A context manager whose ``on_event`` is given to ``icl_local.running.run.run``."""

    def __init__(self, *, interactive: bool | None = None) -> None:
        self._bars = console.Bars() if (sys.stderr.isatty() if interactive is None else interactive) else None
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
            self._tasks[key] = self._bars.add(key, total=event.n_wanted, done=event.n_done)
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
        told = f": {event.message}" if event.message else ""
        console.say(
            f"{event.cell.label}: {event.kind}, {event.n_done} of {event.n_wanted}{rate},"
            f" loops {event.n_loops}, code {event.n_code}{told}"
        )
