"""Single tasks of llama.cpp on a GGUF file: tokenize texts, compute a prompt's logits, write another type.

They run in one process for all callers, started at the first call: a file on which llama.cpp aborts ends that process
and raises EngineError here, and the next task starts another. Models that generate have a process each (Worker).
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from icl_local.child_process import ChildEnded, SharedChild
from icl_local.engine.protocol import UNUSABLE_FILE
from icl_local.engine.worker import checked, ended_error, start_process
from icl_local.files import draft_file

_PROCESS = SharedChild(start_process)


def tokenize(path: Path, texts: Sequence[str], *, add_special: bool = True) -> list[list[int]]:
    """Return the token ids of each text by the file's own tokenizer; only its vocabulary is loaded.

    With ``add_special`` BOS comes first if the file asks for it. Raises EngineError.
    """
    return list(_run("tokenize", path, texts=list(texts), add_special=add_special))


def prompt_logits(path: Path, token_ids: Sequence[int]) -> NDArray[np.float32]:
    """Return the logits [n_tokens, n_vocab] of every position of one prompt. Raises EngineError."""
    with tempfile.TemporaryDirectory(prefix="icl-logits-") as folder:
        out = Path(folder) / "logits.npy"
        _run("write_prompt_logits", path, token_ids=list(map(int, token_ids)), out=str(out))
        return np.asarray(np.load(out), dtype=np.float32)


def quantize(source: Path, target: Path, type_name: str, *, allow_requantize: bool = False) -> None:
    """Write ``source`` in another type to ``target``, whole or not at all.

    Raises ConfigError for an unknown type, EngineError if llama.cpp refuses: a quantised source needs
    ``allow_requantize``.
    """
    options = {"type_name": type_name, "allow_requantize": allow_requantize}
    with draft_file(target, unique=False) as draft:
        _run("quantize", source, target=str(draft.absolute()), **options)


def file_types() -> list[str]:
    """Return the lower-case names of the types that ``quantize`` can write."""
    return sorted(_run("file_types"))


def system_info() -> dict[str, str]:
    """Return facts about llama.cpp's build: llama_build, cpu_features, gpu (true | false), package, system.

    Raises EngineError if it cannot be loaded.
    """
    return dict(_run("system_info"))


def _run(name: str, path: Path | None = None, **arguments: Any) -> Any:
    if path is not None:
        arguments["path"] = str(path.absolute())  # the process keeps the working directory it was started in
    try:
        return checked(_PROCESS.ask({"do": "task", "name": name, **arguments}))["result"]
    except ChildEnded as ended:
        raise ended_error(ended, path, "reinstall llama-cpp-python" if path is None else UNUSABLE_FILE) from None
