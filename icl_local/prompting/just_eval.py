"""Just-Eval-Instruct: 1,000 English queries, and its published translations, from the Hugging Face hub.

The first fetch of a language records the commit and the SHA-256 of its file; later ones take that commit and refuse
other bytes. A translation gets the tags (split, task, topic) of the English item with the same id. Where ids do not
match, lines pair up by their order if languages and lengths agree.
"""

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icl_local.cache import cache_folder, cache_path
from icl_local.detect import identify_language
from icl_local.exceptions import ConfigError, HubError, InputError
from icl_local.files import write_file
from icl_local.identity import sha256_file
from icl_local.operating_system import locked
from icl_local.prompting import json_items
from icl_local.prompting.json_items import JsonItem
from icl_local.weights import OnBytes, hub
from icl_local.wording import counted

NAME = "just-eval"
ENGLISH = "en"
FILES = {
    ENGLISH: "hf:re-align/just-eval-instruct/test_all_with_tags.jsonl",
    "es": "hf:Vicomtech/just-eval-instruct-es/data/instructions.jsonl",
    "fr": "hf:Vicomtech/just-eval-instruct-fr/data/instructions.jsonl",
    "eu": "hf:Vicomtech/just-eval-instruct-eu/data/instructions.jsonl",
}
_SAME_LANGUAGE = 0.8  # least share of the texts that are identified as in their language; short ones are misread
_SAME_LENGTHS = 0.6  # least correlation of the logarithms of the lengths, in every block of lines
_BLOCK = 100


@dataclass(frozen=True)
class Published:
    """Just-Eval in one language; ``source`` is hf:repository/file@commit, ``sha256`` that of the published ``path``."""

    language: str
    path: Path
    source: str
    sha256: str
    items: tuple[JsonItem, ...]

    def json_lines(self) -> str:
        """Return the items as a query file; the English one is the published file."""
        if self.language == ENGLISH:
            return self.path.read_text(encoding="utf-8")
        return "".join(json.dumps(item.data, ensure_ascii=False) + "\n" for item in self.items)


def fetch(language: str, *, on_progress: OnBytes | None = None) -> Published:
    """Return the published set, downloaded if it is not here. Raises ConfigError, HubError, InputError, DiskFull."""
    _require_published(language)
    path = _pins_file()
    for code in (language, ENGLISH):
        (file,) = hub.fetch_dataset(_address(code), (".jsonl",), on_progress=on_progress).files
        if code not in _pins():
            try:
                cache_folder()
                with locked(path.with_name(f"{path.name}.lock")):  # the first of two processes pins
                    write_file(path, json.dumps({code: _pin(file), **_pins()}, indent=1) + "\n")
            except OSError as error:
                raise HubError(f"{path}: cannot be written ({error.strerror}); set XDG_CACHE_HOME") from error
    return require(language)


def cached(language: str) -> Published | None:
    """Return the set in a language of FILES if it is on this disk; asks no server. Raises HubError, InputError."""
    english = _here(ENGLISH)
    own = english if language == ENGLISH else _here(language)
    if english is None or own is None:
        return None
    file, sha256 = own
    items = json_items.read_file(file.path)
    if language != ENGLISH:
        items = align(items, json_items.read_file(english[0].path), language=language, source=str(file.address))
    return Published(language, file.path, str(file.address), sha256, tuple(items))


def require(language: str) -> Published:
    """Return the published set from this disk. Raises ConfigError with the command that fetches it."""
    _require_published(language)
    if found := cached(language):
        return found
    raise ConfigError(f"just-eval in {language!r} is not on this disk; run: icl data pull just-eval --lang {language}")


def _require_published(language: str) -> None:
    if language not in FILES:
        raise ConfigError(
            f"just-eval is not published in {language!r}, only in {', '.join(FILES)}; give --queries {language}=FILE, "
            "or make a set with icl translate"
        )


def _here(language: str) -> tuple[hub.HubFile, str] | None:
    """Return a published file and its SHA-256 if it is on this disk.

    Raises HubError if it is not the file of the first download.
    """
    file = hub.cached_dataset_file(_address(language))
    if file is None:
        return None
    pin = _pin(file)
    if _pins().get(language, pin) != pin:
        raise HubError(
            f"{file.address}: is not the file of the first download; to use it from now on, delete {_pins_file()}"
        )
    return file, pin["sha256"]


def _address(language: str) -> str:
    pins = _pins()
    return f"{FILES[language]}@{pins[language]['commit']}" if language in pins else FILES[language]


def _pins_file() -> Path:
    return cache_path("just-eval.json")


def _pins() -> dict[str, dict[str, str]]:
    """Return {language: {commit, sha256}} of the first downloads. Raises HubError for a damaged file."""
    path = _pins_file()
    try:
        pins = json.loads(path.read_text(encoding="utf-8"))
        return {name: {"commit": str(pin["commit"]), "sha256": str(pin["sha256"])} for name, pin in pins.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise HubError(f"{path}: cannot be read; delete it and run again") from error


def _pin(file: hub.HubFile) -> dict[str, str]:
    return {"commit": str(file.address.revision), "sha256": sha256_file(file.path)}


def align(items: Sequence[JsonItem], english: Sequence[JsonItem], *, language: str, source: str) -> list[JsonItem]:
    """Return the English items, in their order, with the instructions of ``items``; ``source`` says where from.

    Raises InputError: no instruction, other ids or another number of lines, or lines that do not pair up.
    """
    texts = [item.text("instruction") for item in items]
    english_ids = [item.id() for item in english]
    ids = [str(item.data.get("id")) for item in items]
    if sorted(ids) == sorted(english_ids):
        by_id = dict(zip(ids, texts, strict=True))
        texts = [by_id[query_id] for query_id in english_ids]
    elif fault := _order_fault(texts, [item.text("instruction") for item in english], language):
        raise InputError(f"{source}: its ids are not Just-Eval's, and {fault}; give your own file with --queries")
    origin = {"language": language, "translation": {"from": ENGLISH, "source": source}}
    return [
        JsonItem(item.place, {**item.data, "instruction": text, **origin})
        for item, text in zip(english, texts, strict=True)
    ]


def _order_fault(texts: Sequence[str], english: Sequence[str], language: str) -> str | None:
    """Return why the lines do not pair up by their order, None if they do."""
    if len(texts) != len(english):
        return f"it has {counted(len(texts), 'line')} for {counted(len(english), 'query')}"
    if identify_language("The language of this text is found by an extra.") is None:
        return "its languages cannot be compared without the extra langid (pip install 'icl-local[langid]')"
    identified = sum(identify_language(text) == language for text in texts)
    if identified < _SAME_LANGUAGE * len(texts):
        return f"only {identified:,} of its {len(texts):,} texts are identified as {language}"
    for start in range(0, len(texts), _BLOCK):
        block = slice(start, start + _BLOCK)
        if _alike(texts[block], english[block]) < _SAME_LENGTHS:
            return f"its lines are not in the order of the queries: lengths differ from line {start + 1:,} on"
    return None


def _alike(texts: Sequence[str], english: Sequence[str]) -> float:
    """Return the correlation of the logarithms of the lengths."""
    lengths: list[list[Any]] = [[math.log(1 + len(text)) for text in each] for each in (texts, english)]
    try:
        return statistics.correlation(*lengths)
    except statistics.StatisticsError:  # fewer than two lines, or all of one length
        return 0.0
