"""The benchmark on a tiny file: every contender does the same work; and memory that does not grow with the run."""

from __future__ import annotations

import http.server
import json
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner

from icl_local import bench
from icl_local.bench.bench import SHAPES
from icl_local.cli import icl
from icl_local.engine.protocol import EngineOptions, Request
from icl_local.engine.worker import Worker
from icl_local.prompting import queries
from icl_local.weights.gguf_file import read_info


def test_contenders_generate_the_same_number_of_tokens(tiny_gguf: Path) -> None:
    some = queries.samples("en").queries[:3]
    results = bench.compare(tiny_gguf, some, max_tokens=6, parallels=(1, 2), contenders=("create_completion", "server"))
    found = {(r.contender, r.parallel): r for r in results if not r.contender.startswith("limit")}
    assert set(found) == {
        ("icl-local", 1),
        ("icl-local", 2),
        ("create_completion", 1),
        ("server (llama-cpp-python), cold", 1),
        ("server (llama-cpp-python), warm", 1),
    }
    assert {r.error for r in results} == {None}
    assert {r.new_tokens for r in found.values()} <= {18, 21}  # llama-cpp-python counts one more a prompt
    assert found["icl-local", 2].new_tokens == 18
    assert all(r.tokens_per_second > 0 for r in results)


def test_the_command_times_a_random_model_of_a_known_shape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"layers": 2, "embd": 64, "heads": 4, "kv_heads": 2, "ff": 128, "vocab": 49_280}
    monkeypatch.setitem(SHAPES, "1b", small)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    arguments = ["--shape", "1b", "--type", "q8_0", "--limit", "2", "--max-tokens", "3", "--at-once", "1,2"]
    arguments += ["--contenders", "create_completion", "--format", "json", "--db", str(tmp_path / "x.duckdb")]
    files = {}
    for runs in (1, 2):
        result = CliRunner().invoke(icl, ["machine", "bench", *arguments, "--runs", str(runs)])
        assert result.exit_code == 0, result.output
        found = {(row["contender"], row["at once"]): row for row in json.loads(result.stdout)}
        assert {("icl-local", 1), ("icl-local", 2), ("create_completion", 1)} <= set(found)
        assert all(row["error"] is None and row["tokens/s"] > 0 for row in found.values())
        assert found["create_completion", 1]["x loop"] == pytest.approx(1)
        assert found["create_completion", 1]["range x loop"] == (None, "1.0 to 1.0")[runs - 1]
        assert [row for row in found.values() if (row["range"] is None) != (runs == 1)] == []
        built = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "icl-local" / "bench").iterdir()}
        assert files in ({}, built)  # made once
        files = built
    assert set(files) == {"random-1b.f16.gguf", "random-1b.q8_0.gguf"}
    info = read_info(tmp_path / "icl-local" / "bench" / "random-1b.q8_0.gguf")
    block = 2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 128 + 2 * 64
    assert (info.quantization, info.parameters) == ("Q8_0", 49_280 * 64 + 64 + 2 * block)


def test_a_contender_that_fails_has_its_error_and_no_rate(tiny_gguf: Path) -> None:
    result = bench.compare(
        tiny_gguf, queries.samples("en").queries[:1], max_tokens=2, parallels=(1,), contenders=(),
        servers=("http://127.0.0.1:9/v1",),
    )[-1]  # fmt: skip
    assert result.error
    assert result.tokens_per_second == 0


@pytest.mark.parametrize(
    ("printed", "rate", "error"),
    [
        ('{"pp": 9, "t": 2.0, "speed_tg": 40.0}', 40.0, None),
        ("cannot load the model", None, "llama-batched-bench wrote no result"),
    ],
)
def test_llama_batched_bench_is_a_limit_beside_the_others(
    tmp_path: Path, tiny_gguf: Path, printed: str, rate: float | None, error: str | None
) -> None:
    program = tmp_path / "llama-batched-bench"
    program.write_text(f"#!/bin/sh\necho \"$@\" >'{tmp_path}/arguments'\necho '{printed}'\n")
    program.chmod(0o755)
    some = queries.samples("en").queries[:2]
    result = bench.compare(tiny_gguf, some, max_tokens=3, parallels=(2,), contenders=(), batched_bench=program)[-1]
    assert (result.contender, result.parallel, result.decode_rate, result.error) == (program.name, 2, rate, error)
    assert "-ntg 3 -npl 2" in (tmp_path / "arguments").read_text()


class Slots(http.server.BaseHTTPRequestHandler):
    """A server that keeps the prompts it got, and answers once as many requests wait as are expected."""

    protocol_version = "HTTP/1.1"
    prompts: list[str]
    at_once: threading.Barrier

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if "Hello there." not in body["prompt"]:
            self.prompts.append(body["prompt"])
            self.at_once.wait()
        usage = {"prompt_tokens": 1, "completion_tokens": body["max_tokens"], "total_tokens": 1}
        choice = {"text": "x", "index": 0, "finish_reason": "length", "logprobs": None}
        reply = {
            "id": "1",
            "object": "text_completion",
            "created": 0,
            "model": "m",
            "choices": [choice],
            "usage": usage,
        }
        content = json.dumps(reply).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


def test_a_server_gets_as_many_requests_at_once_as_the_engine_cold_and_warm(
    tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Slots, "prompts", [], raising=False)
    monkeypatch.setattr(Slots, "at_once", threading.Barrier(2), raising=False)  # blocks while one comes alone
    some = queries.samples("en").queries[:4]
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slots) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        results = bench.compare(tiny_gguf, some, max_tokens=2, parallels=(2, 4), contenders=(), servers=(url,))[-4:]
        server.shutdown()
    states = [(r.contender, r.parallel, r.new_tokens, r.error) for r in results]
    assert states == [(f"{url}, {state}", n, 8, None) for n in (2, 4) for state in ("cold", "warm")]
    cold, warm, again, _ = (sorted(Slots.prompts[i : i + 4]) for i in range(0, 16, 4))
    assert cold == warm
    assert len({prompt.partition("\n")[0] for prompt in cold}) == 1
    assert cold[0].partition("\n")[0] != again[0].partition("\n")[0]
    assert [prompt.partition("\n")[2] for prompt in cold] == [prompt.partition("\n")[2] for prompt in again]


def resident_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmRSS")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads resident memory from /proc")
def test_memory_does_not_grow_between_query_100_and_query_1000(tiny_gguf: Path) -> None:
    requests = [Request(str(i), f"{'lorem ipsum ' * (1 + i % 8)} number {i}", 3) for i in range(1000)]
    with Worker(tiny_gguf, EngineOptions(parallel=16)) as worker:
        for number, _ in enumerate(worker.generate(requests), start=1):
            if number == 100:
                early = resident_bytes(worker.pid)
        late = resident_bytes(worker.pid)
    assert late - early < 100e6
