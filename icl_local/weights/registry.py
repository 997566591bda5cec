"""Names of models, and the file behind a name: a path, a registry entry, a file of another program or of the hub.

A registry entry is a family at one size; the method and ``dpo`` pick its variant. A plain .gguf path is its own
model. The built-in entries are models/registry.toml; a user's file overrides them, variant by variant.
"""

import contextlib
import importlib.util
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from icl_local import toml_file
from icl_local.exceptions import ConfigError, MissingExtra, ModelError, UnknownName
from icl_local.files import PRIVATE, write_file
from icl_local.identity import key_of
from icl_local.operating_system import locked
from icl_local.resources import read_text
from icl_local.weights import found, hub
from icl_local.weights.checksum import OnBytes, sha256_of
from icl_local.weights.gguf_file import GgufInfo, read_info
from icl_local.wording import shell

COMPLETION, CHAT = "completion", "chat"  # kinds of methods
VARIANTS = ("base", "instruct", "base-dpo", "instruct-dpo")
DPO_DATASET = "trl-lib/ultrafeedback_binarized"
SMALL_PARAMETERS = 2_000_000_000  # the paper's border between its small and medium models
EMBEDDED = "embedded:"
# of raw.gguf_files, which are facts of the same name
_COLUMNS = ("bytes", "architecture", "quantization", "parameters", "context_length", "vocab_size", "add_bos")
_FAMILY_KEYS = {"label": str, "parameters": int, "licence": str, "untested": bool, **dict.fromkeys(VARIANTS, dict)}


@dataclass(frozen=True)
class VariantSpec:
    """The file of one variant (``gguf``), or the source it can be made from; see models/registry.toml for the keys."""

    gguf: str | None = None
    stands_in: bool = False
    checkpoint: str | None = None
    trained_from: str | None = None
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class FamilySpec:
    """A registry entry: ``label`` as printed, ``parameters`` of the base model (None unknown), variants by name.

    ``licence`` as the hub names it. ``untested``: this project has not run its weights.
    """

    name: str
    label: str
    parameters: int | None = None
    variants: Mapping[str, VariantSpec] = field(default_factory=dict)
    licence: str | None = None
    untested: bool = False

    def commands(self, variant: str) -> str:
        """Return the commands that make a variant's file, and the one that registers it; one line."""
        spec = self.variants[variant]
        folder = shell(f"{self.name}-{variant}")
        file = shell(f"{self.name}-{variant}.gguf")
        add = f"icl models add {shell(self.name)} --{variant} {file}"
        if spec.checkpoint is not None:
            return f"icl convert {spec.checkpoint} --out {file} && {add}"
        if spec.trained_from is not None:
            dpo = f"icl dpo --base {spec.trained_from} --dataset {DPO_DATASET} --out {folder}"
            return f"{dpo} && icl convert {folder} --out {file} && {add}"
        return add


@dataclass(frozen=True, kw_only=True)
class NamedModel:
    """A model by label, variant and dpo, wherever its weights are.

    ``parameters`` is None if it is unknown. ``notes``: what a reader of its responses should know.
    """

    label: str
    variant: str
    dpo: bool
    parameters: int | None = None
    registry_name: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def model_id(self) -> str:
        """Return the key of the model in any file: label, variant and dpo."""
        return key_of(kind="model", label=self.label, variant=self.variant, dpo=self.dpo)

    def model_row(self) -> dict[str, object]:
        """Return the row of raw.models; size_class divides the models as the paper does."""
        small = None if self.parameters is None else self.parameters < SMALL_PARAMETERS
        return {
            "model_id": self.model_id,
            "label": self.label,
            "variant": self.variant,
            "dpo": self.dpo,
            "parameters": self.parameters,
            "size_class": None if small is None else "small" if small else "medium",
            "registry_name": self.registry_name,
        }


@dataclass(frozen=True, kw_only=True)
class ResolvedModel(NamedModel):
    """A model file ready to be run. ``variant`` is the part it plays.

    ``source`` is file, embedded, hf:...@commit, or its name in another program.
    """

    path: Path
    info: GgufInfo
    sha256: str
    source: str

    @property
    def file_name(self) -> str:
        """Return the file's name without its folders; for a file that Ollama names by its digest, Ollama's name."""
        return self.source.removeprefix("ollama:") if self.source.startswith("ollama:") else self.path.name

    @property
    def name(self) -> str:
        """Return the name of the registry or of another program, which opens the model again; else the file's name."""
        return self.registry_name or (self.source if found.is_name(self.source) else self.path.name)

    def file_row(self) -> dict[str, object]:
        """Return the row of raw.gguf_files, without the user's folders."""
        return {
            "gguf_sha256": self.sha256,
            "file_name": self.file_name,
            "source": self.source,
            **{name: getattr(self.info, name) for name in _COLUMNS},
            "has_chat_template": self.info.chat_template is not None,
            "conversion_id": self.info.metadata.get("icl.conversion_id"),
            "vocab_sha256": self.info.vocab_sha256,
        }


