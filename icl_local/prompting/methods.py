"""Languages and methods: their files, and the parameters in brackets that replace keys of a method's file.

``urial[k=1]`` is urial with one example; ``urial[k=0..2,lang=en|es]`` stands for six methods. docs/lab.md has the rest.
"""

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_type_hints

from icl_local import resources, toml_file
from icl_local.exceptions import ConfigError, InputError, UnknownName
from icl_local.weights import CHAT, COMPLETION

# the texts that a method of a kind may name
TEXTS_OF_KIND = {COMPLETION: ("prefix", "block"), CHAT: ("system",)}

PARAMETERS = ("k", "order", "seed", "lang", "instruction", "pool", "own", "retrieve")
NO_INSTRUCTION = "none"
BM25 = "bm25"
MOST = 64  # methods that one list of names may stand for

_NAME = re.compile(r"([^\[\]]+)\[([^\[\]]*)\]")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


@dataclass(frozen=True)
class LanguageSpec:
    """A language: its names, the two headings of a query block, the strings at which an answer stops."""

    code: str
    name: str
    own_name: str
    query_heading: str
    answer_heading: str
    stops: tuple[str, ...]


@dataclass(frozen=True)
class Method:
    """The rule by which a query becomes a prompt.

    ``kind``: completion (raw text for a base model) or chat (the file's own template). ``prefix`` names the text before
    the query block, ``block`` the query block, ``system`` a chat's system message; ``{language}`` in a name is filled.

    The rest are the parameters of a completion method, whose examples are those of its prefix, or of ``pool``. ``k``:
    number of examples, None all; the last ones, or drawn by ``seed``, or the nearest to the query by ``retrieve``.
    ``order``: the permutation of the chosen, counted from 0. ``lang``: language of examples and headings, None the
    query's; ``instruction``: that of the text before them, or "none". ``own``: its own examples come before the pool's.
    """

    name: str
    kind: str
    description: str
    prefix: str | None = None
    block: str = "query_block.txt"
    system: str | None = None
    k: int | None = None
    order: int = 0
    seed: int | None = None
    lang: str | None = None
    instruction: str | None = None
    pool: str | None = None
    own: bool = False
    retrieve: str | None = None

    @property
    def base(self) -> str:
        """Return the name without parameters."""
        return self.name.partition("[")[0]

    @property
    def in_brackets(self) -> bool:
        """Return whether the name has parameters."""
        return "[" in self.name


def languages(overlay: Path | None = None) -> dict[str, LanguageSpec]:
    """Return every language that has a file, by code. Raises InputError for a file that cannot be used."""
    return {code: language_spec(code, overlay=overlay) for code in _names("languages", overlay)}


def methods(overlay: Path | None = None) -> dict[str, Method]:
    """Return every method that has a file, by name. Raises InputError for a file that cannot be used."""
    return {name: method_spec(name, overlay=overlay) for name in _names("methods", overlay)}


def language_spec(code: str, *, overlay: Path | None = None) -> LanguageSpec:
    """Return one language. Raises UnknownName, which lists the known ones, and InputError."""
    file, data = _toml("languages", code, overlay)
    return toml_file.build(LanguageSpec, data, file, error=InputError, code=code)


def method_spec(name: str, *, overlay: Path | None = None) -> Method:
    """Return one method, its parameters as they stand in ``name``, one value each.

    Raises UnknownName, which lists the known ones, InputError for its file and ConfigError for its parameters.
    """
    base, given = _parsed(name)
    file, data = _toml("methods", base, overlay)
    method = toml_file.build(Method, data, file, error=InputError, name=name)
    if method.kind not in TEXTS_OF_KIND:
        raise InputError(f'{file}: kind is {method.kind!r}; write "{COMPLETION}" or "{CHAT}"')
    unread = {"prefix", "block", "system"} - set(TEXTS_OF_KIND[method.kind])
    if wrong := (unread | set(PARAMETERS if method.kind == CHAT else ())) & data.keys():
        raise InputError(f"{file}: a {method.kind} method does not read {min(wrong)!r}; remove it")
    if not given:
        return method
    if method.kind == CHAT:
        raise ConfigError(f"{name}: {base} is a chat method, which has no parameters; write {base}")
    form = {key: hint for key, hint in get_type_hints(Method).items() if key in PARAMETERS}
    typed = {key: text if form.get(key) == str | None else _typed(text) for key, text in given.items()}
    return replace(method, **toml_file.check(form, typed, name))


def combinations(name: str) -> list[str]:
    """Return a name for each combination of the values in ``name``; the value ``*`` stays. Raises ConfigError."""
    base, given = _parsed(name)
    values = [[(key, one) for one in _values(name, text)] for key, text in given.items()]
    return [written(base, dict(chosen)) for chosen in itertools.product(*values)]


def written(base: str, parameters: Mapping[str, str]) -> str:
    """Return the name of a method with these parameters."""
    inside = ",".join(f"{key}={text}" for key, text in parameters.items())
    return f"{base}[{inside}]" if inside else base


def _parsed(name: str) -> tuple[str, dict[str, str]]:
    """Return the base of a name and its parameters. Raises ConfigError."""
    if "[" not in name and "]" not in name:
        return name, {}
    match = _NAME.fullmatch(name)
    parts = [part.partition("=") for part in match[2].split(",")] if match else []
    pairs = [(key.strip(), text.strip()) for key, _, text in parts]
    if match is None or not all(key and text for key, text in pairs) or len(dict(pairs)) < len(pairs):
        raise ConfigError(f"{name}: write NAME[KEY=VALUE,...], each key once, such as urial[k=1]")
    return match[1].strip(), dict(pairs)


def _typed(text: str) -> object:
    return int(text) if text.isdecimal() else {"yes": True, "true": True, "no": False, "false": False}.get(text, text)


def _values(name: str, text: str) -> list[str]:
    """Return the single values of ``a..b`` and ``a|b``."""
    found: list[str] = []
    for part in text.split("|"):
        match = _RANGE.fullmatch(part)
        first, last = (int(match[1]), int(match[2])) if match else (0, 0)
        if not first <= last < first + MOST:
            raise ConfigError(f"{name}: {part} is not a range of 1 to {MOST} values; write LOW..HIGH")
        found += map(str, range(first, last + 1)) if match else [part]
    return found


def _names(folder: str, overlay: Path | None) -> list[str]:
    return resources.names("prompts", folder, suffix=".toml", overlay=overlay)


def _toml(folder: str, name: str, overlay: Path | None) -> tuple[str, dict[str, Any]]:
    known = _names(folder, overlay)
    if name not in known:
        others = {one: one for one in known}
        if folder == "languages":
            others |= {str(_toml(folder, code, overlay)[1].get("name")): code for code in known}
        raise UnknownName.among(
            folder.removesuffix("s"),
            name,
            others,
            add=f"to add one, put {folder}/{name}.toml into a folder and give it as --prompt-dir (docs/prompts.md)",
        )
    file = f"{folder}/{name}.toml"
    return file, toml_file.parse(resources.read_text("prompts", file, overlay=overlay), file, error=InputError)
