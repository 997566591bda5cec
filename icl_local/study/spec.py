"""Study files: cells, query files, decoding, DPO steps and judges in TOML (form: docs/studies.md)."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_type_hints

from icl_local import prompting, resources, toml_file
from icl_local.exceptions import ConfigError, IclError, UnknownName
from icl_local.judging import check_judge
from icl_local.prompting import JUST_EVAL, SAMPLES, Pools, QuerySet, just_eval
from icl_local.running import Decoding, Shard, load_pools, load_queries
from icl_local.weights import registry
from icl_local.wording import with_dpo


@dataclass(frozen=True)
class StudyCell:
    """A cell by its names; ``model`` as in --model."""

    model: str
    method: str
    language: str
    dpo: bool = False

    @property
    def label(self) -> str:
        """Return model, method and language for people."""
        return f"{with_dpo(self.model, self.dpo)} · {self.method} · {self.language}"


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
    """A judge as in --judge, its prompt variant, and verdicts a response. Raises ConfigError for another value."""

    judge: str
    variant: str = "published"
    repeats: int = 1

    def __post_init__(self) -> None:
        check_judge(self.judge, self.variant)
        if self.repeats < 1:
            raise ConfigError(f"repeats must be 1 or more, not {self.repeats}")

    @property
    def label(self) -> str:
        """Return the judge's name for people, with its prompt variant unless that is the published one."""
        return self.judge if self.variant == "published" else f"{self.judge} ({self.variant})"

    def to_fetch(self) -> str | None:
        """Return the file of the hub that has to be downloaded for a local judge, None if none has to."""
        return registry.to_fetch(self.judge.removeprefix("local:"), "instruct")


@dataclass(frozen=True)
class Source:
    """The queries of a language: ``file`` as in --queries, ``map`` (field -> column) as in --map."""

    file: str
    map: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Study:
    """The content of a study file. ``n_queries`` is expected of a language whose queries are not here yet.

    ``pools``: the examples of its [pools], for methods with pool=NAME. ``prompt_dir``: prompt files that take
    precedence over the built-in ones.
    """

    name: str
    cells: tuple[StudyCell, ...]
    queries: Mapping[str, Source] = field(default_factory=dict)
    title: str = ""
    dataset: str | None = None
    n_queries: int | None = None
    sample: int | None = None
    limit: int | None = None
    seed: int = 0
    decoding: Decoding = field(default_factory=Decoding)
    trainings: tuple[Training, ...] = ()
    judges: tuple[JudgeSpec, ...] = ()
    pools: Pools = field(default_factory=dict)
    prompt_dir: Path | None = None

    def kind(self, cell: StudyCell) -> str:
        """Return the kind of a cell's method: completion or chat."""
        return prompting.method_spec(cell.method, overlay=self.prompt_dir).kind

    def variant(self, cell: StudyCell) -> str:
        """Return the variant of a family that the cell runs: base, instruct, base-dpo or instruct-dpo."""
        return registry.variant_of(self.kind(cell), dpo=cell.dpo)

    def query_sets(self, *, shard: Shard | None = None, fetch: bool = False) -> dict[str, QuerySet | IclError]:
        """Return the queries of each language of the cells, or why there are none; ``fetch`` downloads Just-Eval."""
        sets: dict[str, QuerySet | IclError] = {}
        for language in dict.fromkeys(cell.language for cell in self.cells):
            source = self.queries.get(language)
            try:
                if source is not None and source.file == JUST_EVAL and fetch:
                    just_eval.fetch(language)
                (sets[language],) = load_queries(
                    [language],
                    [] if source is None else [f"{language}={source.file}"],
                    dataset=self.dataset,
                    sample=self.sample,
                    limit=self.limit,
                    seed=self.seed,
                    shard=shard,
                    columns=None if source is None else source.map,
                    overlay=self.prompt_dir,
                )
            except IclError as error:
                sets[language] = error
        return sets