def variant_of(method_kind: str, *, dpo: bool = False) -> str:
    """Return the variant of a family that a method of this kind runs: base, instruct, base-dpo or instruct-dpo."""
    variant = "instruct" if method_kind == CHAT else "base"
    return f"{variant}-dpo" if dpo else variant


def user_models_file() -> Path:
    """Return the user's registry: ICL_MODELS_FILE, else models.toml in the user's configuration folder."""
    if given := os.environ.get("ICL_MODELS_FILE"):
        return Path(given)
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "icl-local" / "models.toml"


def load_registry() -> dict[str, FamilySpec]:
    """Return all entries by name: the built-in ones, each overridden by its entry in the user's file.

    Raises ConfigError if a file cannot be read or holds an unknown key.
    """
    path, families = user_models_file(), dict(_built_in())
    return families | _parse(_user_tables(path), str(path), path.parent, known=families)


@cache
def _built_in() -> Mapping[str, FamilySpec]:
    file = "models/registry.toml"
    return _parse(toml_file.parse(read_text("models", "registry.toml"), file), file, Path())


def resolve(
    name: str,
    *,
    method_kind: str,
    dpo: bool = False,
    on_progress: OnBytes | None = None,
) -> ResolvedModel:
    """Return the model of ``name`` for a method of kind COMPLETION (its base) or CHAT (its instruct variant).

    ``name`` is hf:owner/repo/file.gguf[@revision], a name of another program (found.py), a registry name, or a path.
    Raises UnknownName, ConfigError (no such variant, or no file yet: the message says how to make one), ModelError,
    HubError.
    """
    families = {} if _is_reference(name) else load_registry()
    variant = variant_of(method_kind)
    if name in families:
        model = _from_family(families[name], variant, dpo, on_progress)
    elif _is_reference(name) or name.endswith(".gguf") or os.sep in name or Path(name).is_file():
        model = _open(name, variant, dpo=dpo, on_progress=on_progress)
    else:
        held = {spelling: one.name for one in found.found_models() for spelling in (found.label(one.name), one.name)}
        add = "or give a .gguf file or hf:owner/repo/file.gguf; icl models list shows all"
        raise UnknownName.among("model", name, {one: one for one in families} | held, add=add)
    if method_kind == CHAT and model.info.chat_template is None:
        raise ModelError(
            f"{model.path}: holds no chat template, so it cannot answer as an instruct model; give an instruct file, "
            "or use zero-shot or urial"
        )
    return model


def by_sha256(sha256: str, name: str, n_bytes: int | None = None, *, files: Sequence[str | Path] = ()) -> ResolvedModel:
    """Return the file with these weights among ``files``, ``name`` in this folder, the registry's, other programs'.

    ``files``: paths and names of files. ``n_bytes``: files of another size are not read. Raises ModelError if there is
    none.
    """
    for path in _candidates(files, name):
        if path is None or not path.is_file() or n_bytes not in (None, path.stat().st_size):
            continue
        with contextlib.suppress(OSError):  # what cannot be read may belong to another program's user
            if sha256_of(path) == sha256:
                return _open(str(path))
    raise ModelError(f"no file here holds the weights of {name} (SHA-256 {sha256}); give it with --weights FILE")


def _candidates(files: Sequence[str | Path], name: str) -> Iterator[Path | None]:
    for file in map(str, files):
        path = found.find(file).file() if found.is_name(file) else Path(file)
        read_info(path)
        yield path
    yield Path(name)
    for family in load_registry().values():
        yield from map(local_path, family.variants.values())
    for one in found.found_models():
        yield one.path


def variant_spec(model: str, variant: str) -> VariantSpec | None:
    """Return the variant of a registry entry, None if there is none."""
    family = load_registry().get(model)
    return family.variants.get(variant) if family else None


def local_path(spec: VariantSpec) -> Path | None:
    """Return the path of the variant's file on this disk, None if it is not here; asks no server."""
    if spec.gguf is None:
        return None
    if spec.gguf.startswith("hf:"):
        return hub.cached(spec.gguf)
    if found.is_name(spec.gguf):
        return next((one.path for one in found.found_models() if one.name == spec.gguf), None)
    path = _embedded(spec.gguf) if spec.gguf.startswith(EMBEDDED) else Path(spec.gguf)
    return path if path is not None and path.is_file() else None


