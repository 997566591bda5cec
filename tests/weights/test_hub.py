"""Downloads against a local server that answers as the hub and its CDN do; nothing leaves this machine."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from icl_local.exceptions import DiskFull, HubError, IclError
from icl_local.weights import hub
from tests.fake_hub import CHUNK_BYTES, FILE, FIRST, NAME, REPO, SECOND, TOKEN, WEIGHTS, FakeHub, serving


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with serving(tmp_path, monkeypatch) as state:
        yield state


def refused(name: str) -> str:
    """The one line that a failed fetch says; never a secret in it."""
    with pytest.raises(IclError) as error:
        hub.fetch(name)
    assert TOKEN not in str(error.value)
    assert "secret" not in str(error.value)
    assert "\n" not in str(error.value)
    return str(error.value)


def left_behind(folder: Path) -> list[str]:
    """Files that hold bytes, outside locks and references."""
    return sorted(p.name for p in (folder / "hf").rglob("*") if p.parent.name == "blobs" and p.is_file())


def test_a_file_comes_through_the_redirect_pinned_and_checked(fake: FakeHub, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int | None]] = []
    file = hub.fetch(NAME, on_progress=lambda *step: seen.append(step))
    assert file.path.read_bytes() == WEIGHTS
    assert file.path.name == FILE
    assert str(file.address) == f"{NAME}@{FIRST}"
    assert file.sha256 == hashlib.sha256(WEIGHTS).hexdigest()
    assert (FILE, len(WEIGHTS), len(WEIGHTS)) in seen
    assert left_behind(tmp_path) == [file.sha256]


def test_the_token_goes_to_the_hub_and_not_to_the_cdn(fake: FakeHub) -> None:
    hub.fetch(NAME)
    tokens = {server: {h.get("Authorization", h.get("authorization")) for s, _, h in fake.requests if s == server}
              for server in ("hub", "cdn")}  # fmt: skip
    assert tokens == {"hub": {f"Bearer {TOKEN}"}, "cdn": {None}}


def test_a_cached_file_is_not_fetched_again_and_is_found_by_other_tools(fake: FakeHub) -> None:
    from huggingface_hub import hf_hub_download

    file = hub.fetch(NAME)
    assert hub.fetch(NAME) == file
    assert hub.fetch(f"{NAME}@{FIRST}") == file
    assert fake.ranges() == [None]
    assert Path(hf_hub_download(REPO, FILE)) == file.path
    assert hub.cached(NAME) == file.path
    assert fake.ranges() == [None]


def test_a_moved_branch_gives_the_new_commit_and_a_pinned_one_stays(fake: FakeHub) -> None:
    old = hub.fetch(NAME)
    fake.commits = {"main": SECOND, FIRST: FIRST}
    fake.files[SECOND, FILE] = b"new weights"
    new = hub.fetch(NAME)
    assert (new.address.revision, new.path.read_bytes()) == (SECOND, b"new weights")
    again = hub.fetch(f"{NAME}@{FIRST}")
    assert (again.address.revision, again.path.read_bytes()) == (FIRST, WEIGHTS)
    assert again.path == old.path


def test_a_dropped_connection_goes_on_where_it_stopped(fake: FakeHub) -> None:
    fake.drop_after = 2 << 20
    assert hub.fetch(NAME).path.read_bytes() == WEIGHTS
    first, second = fake.ranges()
    assert first is None
    assert second is not None
    assert 0 < int(second.removeprefix("bytes=").removesuffix("-")) <= 2 << 20


def test_a_server_without_ranges_starts_over_and_the_file_is_right(fake: FakeHub) -> None:
    fake.drop_after, fake.ignores_range = 2 << 20, True
    assert hub.fetch(NAME).path.read_bytes() == WEIGHTS
    assert len(fake.ranges()) == 2


def test_a_killed_download_is_resumed_by_the_next_process(fake: FakeHub, tmp_path: Path) -> None:
    fake.stall_after = (2 << 20) + 1000
    env = os.environ | {"HF_ENDPOINT": fake.hub_url, "HF_HUB_CACHE": str(tmp_path / "hf"), "PYTHONUNBUFFERED": "1"}
    code = f"""
