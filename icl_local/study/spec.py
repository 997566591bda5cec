"""What a study asks for, from a TOML file: cells, query files, decoding, DPO steps, judges (form: docs/studies.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from icl_local import prompting, resources, toml_file
from icl_local.exceptions import ConfigError, UnknownName
from icl_local.prompting import JUST_EVAL, SAMPLES, QuerySet
from icl_local.running import Decoding, Shard, load_queries
from icl_local.weights import hub


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
class _Cells:
    """A [[cells]] table: every combination of its lists is a cell."""

    models: tuple[str, ...]
    methods: tuple[str, ...]
    languages: tuple[str, ...]
    dpo: bool = False


@dataclass(frozen=True)
class _File:
    """The form of a study file."""

    cells: tuple[_Cells, ...]
    title: str = ""
    queries: Mapping[str, str] = field(default_factory=dict)
    dataset: str | None = None
    n_queries: int | None = None
    sample: int | None = None
    limit: int | None = None
    seed: int = 0
    decoding: Decoding = field(default_factory=Decoding)
    dpo: tuple[Training, ...] = ()
    judges: tuple[JudgeSpec, ...] = ()


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
        file = f"models/studies/{name}.toml"
        data = toml_file.parse(resources.read_text("models", f"studies/{name}.toml"), file)
    elif name.endswith(".toml"):
        file, folder = name, Path(name).parent
        data = toml_file.load(Path(name))
        name = Path(name).stem
    else:
        raise UnknownName(f"no study is called {name!r}; there are {', '.join(names())}, or give a .toml file")
    study = _read(data, name, file, folder)
    given = {language: str(Path(file).resolve()) if file not in (SAMPLES, JUST_EVAL) else file
             for language, file in (queries or {}).items()}  # fmt: skip
    kept = {key: value for key, value in changes.items() if value is not None}
    return Study(**{**vars(study), "queries": {**study.queries, **given}, **kept})


def _read(data: dict[str, Any], name: str, file: str, folder: Path) -> Study:
    given = toml_file.build(_File, data, file)
    cells = tuple(
        dict.fromkeys(
            Wanted(model, method, language, entry.dpo)
            for entry in given.cells
            for model in entry.models
            for method in entry.methods
            for language in entry.languages
        )
    )
    known = prompting.methods()
    if unknown := {one.method for one in cells} - known.keys():
        raise ConfigError(f"{file}: no method {min(unknown)!r}; there are {', '.join(known)}")
    fields = {key: value for key, value in vars(given).items() if key not in ("cells", "dpo")}
    return Study(name=name, cells=cells, trainings=given.dpo, folder=folder, **fields)
