"""Models that other programs hold on this machine, by the names of docs/models.md; found without their servers.

A file that llama.cpp cannot run alone is found too, with the reason. Files are not opened here. hub.py opens the names
of the hub, and fetches what is not in its cache.
"""

import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icl_local.exceptions import ModelError, UnknownName
from icl_local.files import json_object

OLLAMA_SERVICE = Path("/usr/share/ollama/.ollama/models")  # home of the user that runs it on Linux
_LATER_PART = re.compile(r"-(?!00001)\d{5}-of-\d{5}\.gguf")  # of a model split into several files
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
# Kinds of layers in Ollama's manifests that say how Ollama prompts the model; they are not used here.
_OVERRIDES = {"template": "template", "prompt": "template", "system": "system text", "params": "parameters",
              "messages": "messages"}  # fmt: skip


@dataclass(frozen=True)
class FoundModel:
    """A model of another program. ``path`` is None if it has no file that can be run, and ``problem`` says why.

    ``sha256``: the digest by which Ollama names the file. ``notes``: what it does and a run does not.
    """

    name: str
    path: Path | None
    problem: str | None = None
    sha256: str | None = None
    notes: tuple[str, ...] = ()

    def file(self) -> Path:
        """Return the path. Raises ModelError if there is no file that can be run."""
        if self.path is None:
            raise ModelError(f"{self.name}: {self.problem}")
        return self.path

    def check(self, sha256: str) -> None:
        """Raise ModelError if the file's bytes are not those that Ollama names."""
        if self.sha256 not in (None, sha256):
            pull = f"ollama pull {self.name.removeprefix('ollama:')}"
            raise ModelError(f"{self.name}: the file is damaged, its SHA-256 is not the one in its name; run: {pull}")


def is_name(name: str) -> bool:
    """Return whether ``name`` is one of another program; those of the hub are hub.py's."""
    return ":" in name and name.partition(":")[0] in PROGRAMS.keys() - {"hf"}


def label(name: str) -> str:
    """Return the printed name of a model of another program: what is after the last slash, without .gguf."""
    return name.partition(":")[2].rpartition("/")[2].removesuffix(".gguf")


def find(name: str) -> FoundModel:
    """Return the model of a name; Ollama's tag is ``latest`` if it is left out. Raises UnknownName with the nearest."""
    known = {one.name: one for one in found_models(name.partition(":")[0])}
    for spelling in (name, f"{name}:latest"):
        if spelling in known:
            return known[spelling]
    raise UnknownName.among("model", name, list(known), place=" on this machine", add="icl models list shows all")


def found_models(program: str | None = None) -> list[FoundModel]:
    """Return the models of all programs, or of ``program``: ollama, lmstudio, llama.cpp or hf."""
    chosen = PROGRAMS.values() if program is None else [PROGRAMS[program]]
    by_name: dict[str, FoundModel] = {}
    for models in chosen:
        for one in models():
            by_name.setdefault(one.name, one)  # a user's own before the service's
    return list(by_name.values())


def _ollama() -> Iterator[FoundModel]:
    own = os.environ.get("OLLAMA_MODELS")
    for folder in (Path(own) if own else Path.home() / ".ollama" / "models", OLLAMA_SERVICE):
        for path in _files(folder / "manifests", "*/*/*/*"):
            host, namespace, model, tag = path.parts[-4:]
            place = f"{host}/{namespace}/" if host != "registry.ollama.ai" else f"{namespace}/"
            yield _ollama_model(
                f"ollama:{place.removeprefix('library/')}{model}:{tag}", json_object(path), folder / "blobs"
            )