from huggingface_hub import constants
from icl_local.weights import hub
constants.DOWNLOAD_CHUNK_SIZE = {CHUNK_BYTES}
hub.fetch({NAME!r}, on_progress=lambda what, done, total: print(done))
"""
    killed = subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, text=True)
    assert killed.stdout is not None
    for line in killed.stdout:
        if int(line) == 2 << 20:
            break
    killed.kill()
    killed.wait()
    killed.stdout.close()
    assert left_behind(tmp_path) == [hashlib.sha256(WEIGHTS).hexdigest() + ".icl-partial"]
    assert hub.fetch(NAME).path.read_bytes() == WEIGHTS
    assert fake.ranges()[1] in (f"bytes={1 << 20}-", f"bytes={2 << 20}-")  # the last chunk may not be written yet
    assert left_behind(tmp_path) == [hashlib.sha256(WEIGHTS).hexdigest()]


def test_bytes_that_do_not_match_the_checksum_are_removed(fake: FakeHub, tmp_path: Path) -> None:
    fake.published = "0" * 64
    assert "do not match the hub's checksum and were removed" in refused(NAME)
    assert left_behind(tmp_path) == []
    assert hub.cached(NAME) is None


def test_a_server_without_checksums_is_refused(fake: FakeHub, tmp_path: Path) -> None:
    fake.published = "W/abc"
    assert "publishes no checksum" in refused(NAME)
    assert left_behind(tmp_path) == []


def test_a_cached_copy_that_rotted_is_set_aside(fake: FakeHub, tmp_path: Path) -> None:
    blob = hub.fetch(NAME).path.resolve()
    blob.write_bytes(b"rotten" + WEIGHTS[6:])
    assert "damaged; it was set aside" in refused(NAME)
    assert left_behind(tmp_path) == [blob.name + ".damaged"]
    assert hub.fetch(NAME).path.read_bytes() == WEIGHTS


@pytest.mark.parametrize("status", [401, 403])
def test_a_gated_repository_says_licence_and_token(fake: FakeHub, status: int) -> None:
    fake.gated = status
    said = refused(NAME)
    assert f"https://huggingface.co/{REPO}" in said
    assert "licence" in said
    assert "HF_TOKEN" in said


def test_what_does_not_exist_is_described(fake: FakeHub) -> None:
    assert "no such file" in refused(f"hf:{REPO}/other.gguf")
    assert "revision not found" in refused(f"{NAME}@v7")
    assert "repository not found or private" in refused("hf:someone/nothing/x.gguf")
    assert "repository not found or private" in refused("hf:answers/404/x.gguf")


@pytest.mark.parametrize("name", ["hf:x.gguf", "hf:a/b", "hf:a/b/../../etc/passwd", "hf:a/b/c.gguf@", "a/b/c.gguf"])
def test_a_reference_that_names_no_file_is_refused(name: str) -> None:
    with pytest.raises(HubError, match="is not hf:owner/repo/file"):
        hub.fetch(name)


def test_without_network_the_cached_file_serves_and_others_are_refused(
    fake: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    file = hub.fetch(NAME)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert hub.fetch(NAME) == file
    assert "HF_HUB_OFFLINE is set and the file is not in the cache" in refused(f"hf:{REPO}/other.gguf")
    assert "HF_HUB_OFFLINE is set" in refused(f"hf:{REPO}/other.gguf@{SECOND}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert hub.fetch(NAME) == file
    assert "127.0.0.1 cannot be reached and the file is not in the cache" in refused("hf:someone/else/other.gguf")


def test_two_at_once_fetch_the_file_once(fake: FakeHub) -> None:
    fake.stall_after = 2 << 20
    results: list[bytes] = []
    threads = [threading.Thread(target=lambda: results.append(hub.fetch(NAME).path.read_bytes())) for _ in range(2)]
    for thread in threads:
        thread.start()
    fake.go_on.set()
    for thread in threads:
        thread.join(30)
    assert results == [WEIGHTS, WEIGHTS]
    assert fake.ranges()[0] is None
    assert all(requested is not None for requested in fake.ranges()[1:])


def test_a_disk_without_room_is_noticed_before_the_transfer(fake: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")._replace(free=1 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DiskFull, match="HF_HOME"):
        hub.fetch(NAME)
    assert fake.ranges() == []


def test_a_small_dataset_file_is_checked_by_gits_checksum_also_in_the_cache(fake: FakeHub) -> None:
    fake.files[FIRST, "data/q.jsonl"] = b'{"id": 0}\n'
    name = f"hf:{REPO}/data/q.jsonl"
    (file,) = hub.fetch_dataset(name, (".jsonl",)).files
    assert file.path.read_bytes() == b'{"id": 0}\n'
    assert str(file.address) == f"hf:{REPO}/data/q.jsonl@{FIRST}"
    assert file.sha256 is None
    assert hub.cached_dataset_file(name) == file
    assert all("/datasets/" in path for _, path, _ in fake.requests)
    file.path.write_bytes(b'{"id": 1}\n')
    with pytest.raises(HubError, match="the cached copy is damaged"):
        hub.cached_dataset_file(name)


FORMS = (".jsonl", ".csv", ".parquet")


def data_set(reference: str) -> bytes:
    """The bytes of a split's files, one after the other."""
    return b"".join(file.path.read_bytes() for file in hub.fetch_dataset(reference, FORMS).files)


