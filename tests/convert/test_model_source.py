"""GGUF files unpacked into checkpoints again."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import gguf
import numpy as np
import pytest

from icl_local.convert import model_source
from icl_local.convert.checkpoint import Checkpoint
from icl_local.convert.model_source import locate, unpack_gguf
from icl_local.exceptions import ConfigError
from icl_local.operating_system import locked
from tests.tiny_checkpoint import build_checkpoint
from tests.unstored import convert

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def metadata(path: Path, key: str) -> Any:
    field = gguf.GGUFReader(path).fields.get(key)
    return None if field is None else field.contents()


def test_gguf_unpacks_into_a_checkpoint_that_converts_back(tiny_gguf: Path, tmp_path: Path) -> None:
    unpack_gguf(tiny_gguf, tmp_path / "unpacked")
    made = convert(tmp_path / "unpacked", tmp_path / "again.gguf", type_name="f32")
    assert made.row["gate"] == "passed"
    before, after = ({t.name: t.data for t in gguf.GGUFReader(p).tensors} for p in (tiny_gguf, made.path))
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)
    for key in ("tokens", "merges", "pre", "bos_token_id", "eos_token_id"):
        assert metadata(made.path, f"tokenizer.ggml.{key}") == metadata(tiny_gguf, f"tokenizer.ggml.{key}")


def test_each_file_is_unpacked_once_into_a_folder_of_its_own(tiny_gguf: Path, tmp_path: Path) -> None:
    other = convert(build_checkpoint(tmp_path / "model", n_layers=1), tmp_path / "other.gguf", type_name="f32").path
    said: list[str] = []
    folders = [locate(str(path), work=tmp_path / "base", on_progress=said.append).folder
               for path in (tiny_gguf, other, tiny_gguf)]  # fmt: skip
    assert folders[0] == folders[2] != folders[1]
    assert said == [f"unpacking {tiny_gguf.name}", "unpacking other.gguf"]
    assert Checkpoint(folders[0]).sha256 != Checkpoint(folders[1]).sha256


def test_two_at_a_time_unpack_a_file_once(tiny_gguf: Path, tmp_path: Path) -> None:
    said: list[str] = []
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda _: locate(str(tiny_gguf), work=tmp_path / "base", on_progress=said.append), "ab"))
    assert found[0] == found[1]
    assert [text for text in said if text.startswith("unpacking")] == [f"unpacking {tiny_gguf.name}"]


def test_a_process_that_waits_for_another_says_so(tiny_gguf: Path, tmp_path: Path) -> None:
    work, said, waits = tmp_path / "base", list[str](), threading.Event()

    def on_progress(text: str) -> None:
        said.append(text)
        waits.set()

    work.mkdir()
    with ThreadPoolExecutor(1) as pool:
        with locked(work / ".lock"):
            found = pool.submit(locate, str(tiny_gguf), work=work, on_progress=on_progress)
            assert waits.wait(60)
            assert said == [f"another process unpacks a file into {work}; waiting for it"]
        assert found.result().folder.parent == work
    assert said[1:] == [f"unpacking {tiny_gguf.name}"]


def test_an_error_of_the_file_is_not_one_of_the_folder(
    tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_source, "gate", Mock(side_effect=PermissionError(13, "Permission denied")))
    with pytest.raises(PermissionError):
        locate(str(tiny_gguf), work=tmp_path / "base")


def test_a_base_folder_that_cannot_be_made_is_an_expected_error(tiny_gguf: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(ConfigError, match="choose another place with -o"):
        locate(str(tiny_gguf), work=tmp_path / "out" / "base")