def state(spec: VariantSpec) -> str:
    """Return here | to fetch | to make | not installed (the embedded one) | missing (a path without a file)."""
    if local_path(spec) is not None:
        return "here"
    if spec.gguf is None:
        return "to make"
    if spec.gguf.startswith("hf:"):
        return "to fetch"
    return "not installed" if spec.gguf.startswith(EMBEDDED) else "missing"


def to_fetch(model: str, variant: str) -> str | None:
    """Return the file of the hub that has to be downloaded for a model, None if none has to."""
    spec = VariantSpec(model) if model.startswith("hf:") else variant_spec(model, variant)
    return spec.gguf if spec is not None and state(spec) == "to fetch" else None


def entry_of(source: str) -> tuple[str, str] | None:
    """Return the name and the variant of the entry that is ``source``, None if there is none.

    ``source``: hf:owner/repo@revision of a checkpoint, or a GGUF file's name, as a training run records its base.
    """
    repository = source.removeprefix("hf:").partition("@")[0]
    for family in load_registry().values():
        for variant, spec in family.variants.items():
            if repository == spec.checkpoint or (spec.gguf is not None and Path(spec.gguf).name == source):
                return family.name, variant
    return None


def printed_name(model: str) -> str:
    """Return the label of a model's rows, also if its file is not on this machine."""
    family = load_registry().get(model)
    if family is not None:
        return family.label
    return found.label(model) if found.is_name(model) else Path(model).stem


def hub_sources(name: str) -> list[str]:
    """Return the hf: references of a registry entry, or ``name`` if it is one. Raises ConfigError if there is none."""
    family = load_registry().get(name)
    sources = [name] if family is None else [spec.gguf for spec in family.variants.values() if spec.gguf]
    remote = [source for source in sources if source.startswith("hf:")]
    if not remote:
        raise ConfigError(f"{name} names no file of the hub; see: icl models show {shell(name)}")
    return remote


def add(name: str, *, files: Mapping[str, str], label: str | None = None) -> Path:
    """Write ``files`` (variant -> path or hf: reference) under ``name`` into the user's registry; return its path.

    Files are checked first; other entries are kept. Raises ConfigError or ModelError.
    """
    path = user_models_file()
    if not name or name != name.strip() or any(c in name for c in "/\\:,") or name.endswith(".gguf"):
        raise ConfigError(f"{name!r} cannot be a model's name: no /, \\, : or comma, and not ending in .gguf")
    if not files:
        raise ConfigError(f"nothing to add for {name}: give at least one file, such as --base FILE.gguf")
    written = {}
    for variant, given in files.items():
        if variant not in VARIANTS:
            raise ConfigError(f"{variant!r} is not a variant; there are {', '.join(VARIANTS)}")
        if not given.startswith("hf:"):
            held = found.is_name(given)
            info = read_info(found.find(given).file() if held else Path(given).expanduser())
            if variant.startswith("instruct") and info.chat_template is None:
                raise ModelError(f"{given}: holds no chat template, so it cannot be the {variant} file of {name}")
            given = given if held else str(info.path.resolve())
        written[variant] = {"gguf": given}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.with_name(f"{path.name}.lock")):
            load_registry()  # an unreadable registry is not overwritten
            tables = _user_tables(path)
            tables[name] = {**tables.get(name, {}), **written, **({} if label is None else {"label": label})}
            write_file(path, _toml(tables), mode=PRIVATE, sync=True)
    except (OSError, UnicodeEncodeError) as error:  # the second: a file name that is not UTF-8
        reason = error.strerror if isinstance(error, OSError) else "a name in it is not UTF-8"
        raise ConfigError(f"{path}: cannot be written ({reason}); set ICL_MODELS_FILE") from error
    return path


def _from_family(family: FamilySpec, variant: str, dpo: bool, on_progress: OnBytes | None) -> ResolvedModel:
    name = f"{variant}-dpo" if dpo else variant
    spec = family.variants.get(name)
    if spec is None:
        raise ConfigError(
            f"{family.name} has no {name} variant, only {', '.join(family.variants)}; add one with: "
            f"icl models add {shell(family.name)} --{name} FILE.gguf"
        )
    if spec.gguf is None:
        also = f"; or use one made by others: --model {spec.also[0]}" if spec.also else ""
        raise ConfigError(f"no file for {family.name} ({name}) yet; make it: {family.commands(name)}{also}")
    return _open(spec.gguf, variant, label=family.label, dpo=dpo, registry_name=family.name, on_progress=on_progress)