def refused_data_set(reference: str) -> str:
    with pytest.raises(HubError) as error:
        hub.fetch_dataset(reference, FORMS)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_data_set_of_one_file_needs_no_file_name(fake: FakeHub) -> None:
    fake.files = {(FIRST, "README.md"): b"#", (FIRST, "data/q.csv"): b"id\n"}
    assert str(hub.fetch_dataset(f"hf:{REPO}", FORMS).address) == f"hf:{REPO}/data/q.csv@{FIRST}"
    assert data_set(f"hf:{REPO}/data/q.csv@main") == b"id\n"
    fake.files[FIRST, "data/r.csv"] = b"id\n"
    assert "name one config and split, or one file; there are data/q.csv, data/r.csv;" in refused_data_set(f"hf:{REPO}")
    assert "is not hf:owner/name" in refused_data_set("hf:nobody")
    fake.files = {(FIRST, "load.py"): b"raise SystemExit"}
    assert "has no file in one of the forms .jsonl, .csv, .parquet" in refused_data_set(f"hf:{REPO}")


@pytest.mark.parametrize(
    "data_files",
    [
        [{"split": "test", "path": "LANG/test-*"}, {"split": "dev", "path": ["LANG/dev.csv", "LANG/dev.jsonl"]}],
        {"test": "LANG/test-*", "dev": "LANG/dev.*"},
    ],
)
def test_configs_and_splits_are_those_of_the_card(fake: FakeHub, data_files: object) -> None:
    configs = [
        {"config_name": language, "data_files": json.loads(json.dumps(data_files).replace("LANG", language))}
        for language in ("en", "es")
    ]
    fake.cards[FIRST] = {"configs": configs}
    files = [f"{language}/{file}" for language in ("en", "es") for file in ("test-0.parquet", "dev.jsonl", "dev.csv")]
    fake.files = {(FIRST, name): name.encode() for name in [*files, "README.md", "old/test.csv"]}
    fake.commits["refs/convert/parquet"] = SECOND  # which does not stand in for what the card has
    fake.files[SECOND, "en/test/0000.parquet"] = WEIGHTS
    for name in ("es/test", "es/test/"):
        assert str(hub.fetch_dataset(f"hf:{REPO}/{name}", FORMS).address) == f"hf:{REPO}/es/test-0.parquet@{FIRST}"
    assert "there are en/test, en/dev, es/test, es/dev;" in refused_data_set(f"hf:{REPO}")
    assert "there are en/test, en/dev, es/test, es/dev;" in refused_data_set(f"hf:{REPO}/fr")
    assert "there are es/test, es/dev;" in refused_data_set(f"hf:{REPO}/es")
    assert "there are en/test, es/test;" in refused_data_set(f"hf:{REPO}/test")
    assert "there are es/dev.jsonl, es/dev.csv;" in refused_data_set(f"hf:{REPO}/es/dev")
    assert data_set(f"hf:{REPO}/old/test.csv") == b"old/test.csv"


def test_a_card_may_name_files_alone(fake: FakeHub) -> None:
    fake.cards[FIRST] = {"configs": [{"config_name": "default", "data_files": "b.csv"}, {"config_name": "empty"}]}
    fake.files = {(FIRST, "a.csv"): b"a", (FIRST, "b.csv"): b"b"}
    for name in ("", "/default", "/train", "/default/train"):
        assert data_set(f"hf:{REPO}{name}") == b"b"


