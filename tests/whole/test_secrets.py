"""Keys come from the environment and stay there: no file, message or child process ever holds one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from icl_local.engine.protocol import EngineOptions, Request
from icl_local.engine.worker import Worker
from tests.faulty_server import FaultyServer
from tests.judge_rows import database, response_rows

KEYS = {
    "OPENAI_API_KEY": "sk-trust-0123456789",
    "OPENAI_ADMIN_KEY": "sk-admin-0123456789",
    "HF_TOKEN": "hf_trust0123456789",
    "ANTHROPIC_API_KEY": "sk-ant-0123456789",
    "AWS_SECRET_ACCESS_KEY": "aws0123456789",
    "OPENAI_CUSTOM_HEADERS": "x-auth: header0123456789",
}
processes = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="no /proc on this system")


@processes
def test_llama_cpp_s_process_is_given_no_key(tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("ICL_TRUST_MARK", "kept")
    with Worker(tiny_gguf, EngineOptions(parallel=1)) as worker:
        exposed = Path(f"/proc/{worker.pid}/environ").read_bytes() + Path(f"/proc/{worker.pid}/cmdline").read_bytes()
        assert list(worker.generate([Request("a", "Say it", 4)]))
    assert b"ICL_TRUST_MARK=kept" in exposed
    assert [name for name, value in KEYS.items() if value.encode() in exposed] == []


@processes
def test_a_judge_s_key_is_in_no_file_no_message_and_no_process_list(tmp_path: Path) -> None:
    """The server answers with the key in its errors; the command ends in a crash with its traceback shown."""
    database(tmp_path / "x.duckdb", response_rows(4))
    with FaultyServer(script=["ok", "echo_key", "401"], mix={"401": 1}, latency=0.05) as server:
        address = server.url.replace("://", "://user:pass-0123456789@")
        command = [sys.executable, "-m", "icl_local", "--debug", "judge", "--judge", "openai:faulty-1"]
        process = subprocess.Popen(
            [*command, "--concurrency", "1", "--db", "x.duckdb"],
            cwd=tmp_path,
            env={**os.environ, **KEYS, "OPENAI_BASE_URL": address},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        command_line = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        said = b"".join(process.communicate(timeout=120))
    assert process.returncode == 1
    assert b"401" in said or b"key" in said
    kept = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    assert b"faulty-1" in kept
    for secret in (*KEYS.values(), "pass-0123456789"):
        assert secret.encode() not in said + kept + command_line
