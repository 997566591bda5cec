"""Progress on stderr: bars on a terminal or in a notebook, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.constrain import Constrain
from rich.measure import Measurement
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

from icl_local.cli.console import escape, interactive, say, stderr

if TYPE_CHECKING:
    from icl_local import dpo
    from icl_local.engine import ProbeStep
    from icl_local.judging import Collected, JudgeProgress
    from icl_local.running import Event
    from icl_local.translate import TranslateProgress

LINE_SECONDS = 60.0
_WIDE = 80  # a narrower terminal shows no elapsed time
_TEXTS = ("label", "count", "rate", "note")
_CHANGES = ("started", "done", "failed", "interrupted")


class _End:
    """A text that a narrow column cuts at its start."""

    def __init__(self, text: Text) -> None:
        self._text = text

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(1, self._text.cell_len)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        hidden = self._text.cell_len - options.max_width
        yield Text("…") + self._text[hidden + 1 :] if hidden > 0 else self._text


class _Field(ProgressColumn):
    """One text of a bar; those that may ``shrink`` are cut, a label at its start, since labels differ at their ends."""

    def __init__(self, name: str, *, shrink: bool = False) -> None:
        super().__init__(Column(no_wrap=not shrink, justify="left" if shrink else "right"))
        self._name = name

    def render(self, task: Task) -> Text | _End:
        """Return the text."""
        text = Text(task.fields[self._name], no_wrap=True, overflow="ellipsis")
        return _End(text) if self._name == "label" else text


class _Bars(Progress):
    """Bars that are at most 24 characters long, and give way to the texts beside them."""

    def __init__(self) -> None:
        self._bar = BarColumn()
        whole = Column(no_wrap=True)
        elapsed = ("elapsed", TimeElapsedColumn(table_column=whole)) if stderr().width >= _WIDE else ()
        times = (*elapsed, "left", TimeRemainingColumn(table_column=whole))
        self._times_width = sum(len(one) if isinstance(one, str) else len("0:00:00") for one in times)
        texts = (_Field("count"), _Field("rate"), *times, _Field("note", shrink=True))
        super().__init__(_Field("label", shrink=True), self._bar, *texts, console=stderr())

    def get_renderables(self) -> Iterator[Constrain]:
        """Yield the bars, short of the right edge: the echo of Ctrl-C there would begin a line unknown to rich."""
        width = stderr().width - len("^C") - 1
        between = len(self.columns) - 1
        texts = [max((cell_len(one.fields[name]) for one in self.tasks), default=0) for name in _TEXTS]
        self._bar.bar_width = max(4, min(24, width - between - self._times_width - sum(texts)))
        yield from (Constrain(one, width) for one in super().get_renderables())


class Display:
    """A bar for each label, or where none can be drawn a line every ``line_seconds``; a context manager.

    Its methods ``on_...`` are the callbacks of library calls.
    """

    def __init__(self, *, bars: bool | None = None, line_seconds: float = LINE_SECONDS) -> None:
        drawn = interactive() if bars is None else bars
        self.bars = _Bars() if drawn else None
        self._tasks: dict[str, TaskID] = {}
        self._began: dict[str, tuple[int, float]] = {}
        self._line_seconds = line_seconds
        self._printed_at = time.monotonic()
        self._last: JudgeProgress | TranslateProgress | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.bars is not None:
            self.bars.stop()
        self._print_last()

    def show(
        self,
        label: str,
        *,
        done: int,
        total: int | None,
        rate: str | None = None,
        note: str | None = None,
        count: str | None = None,
        at_once: bool = False,
    ) -> None:
        """Draw ``done`` of ``total``; a ``rate`` or ``note`` of None stays as it is, ``count`` replaces "done/total".

        The first call for a label sets what was done before. A line is printed ``at_once``, or when one is due.
        """
        if self.bars is None:
            self._print(label, done, total, (rate, note), at_once)
            return
        task = self._tasks[label] if label in self._tasks else self._add(label, done, total)
        self.bars.start_task(task)
        texts = {"rate": rate, "note": note, "count": count or _count(done, total)}
        fields: dict[str, Any] = {name: escape(value) for name, value in texts.items() if value is not None}
        self.bars.update(task, completed=done, **fields)

    on_note = staticmethod(say)

    def on_download(self, name: str, done: int, total: int | None) -> None:
        """Draw the bytes of a download or a checksum."""
        if self.bars is None:
            if name not in self._began:
                self._began[name] = done, time.monotonic()
                say(name if total is None else f"{name}: {total / 1e6:,.0f} MB")
            return
        bar = self.bars.tasks[self._tasks[name]] if name in self._tasks else None
        speed = (bar.speed or (bar.completed / bar.elapsed if bar.elapsed else 0.0)) if bar else 0.0
        of = "" if total is None else f"/{total / 1e6:,.1f}"
        self.show(name, done=done, total=total, rate=f"{speed / 1e6:.1f} MB/s", count=f"{done / 1e6:,.1f}{of} MB")

    def on_step(self, step: ProbeStep) -> None:
        """Draw the progress of a probe."""
        if (step.candidate, step.done) == (1, 0):
            self._tasks.pop("probe", None)
        self.show("probe", done=step.done, total=step.total, note=f"candidate {step.candidate} of {step.n_candidates}")

    def on_trained(self, step: dpo.Step) -> None:
        """Draw a step of a DPO run."""
        note = f"loss {step.loss:.4f} margin {step.reward_margin:+.3f} accuracy {step.reward_accuracy:.2f}"
        rate = token_rate(step.tokens / step.seconds)
        self.show("DPO", done=step.step, total=step.total_steps, rate=rate, note=note)

    def on_progress(self, progress: JudgeProgress | TranslateProgress) -> None:
        """Draw the counts of a judge or of a translation engine; the last ones of each label are printed."""
        if self._last is not None and self._last.label != progress.label:
            self._print_last()
        self._last = progress
        cost = None if progress.cost_usd is None else f"${progress.cost_usd:.4f}"
        self.show(progress.label, done=progress.done, total=progress.requested, rate=cost, note=progress.note)

    def on_collected(self, collected: Collected) -> None:
        """Print the results of a look at the Batch API."""
        for line in collected.lines:
            say(line)

    def on_event(self, event: Event) -> None:
        """Draw what happened in a cell of a run."""
        label = event.cell.label
        if event.probe is not None:
            self.on_step(event.probe)
        elif event.kind == "note":
            say(f"{label}: {event.message}")
        elif event.kind == "planned":
            if self.bars is not None:
                self._add(label, event.n_done, event.n_wanted)
        else:
            states = {"failed": "failed", "interrupted": "stopped", "verifying": event.message}
            rate = token_rate(event.tokens_per_second) if event.tokens_per_second else None
            self.show(
                label,
                done=event.n_done,
                total=event.n_wanted,
                rate=rate,
                note=states.get(event.kind) or _errors(event),
                at_once=event.kind in _CHANGES,
            )
            if event.kind == "failed":
                say(f"{label}: {event.message}", style="red")

    def _add(self, label: str, done: int, total: int | None) -> TaskID:
        """Add a bar that waits, and draw from the first one on."""
        assert self.bars is not None
        self.bars.start()
        fields: dict[str, Any] = {"label": escape(label), "count": _count(done, total), "rate": "", "note": ""}
        self._tasks[label] = self.bars.add_task("", total=total, completed=done, start=False, **fields)
        return self._tasks[label]

    def _print(self, label: str, done: int, total: int | None, texts: tuple[str | None, ...], at_once: bool) -> None:
        now = time.monotonic()
        before, began = self._began.setdefault(label, (done, now))
        if not at_once and now - self._printed_at < self._line_seconds:
            return
        self._printed_at = now
        rate, note = texts
        left = None
        if total is not None and before < done < total:
            left = f"left {timedelta(seconds=round((now - began) / (done - before) * (total - done)))}"
        say(", ".join([f"{label}: {done:,} of {total:,}", *(part for part in (rate, left, note) if part)]))

    def _print_last(self) -> None:
        if self._last is not None:
            say(f"{self._last.label}: {self._last}")


def token_rate(tokens_per_second: float) -> str:
    """Return tokens per second as text, with two digits at least."""
    return f"{tokens_per_second:.{0 if tokens_per_second >= 10 else 1 if tokens_per_second >= 1 else 2}f} tok/s"


def _count(done: float, total: float | None) -> str:
    return f"{done:,.0f}" if total is None else f"{done:,.0f}/{total:,.0f}"


def _errors(event: Event) -> str | None:
    counts = {"loops": event.n_loops, "code": event.n_code, "too long": event.n_too_long}
    return ", ".join(f"{name} {n}" for name, n in counts.items() if n) or None
