"""The engine for real: llama.cpp in its worker process, on a tiny random file and on the embedded model."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import gguf
import pytest

from icl_local import engine, prompting
from icl_local.engine.protocol import EngineOptions, Request
from icl_local.engine.worker import Worker
from icl_local.exceptions import ConfigError, EngineError, ModelError
from icl_local.prompting import queries
from tests import rewritten_gguf

PROMPTS = [f"The story number {i} begins {'far ' * (3 * i + 1)}away" for i in range(12)]


def requests(*, max_tokens: int = 24, n: int = 12) -> list[Request]:
    return [Request(str(i), prompt, max_tokens) for i, prompt in enumerate(PROMPTS[:n])]


@pytest.fixture(scope="module")
def tiny_worker(tiny_gguf: Path) -> Iterator[Worker]:
    with Worker(tiny_gguf, EngineOptions(trace=True)) as worker:
        yield worker


def test_batches_give_the_tokens_and_logits_of_one_at_a_time(tiny_worker: Worker) -> None:
    alone = {c.id: c for c in tiny_worker.generate(requests(), parallel=1, share_prefix=False)}
    for parallel in (2, 5, 8):
        together = {c.id: c for c in tiny_worker.generate(requests()[::-1], parallel=parallel)}
        assert together == alone
    assert all(len(c.digests) == c.new_tokens > 0 for c in alone.values())


def test_a_prompt_longer_than_a_batch_is_decoded_in_chunks(tiny_worker: Worker) -> None:
    long = Request("long", "word " * 700, 8)
    (small,) = tiny_worker.generate([long], n_ubatch=64)
    (large,) = tiny_worker.generate([long], n_ubatch=2048)
    assert small.tokens == large.tokens
    assert small.prompt_tokens > 1024


def test_leaving_early_stops_the_worker_and_the_next_call_is_clean(tiny_worker: Worker) -> None:
    for completion in tiny_worker.generate(requests(max_tokens=200), parallel=2):
        assert completion.new_tokens > 0
        break
    assert tiny_worker.stats.interrupted
    assert len(list(tiny_worker.generate(requests()))) == 12


def test_a_grammar_constrains_the_answer(tiny_worker: Worker) -> None:
    grammar = 'root ::= "{\\"score\\": \\"" [1-5] "\\"}"'
    (done,) = tiny_worker.generate([Request("g", "Score:", 64, grammar=grammar)])
    assert json.loads(done.raw_text)["score"] in "12345"
    assert done.finish_reason == "eog"


def test_probabilities_of_scores_are_equal_bit_for_bit_in_batches(byte_gguf: Path) -> None:
    verdict = 'root ::= "{\\"reason\\": \\"" [a-z]{1,4} "\\", \\"score\\": " ([1-5] | "\\"N/A\\"") "}"'
    asked = [Request(str(i), prompt, 64, grammar=verdict) for i, prompt in enumerate(PROMPTS)]
    with Worker(byte_gguf) as worker:
        alone = {done.id: done for done in worker.generate(asked, parallel=1, share_prefix=False)}
        together = {done.id: done for done in worker.generate(asked, parallel=16)}
    assert {name: done.probabilities for name, done in together.items()} == {
        name: d.probabilities for name, d in alone.items()
    }
    for done in alone.values():
        ((*values, undecided),) = done.probabilities
        assert undecided == 0  # the vocabulary is bytes, and the space is the grammar's
        assert sum(values) == pytest.approx(1, abs=1e-12)
        assert [1, 2, 3, 4, 5, "N/A"][values.index(max(values))] == json.loads(done.raw_text)["score"]


def test_a_grammar_that_does_not_parse_is_an_expected_error(tiny_worker: Worker) -> None:
    with pytest.raises(ConfigError, match="grammar"):
        list(tiny_worker.generate([Request("g", "x", 4, grammar="root ::= (")]))


def generate_and_signal(worker: Worker, number: signal.Signals) -> None:
    for _ in worker.generate(requests(max_tokens=400), parallel=2):
        os.kill(worker.pid, number)


def test_a_worker_that_dies_is_an_expected_error(tiny_gguf: Path) -> None:
    with Worker(tiny_gguf) as worker:
        with pytest.raises(EngineError, match="SIGKILL"):
            generate_and_signal(worker, signal.SIGKILL)
        with pytest.raises(EngineError):
            list(worker.generate(requests()))


def test_an_abort_inside_llama_cpp_is_an_expected_error(tiny_gguf: Path) -> None:
    with Worker(tiny_gguf) as worker, pytest.raises(EngineError, match="SIGABRT"):
        generate_and_signal(worker, signal.SIGABRT)


def test_a_worker_ends_with_its_parent(tiny_gguf: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from icl_local.engine.worker import Worker\n"
        "worker = Worker(Path(sys.argv[1])); print(worker.pid, flush=True); sys.stdin.read()"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(tiny_gguf)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.communicate()
    _wait_for_end(pid)


def _wait_for_end(pid: int) -> None:
    """Return once a process that is not a child has ended."""
    with contextlib.suppress(ProcessLookupError):
        if sys.platform == "linux":
            handle = os.pidfd_open(pid)
            select.select([handle], [], [])
            os.close(handle)
        else:
            end = select.kevent(pid, select.KQ_FILTER_PROC, select.KQ_EV_ADD, select.KQ_NOTE_EXIT)
            select.kqueue().control([end], 1)


def test_a_file_that_is_not_gguf_never_reaches_llama_cpp(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"no model" * 100)
    with pytest.raises(ModelError, match=r"model\.gguf"):
        Worker(path)


def test_gpu_layers_without_a_gpu_build_is_an_expected_error(tiny_gguf: Path) -> None:
    if engine.system_info()["gpu"] == "true":
        pytest.skip("this build offloads")
    with pytest.raises(ConfigError, match="GPU"):
        Worker(tiny_gguf, EngineOptions(gpu_layers=4))


def test_more_threads_than_processors_are_an_expected_error(tiny_gguf: Path) -> None:
    with pytest.raises(ConfigError, match=r"--threads 9999: this machine has \d+ processors?; give fewer"):
        Worker(tiny_gguf, EngineOptions(threads=9999))


def study_prompts(n_tokens: int) -> list[Request]:
    """URIAL in three languages, one zero-shot, one longer than a batch of 512 by its query alone."""
    requests_to_make = [("en", "urial", 0), ("es", "urial", 2), ("fr", "urial", 4), ("en", "zero-shot", 1)]
    built = []
    for language, method, number in requests_to_make:
        query = queries.samples(language).queries[number]
        built.append(prompting.Recipe(method, language).prompt(query).text)
    long = "Summarise: " + " ".join(f"On day {i} the crew saw {i * 7 % 13} whales." for i in range(70))
    query = queries.Query("test", "long", "en", long, "multi")
    built.append(prompting.Recipe("zero-shot", "en").prompt(query).text)
    return [Request(str(i), text, n_tokens, ignore_eog=True) for i, text in enumerate(built)]


@pytest.fixture
def file_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Transformers reads a GGUF file four times and builds the table of names for every tensor."""
    monkeypatch.setattr(gguf, "GGUFReader", functools.cache(rewritten_gguf.GGUFReader))
    monkeypatch.setattr(gguf, "get_tensor_name_map", functools.cache(gguf.get_tensor_name_map))


