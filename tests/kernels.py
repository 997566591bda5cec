"""What llama.cpp's kernels compute on this machine, seen without the engine's batching."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from icl_local.engine.protocol import EngineOptions
from icl_local.engine.sequences import BatchToken

if TYPE_CHECKING:
    from icl_local.engine.llama import LlamaModel

_PROMPT = 40  # tokens


@contextmanager
def _loaded(path: Path, *, repack: bool) -> Iterator[LlamaModel]:
    from icl_local.engine.llama import LlamaModel  # which loads llama.cpp

    model = LlamaModel(path, EngineOptions(repack=repack))
    try:
        yield model
    finally:
        model.close()


def agreeing_rows(path: Path, *, repack: bool) -> int:
    """Return the smallest batch from which on one decoded token has the logits it has in a batch of 16."""
    found: dict[int, list[bytes]] = {}
    with _loaded(path, repack=repack) as model:
        for n in (1, 2, 4, 8, 16):
            model.open(n_sequences=16, n_ctx_seq=256)
            model.decode([BatchToken(40 + s, s, 0, True) for s in range(n)])
            found[n] = [model.logits(i).tobytes() for i in range(n)]
    agree = [n for n in found if all(a == b for a, b in zip(found[n], found[16], strict=False))]
    return next(n for n in found if all(m in agree for m in found if m >= n))


def chunks_agree(path: Path, *, repack: bool) -> bool:
    """Return whether a prompt has the same logits decoded in chunks of 2, 10 and all of its tokens."""
    found = set()
    with _loaded(path, repack=repack) as model:
        for size in (2, 10, _PROMPT):
            model.open(n_sequences=2, n_ctx_seq=256)
            for start in range(0, _PROMPT, size):
                model.decode([BatchToken(40 + at, 0, at, True) for at in range(start, start + size)])
            found.add(model.logits(size - 1).tobytes())
    return len(found) == 1


def skip_unless_exact(path: Path) -> None:
    """Skip where the kernels for this file differ with the number of rows, from two on: a matter of the CPU."""
    if agreeing_rows(path, repack=True) > 2 or not chunks_agree(path, repack=True):
        pytest.skip("on this machine the kernels for this file differ with the number of rows")
