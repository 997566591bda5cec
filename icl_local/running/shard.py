"""A part of the work for one of several machines: ``2/3`` is the second of three parts that together are all of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from icl_local.exceptions import ConfigError

T = TypeVar("T")


@dataclass(frozen=True)
class Shard:
    """Part ``number`` (from 1) of ``of`` parts; the parts of the same work never overlap."""

    number: int = 1
    of: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Parse ``i/n``. Raises ConfigError."""
        match = re.fullmatch(r"(\d{1,4})/(\d{1,4})", text)
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise ConfigError(f"--shard must be i/n with i from 1 to n, such as 1/2, not {text!r}")
        return cls(int(match[1]), int(match[2]))

    def take(self, items: Sequence[T]) -> tuple[T, ...]:
        """Return every n-th item, so that the parts are alike in size and content."""
        return tuple(items[self.number - 1 :: self.of])

    def holds(self, key: str) -> bool:
        """Return whether a row belongs to this part, by its key (hexadecimal) alone."""
        return int(key[:8], 16) % self.of == self.number - 1
