"""llama.cpp's own converter of Hugging Face checkpoints, of the same sources as the installed engine.

The sources are in llama-cpp-python's source distribution, which pip fetches once, from any index that it is set up for.
No other package of the environment is touched: one with a copy of the converter would overwrite the installed ``gguf``.
"""

import functools
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata
from pathlib import Path

from icl_local.cache import kept_folder
from icl_local.child_process import ChildEnded, ChildProcess, SharedChild, environment_without_secrets
from icl_local.exceptions import ConversionError, DiskFull
from icl_local.identity import sha256_file

_SHA256 = {"0.3.36": "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"}  # of tested versions
_PARTS = ("convert_hf_to_gguf.py", "conversion/", "gguf-py/gguf/")
_WITHIN = "/vendor/llama.cpp/"


def version() -> str:
    """Return the version of llama-cpp-python, which is the converter's."""
    return metadata.version("llama-cpp-python")


def sources(say: Callable[[str], None]) -> Path:
    """Return the folder of the converter, fetched with pip if it is not in the cache. Raises ConversionError."""

    def fetch(work: Path) -> Path:
        what = f"the sources of llama-cpp-python {version()} (about 77 MB, once, with pip)"
        say(f"fetching llama.cpp's converter: {what}")
        archive, found = _download(work), work / "sources"
        with tarfile.open(archive) as tar:
            for member in tar:
                inside = member.name.partition(_WITHIN)[2]
                if member.isfile() and inside.startswith(_PARTS):
                    tar.extract(member.replace(name=inside), found, filter="data")
        if not (found / _PARTS[0]).is_file():
            raise ConversionError(f"{archive.name} holds no converter; install another version of llama-cpp-python")
        return found

    return kept_folder(f"llama-cpp-python-{version()}", fetch)


def _download(work: Path) -> Path:
    package = f"llama-cpp-python=={version()}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "llama-cpp-python"]
    done = subprocess.run([*command, "--dest", work, package], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    found = list(work.glob("*.tar.gz"))
    if done.returncode or not found:
        reason = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "no source distribution")
        raise ConversionError(
            f"the sources of {package} cannot be fetched: {reason.strip()}; "
            "check the connection, or pip's index (pip config list), and repeat"
        )
    expected = _SHA256.get(version())
    if expected not in (None, sha256_file(found[0])):
        raise ConversionError(f"{found[0].name} does not have the sha256 {expected}; fetch it from another index")
    return found[0]


def write_gguf(
    files: Iterable[Path],
    out: Path,
    *,
    kind: str,
    name: str,
    fields: Mapping[str, str | bool],
    say: Callable[[str], None],
) -> None:
    """Convert the checkpoint of these ``files`` into ``out``, in type ``kind``: f32, f16 or bf16.

    ``name`` becomes general.name, ``fields`` further keys of the header. Only ``files`` are seen by the converter, in
    a folder called ``name``, so that its guesses from names and other files are the same everywhere. Code that comes
    with a checkpoint never runs. Raises ConversionError, DiskFull.
    """
    folder = sources(say)
    say(f"writing {kind.upper()}")
    with tempfile.TemporaryDirectory(prefix="icl-convert-") as work:
        staged = Path(work) / (name.replace("/", "-").strip(". ") or "model")
        staged.mkdir()
        for file in files:
            (staged / file.name).symlink_to(file.resolve())
        job = {"folder": str(staged), "out": str(out.absolute()), "kind": kind, "name": name, "fields": dict(fields)}
        try:
            reply = _process(folder).ask(job)
        except ChildEnded as ended:
            raise ConversionError(f"{name}: llama.cpp's converter ended: {ended.last_words}") from None
    if reply["error"] is None:
        return
    if reply["no_space"]:
        raise DiskFull(f"no space left in {out.parent}; no partial file was left; free some space and repeat")
    raise ConversionError(f"{name} cannot be converted: {' '.join(reply['error'].split())[:300]}")


@functools.cache
def _process(folder: Path) -> SharedChild:
    environment = {**environment_without_secrets(), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    module = "icl_local.convert.converter_process"
    return SharedChild(lambda: ChildProcess(module, str(folder), environment=environment))
