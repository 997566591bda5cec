"""Progress displays, all on stderr: bars on a terminal or in a notebook, a line now and then elsewhere.

Each display is a context manager; ``callbacks()`` are the keyword arguments of the library call that it follows.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self

from icl_local.cli import console

if TYPE_CHECKING:
    from icl_local.engine import ProbeStep
    from icl_local.judging import Collected, JudgeProgress
    from icl_local.running import Event, ScoreProgress
    from icl_local.translate import TranslateProgress

LINE_SECONDS = 60.0


class Display:
    """Bars that start with the first one and end with the context; ``bars`` is None where lines are printed instead."""

    def __init__(self, *, interactive: bool | None = None, line_seconds: float = LINE_SECONDS) -> None:
        self.bars = console.Bars() if (console.interactive() if interactive is None else interactive) else None
        self.on_download = console.BytesBars(self.bars)
        self._line_seconds = line_seconds
        self._printed_at = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.bars is not None:
            self.bars.stop()

    def line_is_due(self, at_once: bool = False) -> bool:
        """Return whether a line is to be printed: ``at_once``, or when the last one is ``line_seconds`` old."""
        if not at_once and time.monotonic() - self._printed_at < self._line_seconds:
            return False
        self._printed_at = time.monotonic()
        return True


class Bar(Display):
    """One bar on a terminal or in a notebook; elsewhere a line of text every ``line_seconds``, with the time left."""

    def __init__(self, label: str = "", *, line_seconds: float = LINE_SECONDS) -> None:
        super().__init__(line_seconds=line_seconds)
        self.label = label
        self._task: int | None = None
        self._first: tuple[int, float] | None = None

    def show(self, *, done: int, total: int, rate: str | None = None, note: str | None = None) -> None:
        """Draw ``done`` of ``total``; the first call sets the total and what was done before."""
        if self.bars is None:
            before, began = self._first = self._first or (done, time.monotonic())
            if self.line_is_due():
                seconds = (time.monotonic() - began) / (done - before) * (total - done) if done > before else None
                left = None if seconds is None else f"left {timedelta(seconds=round(seconds))}"
                details = "".join(f", {part}" for part in (rate, left, note) if part)
                console.say(f"{self.label}: {done:,} of {total:,}{details}")
            return
        if self._task is None:
            self._task = self.bars.add(self.label, total=total, done=done)
            self.bars.begin(self._task)
        self.bars.update(self._task, done=done, rate=rate, note=note)


class ProbeBar(Bar):
    """The bar of a probe."""

    def __init__(self) -> None:
        super().__init__("probe")

    def on_step(self, step: ProbeStep) -> None:
        """Draw how far the probe is."""
        self.show(done=step.done, total=step.total, note=_candidate(step))


class ScoreBar(ProbeBar):
    """A bar for every model and prompt whose texts are scored."""

    def callbacks(self) -> dict[str, Any]:
        """Return the callbacks of ``running.score_texts``."""
        on = {"on_progress": self.on_progress, "on_step": self.on_step}
        return {**on, "on_note": console.say, "on_download": self.on_download}

    def on_progress(self, progress: ScoreProgress) -> None:
        """Draw how far the texts are."""
        if progress.label != self.label:
            self.label, self._task, self._first = progress.label, None, None
        rate = token_rate(progress.tokens_per_second) if progress.tokens_per_second else None
        self.show(done=progress.done, total=progress.total, rate=rate)


class CountsBar(Bar):
    """A bar that follows the counts of a judge or of translation engines, and prints the last ones of each label."""

    _last: JudgeProgress | TranslateProgress | None = None

    def on_progress(self, progress: JudgeProgress | TranslateProgress) -> None:
        """Draw the counts."""
        if progress.label != self.label:
            self._print_last()
            self.label, self._task = progress.label, None
        self._last = progress
        cost = None if progress.cost_usd is None else f"${progress.cost_usd:.4f}"
        self.show(done=progress.done, total=progress.requested, rate=cost, note=progress.note)

    def callbacks(self) -> dict[str, Any]:
        """Return the callbacks of ``translate.translate_queries``."""
        return {"on_progress": self.on_progress, "on_download": self.on_download}

    def __exit__(self, *exc: object) -> None:
        super().__exit__(*exc)
        self._print_last()

    def _print_last(self) -> None:
        if self._last is not None:
            console.say(f"{self.label}: {self._last}")


class JudgeBar(CountsBar):
    """The bar of one judge."""

    def callbacks(self) -> dict[str, Any]:
        """Return the callbacks of ``judging.judge``."""
        return {**super().callbacks(), "on_collected": self.on_collected}

    def on_collected(self, collected: Collected) -> None:
        """Print the results of a look at the Batch API."""
        for line in collected.lines:
            console.say(line)


class RunProgress(Display):
    """A bar for every cell of a run."""

    def __init__(self, *, interactive: bool | None = None) -> None:
        super().__init__(interactive=interactive)
        self._tasks: dict[str, int] = {}
        self._probe = 0

    def callbacks(self) -> dict[str, Callable[..., None]]:
        """Return the callbacks of ``icl_local.run`` and ``study.run_study``."""
        return {"on_event": self.on_event, "on_note": console.say, "on_download": self.on_download}

    def on_event(self, event: Event) -> None:
        """Draw what happened."""
        if self.bars is None:
            self._print(event)
            return
        key = event.cell.label
        if event.probe is not None:
            self._draw_probe(event.probe)
            return
        if event.kind == "note":
            console.say(event.message)
            return
        if event.kind == "planned":
            self._tasks[key] = self.bars.add(key, total=event.n_queries, done=event.n_done)
            return
        if event.kind == "started":
            self.bars.begin(self._tasks[key])
        errors = _counts(event) if event.n_loops or event.n_code or event.n_too_long else ""
        rate = token_rate(event.tokens_per_second) if event.tokens_per_second else None
        state = {"failed": "failed", "interrupted": "stopped"}.get(event.kind, errors)
        self.bars.update(self._tasks[key], done=event.n_done, rate=rate, note=state)
        if event.kind == "failed":
            console.say(f"{key}: {event.message}", style="red")

    def _draw_probe(self, step: ProbeStep) -> None:
        assert self.bars is not None
        if (step.candidate, step.done) == (1, 0):
            self._probe = self.bars.add("probe", total=step.total)
            self.bars.begin(self._probe)
        self.bars.update(self._probe, done=step.done, note=_candidate(step))

    def _print(self, event: Event) -> None:
        change = event.kind in ("started", "note", "done", "failed", "interrupted")
        if event.kind == "planned" or not self.line_is_due(change):
            return
        if event.kind == "note":
            console.say(f"{event.cell.label}: {event.message}")
            return
        if event.probe is not None:
            console.say(f"probe: part {event.probe.done} of {event.probe.total}, {_candidate(event.probe)}")
            return
        rate = f", {token_rate(event.tokens_per_second)}" if event.tokens_per_second else ""
        message = f": {event.message}" if event.message else ""
        console.say(
            f"{event.cell.label}: {event.kind}, {event.n_done} of {event.n_queries}{rate}, {_counts(event)}{message}"
        )


def token_rate(tokens_per_second: float) -> str:
    """Return tokens per second as text, with two digits at least."""
    return f"{tokens_per_second:.{0 if tokens_per_second >= 10 else 1 if tokens_per_second >= 1 else 2}f} tok/s"


def _candidate(step: ProbeStep) -> str:
    return f"candidate {step.candidate} of {step.n_candidates}"


def _counts(event: Event) -> str:
    too_long = f", {event.n_too_long} too long" if event.n_too_long else ""
    return f"loops {event.n_loops}, code {event.n_code}{too_long}"
