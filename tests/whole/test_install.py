"""Ways to install: the ready build of llama.cpp in scripts/, and this project's own wheel and sdist."""

from __future__ import annotations

import configparser
import hashlib
import importlib.machinery
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
VERSION = "0.0.1"
PIN = f"llama_cpp_python=={VERSION}"


def empty_llama(folder: Path, version: str) -> Path:
    """A wheel of llama-cpp-python for every system with nothing in it, so that nothing is compiled here."""
    folder.mkdir(parents=True)
    path = folder / f"llama_cpp_python-{version}-py3-none-any.whl"
    info = f"llama_cpp_python-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("llama_cpp/__init__.py", "")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: llama-cpp-python\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """A folder that is an index of kind cpu with one wheel."""
    wheel = empty_llama(tmp_path / "index" / "cpu" / "llama-cpp-python", VERSION)
    wheel.with_name("index.html").write_text(f'<a href="{wheel.name}">{wheel.name}</a>')
    return tmp_path / "index"


def sha256(index: Path) -> str:
    (wheel,) = index.rglob("*.whl")
    return hashlib.sha256(wheel.read_bytes()).hexdigest()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with scripts/venv.sh and a .venv whose pip installs into site/."""
    folder = tmp_path / "checkout"
    (folder / "scripts").mkdir(parents=True)
    (folder / "scripts" / "venv.sh").write_text((ROOT / "scripts" / "venv.sh").read_text())
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "python").symlink_to(sys.executable)
    return folder


