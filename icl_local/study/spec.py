"""What a study asks for, from a TOML file: cells, query files, decoding, DPO steps, judges (form: docs/studies.md)."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from icl_local import prompting, resources
from icl_local.exceptions import ConfigError, UnknownName
from icl_local.prompting import JUST_EVAL, SAMPLES, QuerySet
from icl_local.running import Decoding, Shard, load_queries
from icl_local.weights import hub

_TABLES = {
    "cells": {"models": list, "methods": list, "languages": list, "dpo": bool},
    "dpo": {"model": str, "variant": str, "dataset": str, "type": str, "preset": str, "config": str, "limit": int},
    "judges": {"judge": str, "variant": str, "repeats": int},
}
_KEYS = {"title": str, "dataset": str, "n_queries": int, "sample": int, "limit": int, "seed": int}


@dataclass(frozen=True)
class Wanted:
    """A cell by its names; ``model`` as in --model."""

    model: str
    method: str
    language: str
    dpo: bool = False

    @property
    def label(self) -> str:
        """What a person reads."""
        return f"{self.model}{' DPO' if self.dpo else ''} · {self.method} · {self.language}"


@dataclass(frozen=True)
class Training:
    """A DPO step: the family's ``variant`` (base or instruct) is trained on ``dataset``, converted and registered."""

    model: str
    dataset: str
    variant: str = "base"
    type: str = "f16"
    preset: str | None = None
    config: str | None = None
    limit: int | None = None


@dataclass(frozen=True)
class JudgeSpec:
    """A judge as in --judge, its prompt variant, verdicts a response."""

    judge: str
    variant: str = "published"
    repeats: int = 1


@dataclass(frozen=True)
class Study:
    """What a file asks for. ``n_queries`` is expected of a language whose queries are not here yet."""

    name: str
    cells: tuple[Wanted, ...]
    queries: Mapping[str, str]
    title: str = ""
    dataset: str | None = None
    n_queries: int | None = None
    sample: int | None = None
    limit: int | None = None
    seed: int = 0
    decoding: Decoding = field(default_factory=Decoding)
    trainings: tuple[Training, ...] = ()
    judges: tuple[JudgeSpec, ...] = ()
    folder: Path = Path()

    def query_set(self, language: str, *, shard: Shard | None = None, fetch: bool = False) -> QuerySet:
        """The queries of a language; ``fetch`` downloads Just-Eval where need be. Raises ConfigError, InputError."""
        source = self.queries.get(language)
        if source is None:
            raise ConfigError(f"no queries in {language!r}: give them with --queries {language}=FILE")
        if source == JUST_EVAL:
            path = hub.fetch_just_eval().path if fetch else hub.cached_just_eval()
            if path is None:
                raise ConfigError(f"no queries in {language!r}: icl data pull just-eval")
            source = str(path)
        elif source != SAMPLES:
            source = str(self.folder / Path(source).expanduser())
            if not Path(source).is_file():
                raise ConfigError(f"there is no query file {source}; give one with --queries {language}=FILE")
        (found,) = load_queries(
            [language],
            [source if source == SAMPLES else f"{language}={source}"],
            dataset=self.dataset,
            sample=self.sample,
            limit=self.limit,
            seed=self.seed,
            shard=shard,
        )
        return found


def names() -> list[str]:
    """Built-in studies."""
    return [name.removesuffix(".toml") for name in resources.names("models", "studies", suffix=".toml")]


def load_study(name: str, *, queries: Mapping[str, str] | None = None, **changes: Any) -> Study:
    """The built-in study ``name``, or a .toml file; ``queries`` (language -> file) and ``changes`` override it.

    Raises UnknownName, ConfigError naming file and key.
    """
    folder = Path()
    if name in names():
        text, where = resources.read_text("models", f"studies/{name}.toml"), f"models/studies/{name}.toml"
    elif name.endswith(".toml"):
        where, folder = name, Path(name).parent
        try:
            text = Path(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{name}: cannot be read ({error})") from error
        name = Path(name).stem
    else:
        raise UnknownName(f"no study is called {name!r}; there are {', '.join(names())}, or give a .toml file")
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{where}: not valid TOML: {error}") from error
    study = _parse(data, name, where, folder)
    given = {language: str(Path(file).resolve()) if file not in (SAMPLES, JUST_EVAL) else file
             for language, file in (queries or {}).items()}  # fmt: skip
    kept = {key: value for key, value in changes.items() if value is not None}
    return Study(**{**vars(study), "queries": {**study.queries, **given}, **kept})


def _parse(data: dict[str, Any], name: str, where: str, folder: Path) -> Study:
    for key, value in data.items():
        kind = _KEYS.get(key) or (list if key in _TABLES else dict if key in ("queries", "decoding") else None)
        if kind is None:
            there_are = ", ".join([*_KEYS, "queries", "decoding", *_TABLES])
            raise ConfigError(f"{where}: unknown key {key!r}; there are {there_are}")
        if not isinstance(value, kind):
            raise ConfigError(f"{where}: {key} must be a {kind.__name__}, it is {value!r}")
    tables = {key: [_entry(entry, key, where) for entry in data.get(key, [])] for key in _TABLES}
    cells = tuple(
        dict.fromkeys(
            Wanted(model, method, language, entry.get("dpo", False))
            for entry in tables["cells"]
            for model in entry["models"]
            for method in entry["methods"]
            for language in entry["languages"]
        )
    )
    if not cells:
        raise ConfigError(f"{where}: has no [[cells]] with models, methods and languages")
    known = prompting.methods()
    if unknown := {one.method for one in cells} - known.keys():
        raise ConfigError(f"{where}: no method {min(unknown)!r}; there are {', '.join(known)}")
    decoding = data.get("decoding", {})
    if odd := decoding.keys() - {f.name for f in fields(Decoding)}:
        raise ConfigError(f"{where}: [decoding] has the unknown key {min(odd)!r}")
    return Study(
        name=name,
        cells=cells,
        queries=data.get("queries", {}),
        decoding=Decoding(**decoding),
        trainings=tuple(Training(**entry) for entry in tables["dpo"]),
        judges=tuple(JudgeSpec(**entry) for entry in tables["judges"]),
        folder=folder,
        **{key: data[key] for key in _KEYS if key in data},
    )


def _entry(entry: object, table: str, where: str) -> dict[str, Any]:
    keys = _TABLES[table]
    if not isinstance(entry, dict):
        raise ConfigError(f"{where}: {table} must be tables, each begun with [[{table}]]")
    for key, value in entry.items():
        if key not in keys:
            raise ConfigError(f"{where}: [[{table}]] has the unknown key {key!r}; there are {', '.join(keys)}")
        if not isinstance(value, keys[key]):
            raise ConfigError(f"{where}: [[{table}]] {key} must be a {keys[key].__name__}, it is {value!r}")
    needed = {"cells": ("models", "methods", "languages"), "dpo": ("model", "dataset"), "judges": ("judge",)}[table]
    if lacking := [key for key in needed if key not in entry]:
        raise ConfigError(f"{where}: [[{table}]] lacks {', '.join(lacking)}")
    return entry