def _ollama_model(name: str, manifest: dict[str, Any], blobs: Path) -> FoundModel:
    """Return the model of a manifest; its layers are files in ``blobs``, named by their digests."""
    layers = manifest.get("layers")
    again = f"run: ollama pull {name.removeprefix('ollama:')}"
    if not isinstance(layers, list):
        return FoundModel(name, None, f"its manifest cannot be read; {again}")
    kinds: dict[str, list[dict[str, Any]]] = {}
    for layer in layers:
        if isinstance(layer, dict):
            kinds.setdefault(str(layer.get("mediaType")).rpartition(".image.")[2], []).append(layer)
    files = kinds.get("model", [])
    digest = _DIGEST.fullmatch(str(files[0].get("digest"))) if files else None
    if "adapter" in kinds:
        return FoundModel(name, None, "a LoRA adapter over another model; merge it and convert the result")
    if digest is None:
        return FoundModel(name, None, "holds no GGUF file: a model of Ollama's cloud, or of another format")
    if len(files) > 1:
        return FoundModel(name, None, f"split into {len(files)} files; use a model of one file")
    path = blobs / f"sha256-{digest[1]}"
    if not os.path.isfile(path) or files[0].get("size") not in (None, path.stat().st_size):
        return FoundModel(name, None, f"its file is not here or incomplete; {again}")
    own = ", ".join(dict.fromkeys(words for kind, words in _OVERRIDES.items() if kind in kinds))
    note = f"{name} runs without Ollama's own {own}; chat template and stop tokens are the GGUF file's"
    return FoundModel(name, path, sha256=digest[1], notes=(note,) if own else ())


def _lm_studio() -> Iterator[FoundModel]:
    home = Path.home()
    try:
        own = Path((home / ".lmstudio-home-pointer").read_text(encoding="utf-8").strip())
    except (OSError, ValueError):
        own = home / ".lmstudio"
    folders = [own / "models", home / ".lmstudio" / "models", home / ".cache" / "lm-studio" / "models"]
    if chosen := json_object(own / "settings.json").get("downloadsFolder"):
        folders.insert(0, Path(str(chosen)))
    for folder in dict.fromkeys(folders):
        for path in _files(folder, "*/*/*.gguf"):
            yield FoundModel("lmstudio:" + "/".join(path.parts[-3:]), path)


def _llama_cpp() -> Iterator[FoundModel]:
    own = os.environ.get("LLAMA_CACHE")
    mac = Path.home() / "Library" / "Caches"
    caches = mac if sys.platform == "darwin" else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    for path in _files(Path(own) if own else caches / "llama.cpp", "*.gguf"):
        yield FoundModel(f"llama.cpp:{path.name}", path)
    if own:
        yield from _snapshots(Path(own), "llama.cpp:")


def _hub() -> Iterator[FoundModel]:
    from huggingface_hub import constants

    yield from _snapshots(Path(constants.HF_HUB_CACHE), "hf:")


def _snapshots(folder: Path, prefix: str) -> Iterator[FoundModel]:
    """Yield the GGUF files of a folder in the hub's layout; those outside ``main`` with their commit."""
    from huggingface_hub import CacheNotFound, scan_cache_dir

    try:
        repos = scan_cache_dir(folder).repos
    except (OSError, ValueError, CacheNotFound):
        return
    for repo in sorted(repos, key=lambda repo: repo.repo_id):
        for revision in sorted(repo.revisions, key=lambda revision: "main" not in revision.refs):
            at = "" if "main" in revision.refs else f"@{revision.commit_hash}"
            for path in sorted(file.file_path for file in revision.files):
                if path.suffix == ".gguf" and repo.repo_type == "model" and not _LATER_PART.search(path.name):
                    file = path.relative_to(revision.snapshot_path).as_posix()
                    yield FoundModel(f"{prefix}{repo.repo_id}/{file}{at}", path)


def _files(folder: Path, pattern: str) -> Iterator[Path]:
    """Yield the visible files of ``folder`` that match, sorted; none of a folder that cannot be read."""
    for path in sorted(folder.glob(pattern)):
        if not path.name.startswith(".") and not _LATER_PART.search(path.name) and os.path.isfile(path):
            yield path


PROGRAMS: dict[str, Callable[[], Iterator[FoundModel]]] = {
    "ollama": _ollama,
    "lmstudio": _lm_studio,
    "llama.cpp": _llama_cpp,
    "hf": _hub,
}
