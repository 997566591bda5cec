"""A node of a cluster without Ray: its file, and what it hands over."""

from __future__ import annotations

from pathlib import Path

import pytest

from icl_local.engine.protocol import Completion, Request, Stats
from icl_local.exceptions import ModelError
from icl_local.identity import sha256_file
from icl_local.running.cluster_node import Load, NodeWorker
from tests.running.conftest import OPTIONS


def test_another_file_under_the_same_path_is_refused(model: Path) -> None:
    node = NodeWorker()
    with pytest.raises(ModelError, match="differs from the file here"):
        node.load(Load(model, "0" * 64, "file", OPTIONS))
    with pytest.raises(ModelError, match="no /nowhere"):
        node.load(Load(Path("/nowhere/x.gguf"), "0" * 64, "file", OPTIONS))


def test_a_node_hands_over_finished_completions_and_then_reports_that_it_is_done(model: Path) -> None:
    node = NodeWorker()
    node.load(Load(model, sha256_file(model), "file", OPTIONS))
    *found, stats = node.generate([Request(str(i), f"Say {i}", 4) for i in range(6)], {})
    node.unload()
    assert sorted(c.id for c in found if isinstance(c, Completion)) == [str(i) for i in range(6)]
    assert isinstance(stats, Stats)
    assert stats.n_done == 6