def _embedded(reference: str) -> Path | None:
    """Return the .gguf file in an installed package's folder; the package is found and not imported."""
    try:
        spec = importlib.util.find_spec(reference.removeprefix(EMBEDDED))
    except (ImportError, ValueError):  # a parent package is missing, or it is not a name
        return None
    folders = spec.submodule_search_locations if spec is not None else None
    return next((file for folder in folders or () for file in sorted(Path(folder).glob("*.gguf"))), None)


def _open(
    reference: str,
    variant: str = "base",
    *,
    label: str | None = None,
    dpo: bool = False,
    registry_name: str | None = None,
    on_progress: OnBytes | None = None,
) -> ResolvedModel:
    held, digest = None, None
    path, source = Path(reference).expanduser(), "file"
    if found.is_name(reference):
        held = found.find(reference)
        path, source = held.file(), held.name
    elif reference.startswith("hf:"):
        fetched = hub.fetch(reference, on_progress=on_progress)
        path, source, digest = fetched.path, str(fetched.address), fetched.sha256
    elif reference.startswith(EMBEDDED):
        embedded, source = _embedded(reference), "embedded"
        if embedded is None:
            raise MissingExtra("demo", reference.removeprefix(EMBEDDED).replace("_", "-"))
        path = embedded
    info = read_info(path)
    own_label = None if held is None else found.label(held.name)
    try:
        digest = digest or sha256_of(path, name=own_label, on_progress=on_progress)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from error
    if held is not None:
        held.check(digest)
    return ResolvedModel(
        path=path,
        info=info,
        sha256=digest,
        source=source,
        label=label or own_label or path.stem,
        variant=variant,
        dpo=dpo or info.metadata.get("icl.dpo") is True,  # `icl convert` writes it into a trained model
        parameters=info.parameters,
        registry_name=registry_name,
        notes=held.notes if held else (),
    )


def _is_reference(text: str) -> bool:
    """Return whether a text names a file of the hub or of another program, so not a path or a registry entry."""
    return text.startswith("hf:") or found.is_name(text)


def _user_tables(path: Path) -> dict[str, Any]:
    """Return the user's entries as written; none without a file."""
    return toml_file.load(path) if os.path.lexists(path) else {}


def _parse(
    tables: Mapping[str, Any], file: str, folder: Path, known: Mapping[str, FamilySpec] | None = None
) -> dict[str, FamilySpec]:
    """Return the entries of one file; an entry that is in ``known`` keeps what the file does not say."""
    families = {}
    for name, table in toml_file.check(dict.fromkeys(tables, dict), tables, file).items():
        given = toml_file.check(_FAMILY_KEYS, table, f"{file}: [{name}]")
        base = (known or {}).get(name) or FamilySpec(name, name)
        variants = dict(base.variants)
        for variant in VARIANTS:
            if variant in given:
                kept = variants.get(variant, VariantSpec())
                variants[variant] = _variant(given[variant], f"{file}: [{name}.{variant}]", folder, kept)
        family = replace(base, variants=variants, **{k: v for k, v in given.items() if k not in VARIANTS})
        if not family.label:
            raise ConfigError(f"{file}: [{name}]: label must be a text")
        if family.parameters is not None and family.parameters <= 0:
            raise ConfigError(f"{file}: [{name}]: parameters must be a number of weights")
        families[name] = family
    return families


def _variant(table: dict[str, object], file: str, folder: Path, kept: VariantSpec) -> VariantSpec:
    """Return ``kept`` with what the table says; a user's own file does not stand in for another unless it says so."""
    given = {"stands_in": False, **toml_file.check(VariantSpec, table, file)}
    gguf = given.get("gguf")
    if gguf is not None and not (_is_reference(gguf) or gguf.startswith(EMBEDDED)):
        given["gguf"] = str(folder / Path(gguf).expanduser())
    return replace(kept, **given)


def _toml(tables: Mapping[str, Mapping[str, object]]) -> str:
    """Return the user's entries as TOML; JSON's strings, numbers, lists and booleans are valid TOML."""
    lines = ["# Models of this user, for icl --model NAME. Written by `icl models add`, which keeps no comments."]
    for name, table in tables.items():
        lines += ["", f"[{_key(name)}]", *(f"{_key(key)} = {_value(value)}" for key, value in table.items())]
    return "\n".join(lines) + "\n"


def _key(name: str) -> str:
    return name if name.replace("-", "").replace("_", "").isalnum() and name.isascii() else _value(name)


def _value(value: object) -> str:
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{_key(key)} = {_value(one)}' for key, one in value.items())} }}"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