def ready_wheel(checkout: Path, address: str, listed: str, **environment: str) -> subprocess.CompletedProcess[str]:
    (checkout / "scripts" / "llama_wheels.txt").write_text(listed)
    given = {"ICL_WHEELS": address, "ICL_BUILD": "cpu", "PIP_TARGET": str(checkout / "site"), "PIP_CACHE_DIR": "off"}
    # the .venv's python is a link out of it: the packages of this one, pip among them, are named
    given["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path.endswith("site-packages"))
    return subprocess.run(
        ["bash", "-euc", ". scripts/venv.sh; ready_wheel && echo installed || echo compile"],
        cwd=checkout, env={**os.environ, **given, **environment}, capture_output=True, text=True, check=True,
    )  # fmt: skip


def test_a_ready_build_of_a_listed_sha256_is_taken(checkout: Path, index: Path) -> None:
    done = ready_wheel(checkout, index.as_uri(), f"{PIN} --hash=sha256:{sha256(index)}\n".replace(" ", " \\\n    ", 1))
    assert done.stdout == "installed\n", done.stderr
    assert (checkout / "site" / "llama_cpp" / "__init__.py").exists()
    assert "icl machine build" in done.stderr


def test_a_ready_build_of_another_sha256_is_refused_in_one_line(checkout: Path, index: Path) -> None:
    done = ready_wheel(checkout, index.as_uri(), f"{PIN} \\\n    --hash=sha256:{'0' * 64}\n")
    assert done.stdout == "compile\n"
    assert done.stderr.splitlines() == [f"no ready build of llama.cpp for this system at {index.as_uri()}/cpu"]
    assert not (checkout / "site").exists()


def test_llama_cpp_is_compiled_without_an_index_a_list_or_on_request(checkout: Path) -> None:
    nowhere = "http://127.0.0.1:9"
    unreachable = ready_wheel(checkout, nowhere, f"{PIN} \\\n    --hash=sha256:{'0' * 64}\n")
    assert unreachable.stdout == "compile\n"
    assert unreachable.stderr.splitlines() == [f"no ready build of llama.cpp for this system at {nowhere}/cpu"]
    empty = ready_wheel(checkout, nowhere, "# nothing\n")
    assert (empty.stdout, len(empty.stderr.splitlines())) == ("compile\n", 1)
    asked = ready_wheel(checkout, nowhere, "# nothing\n", ICL_BUILD="source")
    assert (asked.stdout, asked.stderr) == ("compile\n", "")


def lock() -> ModuleType:
    """scripts/lock as a module."""
    loader = importlib.machinery.SourceFileLoader("lock", str(ROOT / "scripts" / "lock"))
    spec = importlib.util.spec_from_loader("lock", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def test_the_list_of_ready_builds_has_the_sha256_of_what_the_index_holds(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = lock()
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "constraints.txt").write_text(f"idna==3\n{PIN}\n")
    monkeypatch.setattr(made, "ROOT", tmp_path)
    listed = made.ready_builds(index.as_uri(), ("cpu", "metal"), ("3.12",), made.PLATFORMS[:1])
    assert listed == f"{PIN} \\\n    --hash=sha256:{sha256(index)}\n"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheel and the sdist of this project, by kind."""
    work = tmp_path_factory.mktemp("build")
    for name in (
        "icl_local",
        "db",
        "models",
        "prompts",
        "scripts",
        "pyproject.toml",
        "setup.cfg",
        "README.md",
        "LICENSE",
    ):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, work / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, work / name)
    backend = "from setuptools.build_meta import *; build_wheel('dist'); build_sdist('dist')"
    subprocess.run([sys.executable, "-c", backend], cwd=work, check=True, capture_output=True)
    (wheel,), (sdist,) = (work / "dist").glob("*.whl"), (work / "dist").glob("*.tar.gz")
    return {"wheel": wheel, "sdist": sdist}


def test_wheel_and_sdist_hold_every_data_file(built: dict[str, Path]) -> None:
    expected = {
        f"{folder}/{path.relative_to(ROOT / folder)}"
        for folder in ("db", "models", "prompts")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(built["wheel"]) as wheel:
        names = {name.removeprefix("icl_local/") for name in wheel.namelist()}
    assert expected - names == set()
    with tarfile.open(built["sdist"]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert expected - names == set()


def test_the_installed_wheel_works_outside_the_repository(built: dict[str, Path], tmp_path: Path) -> None:
    with zipfile.ZipFile(built["wheel"]) as wheel:
        wheel.extractall(tmp_path / "site")
    program = "import icl_local, sys; from icl_local.cli import main; print(icl_local.__file__); main(sys.argv[1:])"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    for arguments in (["--help"], ["models", "list"], ["data", "list"]):
        done = subprocess.run(
            [sys.executable, "-P", "-c", program, *arguments],
            cwd=tmp_path, env=environment, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(str(tmp_path / "site"))


def test_the_demos_packages_are_pinned_by_hash() -> None:
    """The demo installs them without resolving, so one that is missing here is missing there."""
    found = configparser.ConfigParser()
    found.read(ROOT / "setup.cfg")
    extras = found["options.extras_require"]
    required = f"{found['options']['install_requires']} {extras['demo']} {extras['langid']}".split()
    names = {re.split(r"[<>=\[]", one)[0].replace("_", "-").lower() for one in required} - {"icl-local"}
    for file in ("demo.lock", "constraints.txt"):
        pinned = re.findall(r"^([\w.-]+)==", (ROOT / "scripts" / file).read_text(), re.MULTILINE)
        assert names <= {name.replace("_", "-").lower() for name in pinned}, file


def test_the_licences_are_those_of_the_demos_packages() -> None:
    locked = re.findall(r"^([\w.-]+)==([\w.]+)", (ROOT / "scripts" / "demo.lock").read_text(), re.MULTILINE)
    listed = re.findall(r"([\w.-]+) (\d[\w.]*)(?:, |$)", (ROOT / "docs" / "licences.md").read_text(), re.MULTILINE)
    assert set(listed) == {(name.replace("_", "-").lower(), version) for name, version in locked}


@pytest.mark.soak
@pytest.mark.parametrize("kind", ["wheel", "sdist"])
@pytest.mark.parametrize("tool", ["pip", "pipx", "uv", "uvx"])
def test_each_installer_gives_a_working_command(built: dict[str, Path], tool: str, kind: str, tmp_path: Path) -> None:
    """Needs a network; docs/install.md has the same command lines."""
    if tool != "pip" and shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")
    pins = (ROOT / "scripts" / "constraints.txt").read_text().splitlines()
    version = next(line for line in pins if line.startswith("llama_cpp_python==")).partition("==")[2]
    empty_llama(tmp_path / "links", version)
    environment = {
        **os.environ,
        "PIPX_HOME": str(tmp_path / "pipx"), "PIPX_BIN_DIR": str(tmp_path / "bin"),
        "UV_TOOL_DIR": str(tmp_path / "uv"), "UV_TOOL_BIN_DIR": str(tmp_path / "bin"),
        "UV_FIND_LINKS": str(tmp_path / "links"), "PIP_FIND_LINKS": str(tmp_path / "links"),
    }  # fmt: skip
    file, icl = str(built[kind]), [str(tmp_path / "bin" / "icl")]
    installing = {
        "pip": [[sys.executable, "-m", "venv", str(tmp_path)], [str(tmp_path / "bin" / "pip"), "install", file]],
        "pipx": [["pipx", "install", file]],
        "uv": [["uv", "tool", "install", file]],
        "uvx": [],
    }
    if tool == "uvx":
        icl = ["uvx", "--from", file, "icl"]
    for command in installing[tool]:
        subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    shown = subprocess.run(
        [*icl, "models", "list"], cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
    )
    assert "smollm2-135m" in shown.stdout
