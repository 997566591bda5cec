"""The exceptions of this package. Each message says in one line what is wrong and what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

_NAMES_LISTED = 20


class IclError(Exception):
    """Base of all expected errors; the command line prints the message on one line and exits with status 1."""


class ConfigError(IclError):
    """An option, a registry entry or a study file is invalid."""


class WrongUsage(ConfigError):
    """Options do not fit together; the command line exits with status 2."""


def refuse(wrong: Mapping[str, bool], about: str = "", *, error: type[ConfigError] = ConfigError) -> None:
    """Raise ``error`` with the first message of ``wrong`` that holds; ``about`` stands before it."""
    for message, holds in wrong.items():
        if holds:
            raise error(about + message)


def refuse_idle(reason: str, given: Mapping[str, bool]) -> None:
    """Raise WrongUsage that names the options given that would do nothing, for ``reason``."""
    idle = ", ".join(option for option, is_given in given.items() if is_given)
    refuse({f"{reason}; leave {idle} out": bool(idle)}, error=WrongUsage)


def did_you_mean(name: str, known: Collection[str]) -> str:
    """Return " (did you mean ...?)" with the nearest name of ``known``, in any case, "" if none is near.

    A mapping has other names of the same thing as keys.
    """
    others = known if isinstance(known, Mapping) else {one: one for one in known}
    nearest = difflib.get_close_matches(name.casefold(), [one.casefold() for one in others], n=1)
    guess = next((own for one, own in others.items() if [one.casefold()] == nearest), None)
    return f" (did you mean {guess}?)" if guess else ""


class UnknownName(ConfigError):
    """A name is not defined, or not stored: of a model, a method, a language, a field, a judge and so on."""

    @classmethod
    def among(cls, kind: str, name: str, known: Collection[str], *, place: str = "", add: str = "") -> UnknownName:
        """Return the error that lists the names of ``known`` and suggests the nearest.

        A mapping has other names of the same thing as keys. ``place``: where the names come from; ``add``: how to get
        one more.
        """
        names = list(dict.fromkeys(known.values() if isinstance(known, Mapping) else known))
        listed = ", ".join(names[:_NAMES_LISTED]) + (", ..." if len(names) > _NAMES_LISTED else "")
        return cls(
            f"no {kind} {name!r}{place}{did_you_mean(name, known)}; "
            f"there {'is' if len(names) == 1 else 'are'} {listed or 'none'}{f'; {add}' if add else ''}"
        )


class InputError(IclError):
    """A file cannot be read, where the message names file and line, or a request to a served page is wrong."""


class ModelError(IclError):
    """A GGUF file is invalid, damaged, or unsuitable for the task."""


class EngineError(ModelError):
    """llama.cpp refused the model or the batch, or its process ended."""


class HubError(IclError):
    """A download failed, is gated, or has a wrong checksum."""


class StoreError(IclError):
    """A database or spool cannot be opened, written or upgraded."""


class StoreLocked(StoreError):
    """Another process holds the database; rows are kept in the spool."""


class DiskFull(StoreError):
    """No space is left on the device; stored rows are kept."""


class ApiError(IclError):
    """An OpenAI-compatible server cannot continue: no key, no quota, no such model, no reply, or the cost limit."""


class JudgeError(IclError):
    """A judge cannot continue, or another process uses the same judge."""


class TrainingError(IclError):
    """A DPO run cannot start or continue."""


class ConversionError(IclError):
    """A checkpoint cannot be converted, or a file failed its parity gate."""


class TranslationError(IclError):
    """A translation engine cannot start or continue."""


class ClusterError(IclError):
    """A Ray cluster cannot be reached, or has no worker left."""


class MissingExtra(IclError):
    """An optional dependency is not installed; the message contains the pip command."""

    def __init__(self, extra: str, package: str) -> None:
        super().__init__(f"{package} is not installed; run: pip install 'icl-local[{extra}]'")


@contextmanager
def needs_extra(extra: str) -> Iterator[None]:
    """Raise MissingExtra if an import in the block fails."""
    try:
        yield
    except ImportError as error:
        raise MissingExtra(extra, error.name or extra) from None