@dataclass(frozen=True)
class _Cells:
    """A [[cells]] table: every combination of its lists is a cell."""

    models: tuple[str, ...]
    methods: tuple[str, ...]
    languages: tuple[str, ...]
    dpo: bool = False


def names() -> list[str]:
    """Return the names of the built-in studies."""
    return resources.names("models", "studies", suffix=".toml")


def load_study(name: str, *, queries: Mapping[str, str] | None = None, **changes: Any) -> Study:
    """Return the built-in study ``name`` or that of a .toml file; ``queries`` (language -> file, without a map) and
    ``changes`` override it.

    Raises UnknownName, and ConfigError with file and key.
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
        raise UnknownName.among("study", name, names(), add="or give a .toml file")
    fields = _read(data, file, folder, changes.get("prompt_dir"))
    given = {language: Source(_at(Path.cwd(), source)) for language, source in (queries or {}).items()}
    if unused := given.keys() - {cell.language for cell in fields["cells"]}:
        raise ConfigError(
            f"--queries {min(unused)}=...: the study {name} has no cells in {min(unused)!r}; leave it out"
        )
    for language, source in given.items():
        if not (_is_named(source.file) or Path(source.file).is_file()):
            raise ConfigError(
                f"--queries {language}={source.file}: no such file; there are also {SAMPLES} and {JUST_EVAL}"
            )
    changes = {key: value for key, value in changes.items() if value is not None}
    parts = {"sample", "limit"}
    if parts & changes.keys():  # instead of either in the file
        fields = {key: value for key, value in fields.items() if key not in parts}
    fields |= changes
    if parts <= fields.keys():
        raise ConfigError(f"{file}: sample draws queries and limit takes the first ones; give one of them")
    return Study(name=name, **{**fields, "queries": fields["queries"] | given})


def _read(data: dict[str, Any], file: str, folder: Path, prompt_dir: Path | None) -> dict[str, Any]:
    """Return the fields of a study that its file gives, with every combination of [[cells]] once.

    ``prompt_dir`` stands in for the file's own.
    """
    form = {key: hint for key, hint in get_type_hints(Study).items() if key not in ("name", "trainings")}
    read = {"cells": tuple[_Cells, ...], "dpo": tuple[Training, ...], "pools": Mapping[str, str], "prompt_dir": str}
    if isinstance(plain := data.get("queries"), dict):
        sources = {language: one if isinstance(one, dict) else {"file": one} for language, one in plain.items()}
        data = {**data, "queries": sources}
    fields = toml_file.check({**form, **read}, data, file)
    queries = {language: replace(source, file=_at(folder, source.file))
               for language, source in fields.pop("queries", {}).items()}  # fmt: skip
    if not fields.get("cells"):
        raise ConfigError(f"{file}: has no [[cells]] with models, methods and languages")
    if prompt_dir is None and (own := fields.get("prompt_dir")):
        prompt_dir = folder / Path(own).expanduser()
        if not prompt_dir.is_dir():
            raise ConfigError(f"{file}: prompt_dir {own!r} is not a folder")
    try:
        pools = load_pools([f"{name}={_at(folder, pool)}" for name, pool in fields.pop("pools", {}).items()])
        cells = [
            StudyCell(model, recipe.method.name, language, group.dpo)
            for group in fields["cells"]
            for model, method, language in itertools.product(group.models, group.methods, group.languages)
            for recipe in prompting.expand([method], language, overlay=prompt_dir, pools=pools)
        ]
    except IclError as error:
        raise ConfigError(f"{file}: {error}") from error
    fields |= {"queries": queries, "cells": tuple(dict.fromkeys(cells)), "pools": pools, "prompt_dir": prompt_dir}
    return {"trainings": fields.pop("dpo", ()), **fields}


def _at(folder: Path, source: str) -> str:
    """Return a source of queries, a file's path from ``folder`` on."""
    return source if _is_named(source) else str(folder / Path(source).expanduser())


def _is_named(source: str) -> bool:
    """Return whether a source of queries is not a file on this disk."""
    return source in (SAMPLES, JUST_EVAL) or source.startswith("hf:")
