"""Locks between processes, and the package where the system is Windows."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest

from icl_local.exceptions import ConfigError
from icl_local.files import result_at
from icl_local.operating_system import locked

HOLDER = """
import sys, time
from pathlib import Path
from icl_local.operating_system import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""
COUNTER = """
import sys
from pathlib import Path
from icl_local.operating_system import locked
count = Path(sys.argv[1])
for _ in range(40):
    with locked(count.with_suffix(".lock")):
        count.write_text(str(int(count.read_text()) + 1))
"""
# What Windows' Python lacks; the libraries are imported before, as they have their own ways there.
WINDOWS = """
import importlib, os, pkgutil, signal, sys
import click, duckdb, filelock, huggingface_hub, jinja2, llama_cpp, numpy, openai, rich
for name in ("fcntl", "grp", "pwd", "resource", "termios"):
    sys.modules[name] = None
for name in ("SIGALRM", "SIGHUP", "SIGKILL", "SIGUSR1", "setitimer", "ITIMER_REAL", "alarm", "pthread_sigmask"):
    delattr(signal, name)
for name in ("fork", "getpgid", "getuid", "killpg", "sched_getaffinity", "sysconf", "O_CLOEXEC", "O_NOFOLLOW"):
    delattr(os, name)
import icl_local
for module in pkgutil.walk_packages(icl_local.__path__, "icl_local."):
    if not module.name.endswith(("__main__", "dpo.trainer")):  # the trainer loads torch and TRL
        importlib.import_module(module.name)
"""


def test_a_lock_has_one_holder_and_ends_with_a_killed_process(tmp_path: Path) -> None:
    file = tmp_path / "x.lock"
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(file)], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    with holder.stdout:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(TimeoutError), locked(file, wait=False):
            pass
        holder.kill()
        holder.wait()
    with locked(file, wait=False), pytest.raises(TimeoutError), locked(file, wait=False):
        pass
    assert not file.exists()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def test_a_file_system_without_locks_is_called_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    fcntl = pytest.importorskip("fcntl")
    monkeypatch.setattr(fcntl, "flock", Mock(side_effect=OSError(number, os.strerror(number))))
    message = f"{tmp_path}: its file system has no locks; choose another place with -o"
    with pytest.raises(ConfigError, match=message), result_at(tmp_path), locked(tmp_path / "x.lock", wait=False):
        pass


def test_processes_that_wait_for_a_lock_hold_it_one_after_another(tmp_path: Path) -> None:
    count = tmp_path / "count"
    count.write_text("0")
    processes = [subprocess.Popen([sys.executable, "-c", COUNTER, str(count)]) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert count.read_text() == "120"


def test_every_module_imports_without_what_windows_lacks() -> None:
    done = subprocess.run([sys.executable, "-c", WINDOWS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
