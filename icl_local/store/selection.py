"""Selection of responses for a judge or an export."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from icl_local.exceptions import ConfigError

SPLITS = ("multi", "safety")
Names = str | Sequence[str] | None


@dataclass(frozen=True)
class Selection:
    """Responses by model (the name `icl status` shows), method, language, split and query set.

    Each field takes a name, several names, or None for all. Raises ConfigError for an unknown split.
    """

    model: Names = None
    method: Names = None
    language: Names = None
    split: Names = None
    dataset: Names = None

    def __post_init__(self) -> None:
        if unknown := set(_listed(self.split) or ()) - set(SPLITS):
            raise ConfigError(f"no split {min(unknown)!r}; there are {', '.join(SPLITS)}")

    def __bool__(self) -> bool:
        return any(self.parameters())

    def parameters(self) -> list[list[str] | None]:
        """Return the parameters $1 to $5 of a query, in the order of the fields; None (NULL) takes all."""
        return [_listed(getattr(self, field.name)) for field in fields(self)]


def _listed(names: Names) -> list[str] | None:
    return [names] if isinstance(names, str) else list(names or ()) or None