@pytest.mark.usefixtures("file_read_once")
@pytest.mark.parametrize(
    "n_layers, n_tokens, first", [(3, 48, 0), (30, 16, 3), pytest.param(30, 128, 0, marks=pytest.mark.soak)]
)
def test_every_token_equals_transformers_in_fp32(
    embedded_model: Path, n_layers: int, n_tokens: int, first: int, tmp_path: Path
) -> None:
    """Of the embedded model (30 layers) every token is what Transformers' greedy search takes after the prompt
    and the tokens before it: its logits of all positions come from one forward pass, its own processor applies the
    repetition penalty. One at a time the first quarter of the tokens and their logits are the same.
    """
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForCausalLM, RepetitionPenaltyLogitsProcessor

    requests_to_make, n_alone = study_prompts(n_tokens)[first:], n_tokens // 4
    file = tmp_path / "model.gguf"
    rewritten_gguf.with_layers(embedded_model, file, n_layers)
    with Worker(file, EngineOptions(trace=True)) as worker:
        made = {c.id: c for c in worker.generate(requests_to_make, parallel=8)}
        for alone in worker.generate([replace(one, max_tokens=n_alone) for one in requests_to_make], parallel=1):
            assert alone.tokens == made[alone.id].tokens[:n_alone]
            assert alone.digests == made[alone.id].digests[:n_alone]
            assert len(alone.digests) == n_alone
    # The file's own tokenizer gives the ids: Transformers rebuilds one from GGUF without its split of digits.
    prompts = engine.tokenize(file, [request.prompt for request in requests_to_make])
    model = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=file.name, dtype=torch.float32)
    penalise = RepetitionPenaltyLogitsProcessor(1.1)
    equal = 0
    for request, ids in zip(requests_to_make, prompts, strict=True):
        assert len(ids) == made[request.id].prompt_tokens
        tokens = made[request.id].tokens
        assert len(tokens) == n_tokens
        everything = torch.tensor([[*ids, *tokens]])
        with torch.inference_mode():
            (logits,) = model(everything, logits_to_keep=len(tokens) + 1).logits
        for i, token in enumerate(tokens):
            scores = penalise(everything[:, : len(ids) + i], logits[i : i + 1].clone())
            equal += int(scores.argmax()) == token
    assert equal == len(requests_to_make) * n_tokens
