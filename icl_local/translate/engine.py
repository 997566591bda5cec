"""What a translation engine is: queries of one language in, texts of another out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Job:
    """One text to translate; ``id`` is the candidate's key."""

    id: str
    text: str


@dataclass(frozen=True)
class Output:
    """What came of one job.

    ``finish_reason``: stop, eog, length, stopped_on_loop, refused, rejected or prompt_too_long. ``failed``: it failed
    on the way and is to be tried again; nothing of it is kept.
    """

    id: str
    text: str
    finish_reason: str = "stop"
    error: str | None = None
    failed: bool = False
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost_usd: float | None = None


class Engine(Protocol):
    """An engine for one pair of languages."""

    @property
    def name(self) -> str:
        """What a user types, without the folders of a path."""

    @property
    def settings(self) -> dict[str, object]:
        """Everything beside the text that changes the translation; part of a candidate's key."""

    def translate(self, jobs: Sequence[Job]) -> Iterator[list[Output]]:
        """Every job's output, in lists of what is ready together. Raises IclError where the engine cannot go on."""
