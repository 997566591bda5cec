"""The report as a page that is served: it reads responses when they are opened, and follows a run while it goes on."""

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icl_local import store
from icl_local.exceptions import InputError
from icl_local.results import report
from icl_local.results.serve import Get, Page
from icl_local.store import Row

LATEST = 5  # answers shown while a run goes on
_SHOWN_CHARACTERS = 4_000
_SCORED = 5_000  # scored answers to choose from
_KEPT = 4  # loads of the page whose responses can still be opened


@dataclass(frozen=True)
class _Load:
    """What one load of the page shows, and the times of the database's files then."""

    page: Page
    rows: list[Row]
    parts: list[list[int]]
    times: tuple[int, ...]


class Browser:
    """The routes of the page of one database, read-only; a load of the page reads the database again if it changed."""

    def __init__(self, database: Path, **options: Any) -> None:
        self._database = database
        self._options = options  # of report.read
        self._lock = threading.Lock()
        self._loads: dict[int, _Load] = {}

    def routes(self) -> dict[str, Get]:
        """Return the routes by name, as PageServer takes them."""
        return {
            "": self.page,
            "index": self.index,
            "texts": self.texts,
            "live": self.live,
            "scored": lambda _: store.named(self._database, "scored_answers", [_SCORED]).rows,
            "tokens": lambda scoring_id: store.named(self._database, "scored_tokens", [scoring_id]).rows,
        }

    def page(self, _: str = "") -> Page:
        """Return the page with the tables and figures of this moment."""
        with self._lock:
            number, times = max(self._loads, default=0), self._times()
            if number and self._loads[number].times == times:
                return self._loads[number].page
            page, rows = report.read(self._database, **self._options)
            page["sections"].insert(1, ("live", "Now"))
            made = report.render({**page, "load": number + 1}, mode="browse")
            self._loads[number + 1] = _Load(made, rows, report.parts_of(rows), times)
            self._loads.pop(number + 1 - _KEPT, None)
            return made

    def index(self, rest: str) -> str:
        """Return the packed index of the responses of a load."""
        load, _ = self._load(f"{rest}/0")
        return report.packed(report.index_of(load.rows, load.parts))

    def texts(self, rest: str) -> str:
        """Return one packed part, LOAD/PART, of the texts of a load."""
        load, part = self._load(rest)
        return report.packed([report.stored_text(load.rows[at], reasons=True) for at in load.parts[part]])

    def live(self, _: str = "") -> dict[str, Any]:
        """Return how far the cells are, the speed of processes that have ended, and the latest answers."""
        cells = store.named(self._database, "live_cells")
        latest = store.named(self._database, "live_answers", [LATEST, _SHOWN_CHARACTERS]).dicts()
        return {"columns": cells.columns, "cells": cells.rows, "latest": latest}

    def _times(self) -> tuple[int, ...]:
        files = (self._database, Path(f"{self._database}.wal"))
        return tuple(file.stat().st_mtime_ns for file in files if file.exists())

    def _load(self, rest: str) -> tuple[_Load, int]:
        number, _, part = rest.partition("/")
        load = self._loads.get(int(number) if number.isdecimal() else 0)
        if load is None or not part.isdecimal() or (load.parts and int(part) >= len(load.parts)):
            raise InputError("this page is old; load it again")
        return load, int(part)
