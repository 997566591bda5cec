"""Models of Ollama, LM Studio, llama.cpp and the hub's cache: folders in their formats, found without a server."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import gguf
import pytest
from click.testing import CliRunner

import icl_local
from icl_local import cli
from icl_local.exceptions import ModelError, UnknownName
from icl_local.weights import found, registry
from tests.tiny_model import build_tiny_gguf

HUB = "someone/tiny-GGUF"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home folder, with no variable that names another."""
    for name in ("OLLAMA_MODELS", "LLAMA_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ICL_MODELS_FILE", str(tmp_path / "models.toml"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr(found, "OLLAMA_SERVICE", tmp_path / "service")
    return tmp_path


class Ollama:
    """A folder of Ollama's models: manifests that name blobs by their digests."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "blobs").mkdir(parents=True)

    def blob(self, kind: str, data: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        (self.folder / "blobs" / f"sha256-{digest}").write_bytes(data)
        return {"mediaType": f"application/vnd.ollama.image.{kind}", "digest": f"sha256:{digest}", "size": len(data)}

    def manifest(self, path: str, *layers: dict[str, Any]) -> Path:
        """Write the manifest of ``path``, host/namespace/model/tag."""
        config = {
            **self.blob("config", b'{"model_format":"gguf"}'),
            "mediaType": "application/vnd.docker.container.image.v1+json",
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": config,
            "layers": list(layers),
        }
        file = self.folder / "manifests" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(manifest))
        return file


@pytest.fixture
def ollama(home: Path) -> Ollama:
    return Ollama(home / ".ollama" / "models")


def names(program: str) -> list[str]:
    return [one.name for one in found.found_models(program)]


def problem(name: str) -> str:
    return next(one.problem or "" for one in found.found_models() if one.name == name)


def listed() -> dict[str, list[str]]:
    """Return the rows of `icl models list` after their names."""
    done = CliRunner().invoke(cli.icl, ["models", "list", "--format", "json"], catch_exceptions=False)
    return {row["name"]: [row["variant"], row["state"], row["source"]] for row in json.loads(done.stdout)}


def test_a_machine_without_other_programs_holds_nothing() -> None:
    assert found.found_models() == []


def test_ollamas_models_have_the_names_that_it_prints(ollama: Ollama, byte_gguf: Path) -> None:
    weights = ollama.blob("model", byte_gguf.read_bytes())
    for path in (
        "registry.ollama.ai/library/tiny/1b",
        "registry.ollama.ai/someone/tiny/latest",
        "hf.co/someone/tiny-GGUF/Q4_K_M",
    ):
        ollama.manifest(path, weights)
    (ollama.folder / "manifests" / "registry.ollama.ai" / ".DS_Store").touch()
    assert set(names("ollama")) == {
        "ollama:tiny:1b",
        "ollama:someone/tiny:latest",
        "ollama:hf.co/someone/tiny-GGUF:Q4_K_M",
    }
    assert found.find("ollama:someone/tiny").name == "ollama:someone/tiny:latest"
    assert found.label("ollama:hf.co/someone/tiny-GGUF:Q4_K_M") == "tiny-GGUF:Q4_K_M"


def test_a_model_of_ollama_is_opened_as_a_file_with_a_note_on_its_own_settings(ollama: Ollama, byte_gguf: Path) -> None:
    data = byte_gguf.read_bytes()
    own = [ollama.blob(kind, kind.encode()) for kind in ("template", "system", "params", "license")]
    ollama.manifest("registry.ollama.ai/library/tiny/1b", ollama.blob("model", data), *own)
    model = registry.resolve("ollama:tiny:1b", method_kind="chat")
    assert model.sha256 == hashlib.sha256(data).hexdigest()
    assert (model.label, model.source, model.name) == ("tiny:1b", "ollama:tiny:1b", "ollama:tiny:1b")
    assert model.file_row()["file_name"] == "tiny:1b"
    (note,) = model.notes
    assert "without Ollama's own template, system text, parameters" in note
    assert registry.printed_name("ollama:tiny:1b") == model.label
    shown = CliRunner().invoke(cli.icl, ["models", "show", "ollama:tiny:1b", "--format", "csv"])
    assert note in shown.stdout


def test_models_of_ollama_and_lm_studio_are_listed_and_run(
    ollama: Ollama, home: Path, byte_gguf: Path, small_probe: None
) -> None:
    ollama.manifest("registry.ollama.ai/library/tiny/1b", ollama.blob("model", byte_gguf.read_bytes()))
    place = home / ".lmstudio" / "models" / "someone" / "tiny-GGUF"
    place.mkdir(parents=True)
    (place / "tiny.Q8_0.gguf").symlink_to(byte_gguf)
    held = ["ollama:tiny:1b", "lmstudio:someone/tiny-GGUF/tiny.Q8_0.gguf"]
    listed = CliRunner().invoke(cli.icl, ["models", "list", "--format", "csv"]).stdout
    assert all(name in listed for name in held)
    db = home / "r.duckdb"
    for max_tokens, name in enumerate(held, start=4):  # the same weights: other settings make other responses
        made = icl_local.run(db, model=name, queries="samples", limit=2, max_tokens=max_tokens, progress=None)
        assert (made.done, made.n_new) == (True, 2)
    assert icl_local.query(db, "select count(*), bool_and(exact) from responses").rows == [(4, True)]


def test_a_file_whose_bytes_are_not_those_of_its_name_is_refused(ollama: Ollama, byte_gguf: Path) -> None:
    data = byte_gguf.read_bytes()
    layer = ollama.blob("model", data)
    ollama.manifest("registry.ollama.ai/library/tiny/1b", layer)
    (ollama.folder / "blobs" / layer["digest"].replace(":", "-")).write_bytes(data[:-1] + b"?")
    with pytest.raises(ModelError, match=r"is damaged.* run: ollama pull tiny:1b"):
        registry.resolve("ollama:tiny:1b", method_kind="completion")


def test_what_cannot_be_run_is_listed_with_its_reason_and_breaks_nothing(ollama: Ollama, byte_gguf: Path) -> None:
    weights = ollama.blob("model", byte_gguf.read_bytes())
    library = "registry.ollama.ai/library"
    ollama.manifest(f"{library}/good/1b", weights)
    ollama.manifest(f"{library}/lora/1b", weights, ollama.blob("adapter", b"lora"))
    ollama.manifest(f"{library}/far/cloud")
    ollama.manifest(f"{library}/parts/1b", weights, ollama.blob("model", b"second"))
    ollama.manifest(f"{library}/hostile/1b", {**weights, "digest": "sha256:../../../secret"})
    ollama.manifest(f"{library}/gone/1b", {**weights, "digest": f"sha256:{'0' * 64}"})
    ollama.manifest(f"{library}/half/1b", {**weights, "size": weights["size"] + 1})
    for name, text in (("torn", '{"layers": ['), ("list", "[]"), ("odd", '{"layers": [7, {"mediaType": 3}]}')):
        ollama.manifest(f"{library}/{name}/1b").write_text(text)
    rows = listed()
    assert rows["ollama:good:1b"][:2] == ["instruct", "here"]
    reasons = {name: row[2] for name, row in rows.items() if name.startswith("ollama:") and row[1] == "not usable"}
    assert len(reasons) == 9
    for name, said in {
        "lora": "a LoRA adapter", "far:cloud": "holds no GGUF file", "parts": "split into 2 files",
        "hostile": "holds no GGUF file", "gone": "ollama pull gone:1b", "half": "incomplete",
        "torn": "cannot be read", "list": "cannot be read", "odd": "holds no GGUF file",
    }.items():  # fmt: skip
        name = f"ollama:{name if ':' in name else f'{name}:1b'}"
        assert said in reasons[name]
        with pytest.raises(ModelError, match=said):
            registry.resolve(name, method_kind="completion")


def test_ollamas_folder_may_be_another(home: Path, byte_gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Ollama(home / "other")
    other.manifest("registry.ollama.ai/library/tiny/1b", other.blob("model", byte_gguf.read_bytes()))
    assert names("ollama") == []
    monkeypatch.setenv("OLLAMA_MODELS", str(home / "other"))
    assert names("ollama") == ["ollama:tiny:1b"]
    shutil.copytree(home / "other", home / "service")
    assert found.find("ollama:tiny:1b").file().is_relative_to(home / "other")
    monkeypatch.delenv("OLLAMA_MODELS")
    assert found.find("ollama:tiny:1b").file().is_relative_to(home / "service")


@pytest.mark.parametrize("folder", [".lmstudio/models", ".cache/lm-studio/models", "moved/models", "chosen"])
def test_lm_studios_files_are_publisher_repository_and_file(home: Path, byte_gguf: Path, folder: str) -> None:
    if folder == "moved/models":
        (home / ".lmstudio-home-pointer").write_text(f"{home / 'moved'}\n")
    if folder == "chosen":
        (home / ".lmstudio").mkdir()
        (home / ".lmstudio" / "settings.json").write_text(json.dumps({"downloadsFolder": str(home / "chosen")}))
    place = home / folder / "someone" / "tiny-GGUF"
    place.mkdir(parents=True)
    (place / "tiny.Q8_0.gguf").symlink_to(byte_gguf)
    (place / "downloading_other.gguf.part").touch()
    assert names("lmstudio") == ["lmstudio:someone/tiny-GGUF/tiny.Q8_0.gguf"]
    model = registry.resolve("lmstudio:someone/tiny-GGUF/tiny.Q8_0.gguf", method_kind="completion")
    assert (model.label, model.notes) == ("tiny.Q8_0", ())
    assert model.name == "lmstudio:someone/tiny-GGUF/tiny.Q8_0.gguf"


def test_llama_cpps_cache_has_files_or_the_hubs_layout(
    home: Path, byte_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = home / ".cache" / "llama.cpp"
    cache.mkdir(parents=True)
    shutil.copy(byte_gguf, cache / "someone_tiny-GGUF_tiny.gguf")
    (cache / "someone_other.gguf.downloadInProgress").touch()
    (cache / "manifest=someone=tiny-GGUF=latest.json").write_text("{}")
    assert names("llama.cpp") == ["llama.cpp:someone_tiny-GGUF_tiny.gguf"]
    monkeypatch.setenv("LLAMA_CACHE", str(home / "hub"))
    snapshot(home / "hub", "a" * 40, byte_gguf, "main")
    assert names("llama.cpp") == [f"llama.cpp:{HUB}/tiny.gguf"]


def snapshot(cache: Path, commit: str, file: Path, *refs: str) -> Path:
    """Write ``file`` as tiny.gguf of a commit of HUB in a cache in the hub's layout; return its folder."""
    repo = cache / "models--someone--tiny-GGUF"
    folder = repo / "snapshots" / commit
    for one in (repo / "blobs", repo / "refs", folder):
        one.mkdir(parents=True, exist_ok=True)
    blob = repo / "blobs" / hashlib.sha256(file.read_bytes()).hexdigest()
    shutil.copy(file, blob)
    (folder / "tiny.gguf").symlink_to(os.path.relpath(blob, folder))
    for ref in refs:
        (repo / "refs" / ref).write_text(commit)
    return folder


def test_the_hubs_cache_has_the_names_that_fetch_from_the_hub(
    home: Path, byte_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    folder = snapshot(home / "hub", "a" * 40, byte_gguf, "main")
    snapshot(home / "hub", "b" * 40, byte_gguf)
    broken = home / "hub" / "models--someone--broken" / "snapshots" / ("c" * 40)
    broken.mkdir(parents=True)
    (broken / "x.gguf").symlink_to("../../blobs/absent")
    for number in (1, 2):
        (folder / f"large-0000{number}-of-00002.gguf").write_bytes(b"GGUF")
    assert names("hf") == [
        f"hf:{HUB}/large-00001-of-00002.gguf",
        f"hf:{HUB}/tiny.gguf",
        f"hf:{HUB}/tiny.gguf@{'b' * 40}",
    ]
    assert listed()[f"hf:{HUB}/tiny.gguf"][:2] == ["instruct", "here"]
    for one in found.found_models("hf")[1:]:
        assert one.path is not None
        assert one.path.samefile(registry.resolve(one.name, method_kind="completion").path)


def test_files_for_another_purpose_are_listed_with_their_purpose(home: Path) -> None:
    place = home / ".lmstudio" / "models" / "someone" / "some-GGUF"
    place.mkdir(parents=True)
    for name, said in (
        ("mmproj", "a projector for images"),
        ("adapter", "a LoRA adapter"),
        ("pooled", "a model for embeddings"),
        ("two-way", "a model for embeddings"),
    ):
        writer = gguf.GGUFWriter(place / f"{name}.gguf", "clip" if name == "mmproj" else "llama")
        if name == "pooled":
            writer.add_pooling_type(gguf.PoolingType.MEAN)
        elif name == "two-way":
            writer.add_causal_attention(False)
        else:
            writer.add_type(name)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.close()
        assert said in listed()[f"lmstudio:someone/some-GGUF/{name}.gguf"][2]


def test_an_unknown_name_is_refused_with_the_nearest(ollama: Ollama, byte_gguf: Path) -> None:
    ollama.manifest("registry.ollama.ai/library/tiny/1b", ollama.blob("model", byte_gguf.read_bytes()))
    for name in ("ollama:tinny:1b", "tiny:1b"):
        with pytest.raises(UnknownName, match=r"did you mean ollama:tiny:1b\?") as error:
            registry.resolve(name, method_kind="completion")
        assert "\n" not in str(error.value)
    with pytest.raises(UnknownName, match="there are none"):
        registry.resolve("lmstudio:tiny", method_kind="completion")


def test_a_name_of_ollama_is_a_variant_of_a_registry_entry(ollama: Ollama, byte_gguf: Path, home: Path) -> None:
    build_tiny_gguf(home / "base.gguf", chat_template=None)
    library = "registry.ollama.ai/library/tiny"
    ollama.manifest(f"{library}/text", ollama.blob("model", (home / "base.gguf").read_bytes()))
    blob = ollama.blob("model", byte_gguf.read_bytes())
    file = ollama.manifest(f"{library}/1b", blob, ollama.blob("system", b"Be brief."))
    registry.add("tiny", files={"base": "ollama:tiny:text", "instruct": "ollama:tiny:1b"}, label="Tiny 1B")
    with pytest.raises(ModelError, match="no chat template"):
        registry.add("wrong", files={"instruct": "ollama:tiny:text"})
    model = registry.resolve("tiny", method_kind="chat")
    assert (model.label, model.source, model.name) == ("Tiny 1B", "ollama:tiny:1b", "tiny")
    assert len(model.notes) == 1
    assert registry.state(registry.load_registry()["tiny"].variants["instruct"]) == "here"
    file.unlink()
    assert registry.state(registry.load_registry()["tiny"].variants["instruct"]) == "missing"


def test_weights_are_found_again_by_their_digest(ollama: Ollama, byte_gguf: Path) -> None:
    data = byte_gguf.read_bytes()
    layer = ollama.blob("model", data)
    ollama.manifest("registry.ollama.ai/library/tiny/1b", layer)
    digest = layer["digest"].removeprefix("sha256:")
    assert registry.by_sha256(digest, "tiny:1b", len(data)).sha256 == digest
    assert registry.by_sha256(digest, "x", files=["ollama:tiny:1b"]).sha256 == digest
    with pytest.raises(ModelError, match=r"absent\.gguf: no such file"):
        registry.by_sha256(digest, "x", files=["absent.gguf"])