def test_other_forms_come_from_the_hubs_parquet_branch(fake: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    fake.commits = {"main": FIRST, "v1": FIRST, "refs/convert/parquet": SECOND}
    fake.files = {(FIRST, "load.py"): b"raise SystemExit", (FIRST, "texts.zip"): b"zip"}
    for name in ("main/test/0000.parquet", "main/train/0000.parquet", "main/train/0001.parquet"):
        fake.files[SECOND, name] = WEIGHTS
    found = hub.fetch_dataset(f"hf:{REPO}/main/test", FORMS)
    assert str(found.address) == f"hf:{REPO}/main/test/0000.parquet@{SECOND}"
    assert found.files[0].sha256 == hashlib.sha256(WEIGHTS).hexdigest()
    assert (
        hub.fetch_dataset(str(found.address), FORMS).files
        == hub.fetch_dataset(f"hf:{REPO}/test", FORMS).files
        == found.files
    )
    assert "there are main/test, main/train;" in refused_data_set(f"hf:{REPO}/main")
    several = hub.fetch_dataset(f"hf:{REPO}/train", FORMS)
    assert str(several.address) == f"hf:{REPO}/main/train@{SECOND}"
    assert [file.address.filename for file in several.files] == ["main/train/0000.parquet", "main/train/0001.parquet"]
    assert "has no file in one of the forms" in refused_data_set(f"hf:{REPO}/test@v1")  # the branch is of the present
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert hub.fetch_dataset(str(found.address), FORMS).files == found.files
    assert hub.fetch_dataset(str(several.address), FORMS) == several


SHARDS = [f"data/test-0000{n}-of-00003.csv" for n in range(3)]


@pytest.mark.parametrize("card", [{}, {"configs": [{"config_name": "default", "data_files": [
    {"split": "train", "path": "data/train-*"}, {"split": "test", "path": "data/test-*"}]}]}])  # fmt: skip
def test_a_split_of_several_files_is_read_whole_in_their_order(
    fake: FakeHub, monkeypatch: pytest.MonkeyPatch, card: dict[str, object]
) -> None:
    from huggingface_hub import constants

    fake.cards[FIRST] = card
    fake.files = {
        (FIRST, name): name.encode() for name in ["data/train-00000-of-00001.csv", *SHARDS[::-1], "README.md"]
    }
    found = hub.fetch_dataset(f"hf:{REPO}/test", FORMS)
    split = "default/test" if card else "data/test"
    assert str(found.address) == f"hf:{REPO}/{split}@{FIRST}"
    assert [(file.address.filename, file.address.revision) for file in found.files] == [
        (name, FIRST) for name in SHARDS
    ]
    fake.commits["main"] = SECOND
    assert hub.fetch_dataset(str(found.address), FORMS) == found
    assert f"there are {split.replace('test', 'train')}, {split};" in refused_data_set(f"hf:{REPO}@{FIRST}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert hub.fetch_dataset(str(found.address), FORMS) == found


def test_half_a_split_in_the_cache_does_not_pass_for_the_split(fake: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    fake.files = {(FIRST, name): name.encode() for name in SHARDS}
    for name in SHARDS[:2]:  # by name, so the list of files is not kept
        hub.fetch_dataset(f"hf:{REPO}/{name}", FORMS)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert f"there are {SHARDS[0]}, {SHARDS[1]};" in refused_data_set(f"hf:{REPO}@{FIRST}")
    assert f"there are {SHARDS[0]}, {SHARDS[1]};" in refused_data_set(f"hf:{REPO}/data/test@{FIRST}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    assert data_set(f"hf:{REPO}/test") == "".join(SHARDS).encode()


def test_a_data_set_in_the_cache_serves_offline(fake: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    fake.files = {(FIRST, "README.md"): b"#", (FIRST, "data/q.csv"): b"id\n"}
    file = hub.fetch_dataset(f"hf:{REPO}", FORMS)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert hub.fetch_dataset(f"hf:{REPO}", FORMS) == file
    assert "HF_HUB_OFFLINE is set" in refused_data_set("hf:someone/else")


def test_a_gated_data_set_says_licence_and_token(fake: FakeHub) -> None:
    fake.files, fake.gated = {(FIRST, "q.csv"): b"id\n"}, 403
    said = refused_data_set(f"hf:{REPO}")
    assert f"accept the licence at https://huggingface.co/datasets/{REPO} and set HF_TOKEN" in said


def test_a_data_set_with_a_wrong_checksum_is_refused(fake: FakeHub, tmp_path: Path) -> None:
    fake.files, fake.published = {(FIRST, "q.csv"): b"id\n"}, "1" * 40
    assert "do not match the hub's checksum and were removed" in refused_data_set(f"hf:{REPO}")
    assert left_behind(tmp_path) == []


def test_a_changed_small_file_is_refused(fake: FakeHub, tmp_path: Path) -> None:
    fake.files[FIRST, FILE], fake.published = b"small", "1" * 40
    assert "do not match" in refused(NAME)
    assert left_behind(tmp_path) == []


def test_a_checkpoint_is_fetched_into_one_folder_and_serves_offline(
    fake: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    for name, body in {"config.json": b"{}", "model.safetensors": WEIGHTS, "original/params.json": b"{}"}.items():
        fake.files[FIRST, name] = body
    wanted = ["*.safetensors", "config.json"]
    folder = hub.fetch_folder(REPO, wanted)
    assert str(folder.address) == f"hf:{REPO}@{FIRST}"
    assert sorted(path.name for path in folder.path.iterdir()) == ["config.json", "model.safetensors"]
    assert (folder.path / "model.safetensors").read_bytes() == WEIGHTS
    with pytest.raises(HubError, match=r"no file like \*\.bin"):
        hub.fetch_folder(REPO, ["*.bin"])
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert hub.fetch_folder(REPO, wanted) == folder
    with pytest.raises(HubError, match="HF_HUB_OFFLINE is set"):
        hub.fetch_folder("someone/else", wanted)
