"""Workers on a real Ray cluster of several nodes on this machine, and what remains when one of them dies."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from icl_local import store
from icl_local.engine import Completion, EngineInfo, Request, Worker
from icl_local.exceptions import ClusterError, EngineError
from icl_local.prompting.queries import Query, QuerySet
from icl_local.running import run
from icl_local.running.cells import Cell, Decoding, plan_cells
from icl_local.running.cluster import _Shares, _together, open_cluster
from icl_local.weights.registry import resolve
from tests.running.conftest import OPTIONS

DECODING = Decoding(max_tokens=12)


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """Three nodes of one CPU each; the third is not the head."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster as Nodes

    small = {"num_cpus": 1, "object_store_memory": 80 << 20, "include_dashboard": False}
    nodes = Nodes(initialize_head=True, head_node_args=small)
    nodes.mortal = [nodes.add_node(**small) for _ in range(2)]
    yield nodes
    nodes.shutdown()


def cells(model: Path, n: int = 32) -> list[Cell]:
    sets = [
        QuerySet(
            "q", "q.jsonl", None, tuple(Query("q", str(i), lang, f"{lang}: tell {i} tales", "multi") for i in range(n))
        )
        for lang in ("en", "es")
    ]
    return plan_cells([str(model)], ["zero-shot", "instruct"], sets)


def rows(database: Path) -> dict[str, tuple[str, str, bool]]:
    found = store.query(database, "select response_id, raw_text, finish_reason, exact from responses").rows
    return {key: (text, reason, exact) for key, text, reason, exact in found}


def test_a_cluster_judges_as_one_process_does(nodes: Any, model: Path) -> None:
    file = resolve(str(model), method_kind="chat")
    requests = [Request(str(i), f"Say {i}", 6) for i in range(10)]
    with open_cluster(nodes.address, worker_cpus=1) as cluster:
        together = {c.id: c.raw_text for c in cluster.worker(file, OPTIONS).generate(requests)}
    with Worker(model, OPTIONS) as one:
        assert together == {c.id: c.raw_text for c in one.generate(requests)}


def test_long_prompts_are_counted_on_a_cluster_too(nodes: Any, model: Path) -> None:
    file = resolve(str(model), method_kind="completion")
    texts = ["Say a", "Say a and b"]
    with open_cluster(nodes.address, worker_cpus=1) as cluster, Worker(model, OPTIONS) as one:
        assert cluster.worker(file, OPTIONS).count_tokens(texts) == one.count_tokens(texts)


def test_sigterm_still_ends_a_run_as_ctrl_c_does(nodes: Any) -> None:
    """Ray sets a handler of its own, with which ``icl run --cluster`` would exit with 15 instead of 143."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with open_cluster(nodes.address, worker_cpus=1):
            assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler
        assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_run_ends_if_only_nodes_remain_that_its_setting_is_not_for(
    nodes: Any, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_cluster(nodes.address, worker_cpus=1) as cluster:
        many = cluster.worker(resolve(str(model), method_kind="completion"), OPTIONS)
        many.settings = {("another kind of node",): {}}
        monkeypatch.setattr("icl_local.running.cluster.READY_SECONDS", 0.0)
        with pytest.raises(ClusterError, match="the same command resumes"):
            list(many.generate([Request("a", "Say a", 1)]))


def test_with_the_probe_on_a_killed_node_changes_no_row(nodes: Any, model: Path, tmp_path: Path) -> None:
    alone, many = tmp_path / "alone.duckdb", tmp_path / "many.duckdb"
    made, notes = 0, []

    def kill_one(event: run.Event) -> None:
        nonlocal made
        made += event.kind == "response"
        if event.kind == "note":
            notes.append(event.message)
        if event.kind == "response" and made == 20:
            nodes.remove_node(nodes.mortal[-1], allow_graceful=False)

    with open_cluster(nodes.address, worker_cpus=1) as cluster:
        assert len(cluster.actors) == 3
        results = run.run_cells(
            many, cells(model), decoding=DECODING, options=OPTIONS, nodes=cluster, on_event=kill_one
        )
    assert [(result.status, result.n_verified, result.n_differing) for result in results] == [("done", 3, 0)] * 4
    assert sum("probing" in note for note in notes) == 1
    assert made == 4 * 32
    run.run_cells(alone, cells(model), decoding=DECODING, options=OPTIONS)
    assert rows(many) == rows(alone)
    assert len(rows(many)) == 4 * 32
    assert {exact for _, _, exact in rows(many).values()} == {True}


def test_a_cell_of_different_nodes_names_all_their_cpus() -> None:
    info = EngineInfo("b1", "avx2")
    assert _together([info, replace(info, cpu_features="avx512")]).cpu_features == "avx2 | avx512"
    assert _together([info, info]) == info


def test_the_error_without_a_cluster_says_how_to_start_one() -> None:
    pytest.importorskip("ray")
    with pytest.raises(ClusterError, match="ray start --head"), open_cluster("127.0.0.1:1"):
        pass


def test_shares_shrink_and_never_give_a_finished_request_again() -> None:
    work = _Shares([Request(str(i), "x") for i in range(100)])
    first = work.take(work.fair(2, {"parallel": 4}))
    assert len(first) == 25
    assert len(work.take(work.fair(2, {"parallel": 4}))) == 19
    assert work.finish(Completion("0", "", "eog", 1, 0))
    assert not work.finish(Completion("0", "", "eog", 1, 0))
    work.again({request.id: request for request in first}, "lost", weight=1)
    assert "0" not in {request.id for request in work.todo}
    assert len(work.todo) == 100 - 19 - 1
    assert work.fair(2, {"parallel": 64}) == 64


def test_a_request_that_kills_llama_cpp_twice_is_given_up() -> None:
    work = _Shares([Request("a", "x")])
    share = {"a": work.take(1)[0]}
    work.again(share, "GGML_ASSERT", weight=2)
    with pytest.raises(EngineError, match="GGML_ASSERT"):
        work.again(share, "GGML_ASSERT", weight=2)
