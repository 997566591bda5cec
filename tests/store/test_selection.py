"""Names that a user gives, and what is stored under them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from unittest.mock import Mock

import pytest

from icl_local import store
from icl_local.exceptions import InputError, UnknownName
from icl_local.store import Selection, selection
from icl_local.store.database import Store
from tests.judge_rows import response_rows
from tests.shared import copy_empty_database

COUNT = "judge_responses"
BYTES = b"the model of these tests"
FILE = hashlib.sha256(BYTES).hexdigest()


@pytest.fixture(scope="module")
def two_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight responses: two models in two languages; one model is registered and has a file."""
    path = tmp_path_factory.mktemp("names") / "x.duckdb"
    copy_empty_database(path)
    with Store(path) as target:
        for model in ("Tiny 1B", "Other 2B"):
            for language in ("en", "es"):
                rows = response_rows(2, model=model, language=language)
                if model == "Tiny 1B":
                    for table, row in rows:
                        row |= {"registry_name": "tiny-1b"} if table == "models" else {}
                        row |= {"gguf_sha256": FILE} if table == "responses" else {}
                target.put(rows)
        file = {
            "gguf_sha256": FILE,
            "file_name": "tiny.Q4_0.gguf",
            "source": "file",
            "bytes": 1,
            "quantization": "Q4_0",
        }
        target.put([("gguf_files", file)])
    return path


@pytest.mark.parametrize(
    "chosen, n",
    [
        (Selection(), 8),
        (Selection(model="Tiny 1B"), 4),
        (Selection(model="tiny 1b"), 4),
        (Selection(model="tiny-1b"), 4),
        (Selection(model="tiny.Q4_0.gguf"), 4),
        (Selection(model="tiny.q4_0"), 4),
        (Selection(model=["tiny-1b", "Other 2B"]), 8),
        (Selection(language="es"), 4),
        (Selection(model="tiny-1b", language=["en"], quantization="q4_0", split="multi", dataset="test"), 2),
    ],
)
def test_registry_printed_and_file_names_select_the_same(two_models: Path, chosen: Selection, n: int) -> None:
    assert len(store.selected(two_models, COUNT, chosen, [None, False]).rows) == n


def test_a_file_under_another_name_selects_by_its_bytes(tmp_path: Path, two_models: Path) -> None:
    other, same = tmp_path / "other.gguf", tmp_path / "renamed.gguf"
    other.write_bytes(b"other")
    same.write_bytes(BYTES)
    assert len(store.selected(two_models, COUNT, Selection(model=str(same)), [None, False]).rows) == 4
    with pytest.raises(UnknownName, match=r"no model '.*other\.gguf' in this database.*; there are Other 2B, Tiny 1B"):
        store.selected(two_models, COUNT, Selection(model=str(other)), [None, False])


def test_a_models_file_that_cannot_be_read_is_told(
    tmp_path: Path, two_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other.gguf"
    other.touch()
    monkeypatch.setattr(selection, "sha256_file", Mock(side_effect=PermissionError(13, "Permission denied")))
    with pytest.raises(InputError, match=r"other\.gguf: cannot be read: Permission denied; give the model's name"):
        store.selected(two_models, COUNT, Selection(model=str(other)), [None, False])


@pytest.mark.parametrize(
    "chosen, message",
    [
        (Selection(model="tiny-1bb"), r"no model 'tiny-1bb' in this database \(did you mean Tiny 1B\?\); there are "),
        (Selection(model=["Tiny 1B", "x"]), "no model 'x' .*; there are Other 2B, Tiny 1B; see icl status"),
        (Selection(method="urail"), r"no method 'urail' .*\(did you mean urial\?\)"),
        (Selection(language="fr"), "no language 'fr' .*; there are en, es"),
        (Selection(dataset="none"), "no dataset 'none'"),
        (Selection(quantization="Q8_0"), "no quantization 'Q8_0'"),
        (Selection(judge="openai:gpt-4o"), "no judge .* there are none"),
    ],
)
def test_an_unknown_name_is_an_error_that_lists_what_is_there(
    two_models: Path, chosen: Selection, message: str
) -> None:
    with pytest.raises(UnknownName, match=message):
        store.selected(two_models, COUNT, chosen)
