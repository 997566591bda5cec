"""Selection of responses by the names that a user gives."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from icl_local.exceptions import ConfigError, InputError, UnknownName
from icl_local.identity import sha256_file

SPLITS = ("multi", "safety")
Names = str | Sequence[str] | None
RunNamed = Callable[..., Any]  # store.named of one database: the Rows of a query of db/queries


@dataclass(frozen=True)
class Selection:
    """Responses by model, method, language, split, query set and GGUF type, and their verdicts by judge.

    Each field takes a name, several names, or None for all. A model has the name that `icl status` shows, its name in
    the registry, and its file's name; a file with the same bytes stands for it too. Raises ConfigError for an unknown
    split.
    """

    model: Names = None
    method: Names = None
    language: Names = None
    split: Names = None
    dataset: Names = None
    quantization: Names = None
    judge: Names = None

    def __post_init__(self) -> None:
        if unknown := set(listed(self.split)) - set(SPLITS):
            raise ConfigError(f"no split {min(unknown)!r}; there are {', '.join(SPLITS)}")

    def __bool__(self) -> bool:
        return any(listed(getattr(self, field.name)) for field in fields(self))

    def stored(self, run_named: RunNamed) -> dict[str, list[str] | None]:
        """Return the stored names by field, as the macro main.selected takes them; None (NULL) takes all.

        Raises UnknownName for a name that no cell of the database has.
        """
        given = {field.name: listed(getattr(self, field.name)) or None for field in fields(self)}
        if not self:
            return given
        stored = run_named("stored_names").rows
        return {
            kind: names and find(kind, names, [(name, also) for of, name, also in stored if of == kind])
            if kind != "split" else names
            for kind, names in given.items()
        }  # fmt: skip


def find(kind: str, given: Sequence[str], stored: Sequence[tuple[str, Sequence[str]]]) -> list[str]:
    """Return the stored names that ``given`` stand for; ``stored`` holds each name with its other names.

    A name is looked for as it is, then without regard to case, then among the other names, which several things may
    share, of which one is the SHA-256 of a model's file. Raises UnknownName, InputError.
    """
    found: dict[str, None] = {}
    for name in given:
        folded = name.casefold()
        matching = (
            [own for own, _ in stored if own == name]
            or [own for own, _ in stored if own.casefold() == folded]
            or [own for own, also in stored if folded in {other.casefold() for other in also}]
        )
        if not matching and kind == "model" and os.path.isfile(name):
            try:
                digest = sha256_file(Path(name))
            except OSError as error:
                raise InputError(f"{name}: cannot be read: {error.strerror}; give the model's name instead") from error
            matching = [own for own, also in stored if digest in also]
        if not matching:
            others = {other: own for own, also in stored for other in (own, *also)}
            raise UnknownName.among(kind, name, others, place=" in this database", add="see icl status")
        found.update(dict.fromkeys(matching))
    return list(found)


def listed(names: str | Path | Sequence[str | Path] | None) -> list[str]:
    """Return one name or several as a list of texts, empty for None."""
    return [str(names)] if isinstance(names, str | Path) else [str(name) for name in names or ()]
