"""The exactness probe: exact where batches change nothing, not exact where they do, and not usable."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from icl_local import engine, store
from icl_local.engine import exact, llama
from icl_local.engine.protocol import Completion, EngineInfo, EngineOptions, Request, Stats
from icl_local.engine.sequences import BatchToken
from icl_local.engine.worker import Worker
from icl_local.exceptions import EngineError
from icl_local.running import probe
from icl_local.weights import registry

PROMPTS = exact.probe_prompts(5, prefix_words=60)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test knows what another one has probed."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def embedded_worker(embedded_model: Path) -> Iterator[Worker]:
    with Worker(embedded_model) as worker:
        yield worker


def test_the_embedded_file_is_exact_in_streams(embedded_worker: Worker) -> None:
    (result,) = exact.probe(
        embedded_worker,
        exact.candidates("Q4_1"),
        prompts=PROMPTS,
        n_tokens=16,
        sizes=(2, 4),
        rate_sizes=(2,),
        rate_words=60,
        first_only=True,
    )
    assert result.exact, result
    assert len(result.cases) == 5
    assert result.cases[-1] == "scored, 8 at a time"
    assert result.parallel == 2


def test_the_probe_says_no_to_one_unified_buffer(embedded_worker: Worker) -> None:
    (result,) = exact.probe(embedded_worker, [probe.UNIFIED], prompts=PROMPTS, n_tokens=16, sizes=(4,))
    assert not result.exact
    assert result.difference is not None
    assert result.rates == {}


def test_the_probe_sees_that_scores_alone_differ(exact_gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def scored(worker: Worker, requests: Sequence[Request], **how: Any) -> Iterator[Completion]:
        for done in generate(worker, requests, **how):
            changed = done.finish_reason == "scored" and how["parallel"] > 1
            yield replace(done, digests=("other", *done.digests[1:])) if changed else done

    generate = Worker.generate
    monkeypatch.setattr(Worker, "generate", scored)
    with Worker(exact_gguf) as worker:
        (result,) = exact.probe(
            worker,
            exact.candidates("F32")[:1],
            prompts=PROMPTS,
            n_tokens=4,
            sizes=(2,),
            first_only=True,
        )
    assert not result.exact
    assert result.difference == exact.Difference("scored, 8 at a time", 0, 0, False)


def test_f32_weights_are_exact_with_two_rows(tiny_gguf: Path) -> None:
    with Worker(tiny_gguf) as worker:
        results = exact.quick_probe(worker, exact.candidates("F32"))
    assert [result.exact for result in results] == [True]
    assert results[0].settings["min_rows"] == 2


class FragileWorker:
    """Generates nothing but digests; ends in the settings that ``ends`` picks, and is then gone until restarted."""

    def __init__(self, ends: Callable[[dict[str, Any]], bool], *, exact: bool = True) -> None:
        self.info = EngineInfo("build", "features", n_ctx_train=4096, n_threads=1, kv_type="f16", repack=True)
        self.stats = Stats(n_done=1, new_tokens=9, decode_seconds=1.0)
        self.restarts = 0
        self._ends, self._exact, self._gone = ends, exact, False

    def generate(self, requests: Sequence[Request], **settings: Any) -> Iterator[Completion]:
        self._gone = self._gone or self._ends(settings)
        if self._gone:
            raise EngineError("llama.cpp ended (SIGSEGV) on fragile.gguf: no message")
        digest = "same" if self._exact else str(settings["parallel"])
        for request in requests:
            yield Completion(request.id, "", "length", 1, 1, tokens=(1,), digests=(digest,))

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [1 for _ in texts]

    def restart(self) -> None:
        self._gone, self.restarts = False, self.restarts + 1


def test_a_candidate_that_ends_the_process_is_not_usable_and_the_next_gets_a_new_one() -> None:
    worker, said = FragileWorker(lambda settings: bool(settings.get("repack"))), list[str]()
    results = exact.probe(
        worker, exact.candidates("Q8_0"), prompts=PROMPTS, n_tokens=1, sizes=(2, 8), on_event=said.append
    )  # type: ignore[arg-type]
    assert [(result.settings["repack"], result.exact) for result in results] == [
        (True, False),
        (False, True),
        (True, False),
    ]
    assert worker.restarts == 2
    assert results[0].failure == "llama.cpp ended (SIGSEGV) on fragile.gguf: no message"
    assert (
        results[0].row(gguf_sha256="x", info=worker.info, created_at="now")["detail"]["failure"] == results[0].failure
    )  # type: ignore[index]
    assert f"{exact.describe(results[0].settings)}: not usable ({results[0].failure})" in said


def test_a_candidate_that_ends_after_its_rates_were_measured_has_none() -> None:
    seen = list[dict[str, Any]]()

    def ends(settings: dict[str, Any]) -> bool:
        seen.append(settings)
        return 4 in {one["parallel"] for one in seen[:-1]} and settings["parallel"] == 4

    worker = FragileWorker(ends)
    tried = exact.candidates("Q8_0")[:1]
    (result,) = exact.probe(worker, tried, prompts=PROMPTS, n_tokens=1, sizes=(2,), rate_sizes=(4,))  # type: ignore[arg-type]
    assert result.failure is not None
    assert (result.rates, result.tokens_per_second) == ({}, 0.0)


@pytest.mark.parametrize("exact_here", [True, False])
def test_a_probe_reports_its_parts_up_to_the_end_of_each_candidate(exact_here: bool) -> None:
    worker, steps = FragileWorker(lambda settings: False, exact=exact_here), list[exact.ProbeStep]()
    tried = exact.candidates("Q8_0")[:2]
    exact.probe(worker, tried, prompts=PROMPTS, n_tokens=1, sizes=(2, 8), on_step=steps.append)  # type: ignore[arg-type]
    for number in (1, 2):
        parts = [step.done for step in steps if step.candidate == number]
        assert parts[: len(PROMPTS) + 1] == list(range(len(PROMPTS) + 1))
        assert parts == sorted(parts)
        assert parts[-1] == steps[0].total
    assert {step.n_candidates for step in steps} == {2}


def test_a_quick_probe_is_timed_in_settings_that_run_here() -> None:
    worker = FragileWorker(lambda settings: settings.get("repack") is not False)
    results = exact.quick_probe(worker, exact.candidates("Q8_0"))  # type: ignore[arg-type]
    assert [(result.settings["repack"], result.exact) for result in results] == [(True, False), (False, True)]


def test_a_run_avoids_repacking_where_that_ended_the_process(tmp_path: Path, tiny_gguf: Path) -> None:
    worker = FragileWorker(lambda settings: bool(settings.get("repack")), exact=False)
    model = registry.resolve(str(tiny_gguf), method_kind="completion")
    with store.Store(tmp_path / "x.duckdb") as writer:
        for _ in range(2):  # probed, then found in the database
            setting = probe.setting_for(writer, model, worker)  # type: ignore[arg-type]
            assert setting == probe.Setting({**exact.FAST, "repack": False}, False)
    assert worker.restarts == 2


def agreeing_rows(path: Path, *, repack: bool) -> int:
    """The smallest batch from which on one decoded token has the logits it has in a batch of 16."""
    model = llama.LlamaModel(path, EngineOptions(repack=repack))
    try:
        found: dict[int, list[bytes]] = {}
        for n in (1, 2, 4, 8, 16):
            model.open(n_sequences=16, n_ctx_seq=256)
            model.decode([BatchToken(40 + s, s, 0, True) for s in range(n)])
            found[n] = [model.logits(i).tobytes() for i in range(n)]
    finally:
        model.close()
    agree = [n for n in found if all(a == b for a, b in zip(found[n], found[16], strict=False))]
    return next(n for n in found if all(m in agree for m in found if m >= n))


@pytest.mark.parametrize(("type_name", "expected"), [("q8_0", 1), ("f16", 2), ("q4_k_m", 8)])
def test_rows_from_which_kernels_agree(embedded_model: Path, tmp_path: Path, type_name: str, expected: int) -> None:
    path = tmp_path / f"{type_name}.gguf"
    engine.quantize(embedded_model, path, type_name, allow_requantize=True)
    found = agreeing_rows(path, repack=True)
    assert found <= expected, "docs/measurements.md names fewer rows"


def test_a_result_is_stored_and_found_again(tmp_path: Path, tiny_gguf: Path) -> None:
    db = tmp_path / "x.duckdb"
    how = {"method": "zero-shot", "n_prompts": 4, "n_tokens": 6, "prefix_words": 20, "sizes": (2, 8, 16)}
    results = probe.probe_model(db, str(tiny_gguf), **how, also_unified=True)
    stored = store.query(db, "select exact, n_prompts, n_tokens, file_name from probes order by exact desc").rows
    assert stored[0] == (True, 4, 6, "tiny.gguf")
    assert len(stored) == len(results) == 3  # two rows are enough here, so eight are not tried


def test_a_looping_answer_is_ended_on_request(tiny_gguf: Path) -> None:
    request = Request("a", "Say it:", 300, grammar='root ::= "again and again " root')
    with Worker(tiny_gguf) as worker:
        (whole,) = worker.generate([request])
        (stopped,) = worker.generate([request], stop_on_loop=True)
    assert whole.finish_reason == "length"
    assert stopped.finish_reason == "stopped_on_loop"
    assert stopped.new_tokens + stopped.tokens_saved == 300
    assert stopped.tokens_saved > 0
    assert whole.raw_text.startswith(stopped.raw_text)
