"""Differences between operating systems, each under one name: locks between processes, limits of a process.

Windows lacks some of it, and each docstring says what happens there.
"""

import contextlib
import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_UNKNOWN_MEMORY = 4 * 2**30  # bytes assumed on Windows
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


class NoLocks(OSError):
    """The file system of a folder has no locks."""


@contextlib.contextmanager
def locked(file: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold a lock that one holder at a time can have on this machine; ``file`` exists meanwhile and is empty.

    The system frees the lock of a process that ends, killed or not; the file then stays until the next holder. Raises
    TimeoutError where another has the lock and not ``wait``, NoLocks where the file system has none, other OSErrors
    where the folder cannot be written.
    """
    from filelock import FileLock

    # never filelock's soft lock: it would outlive a killed process
    lock = FileLock(file, thread_local=False, fallback_to_soft=False)
    try:
        lock.acquire(blocking=wait)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            raise NoLocks(error.errno, "its file system has no locks") from error
        raise
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # Windows removes it after the release
            file.unlink()
        lock.release()


def sync_folder(folder: Path) -> None:
    """Make the names of new files in ``folder`` survive a power cut; Windows has no call for it."""
    if sys.platform == "win32":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def own_session() -> dict[str, Any]:
    """Return arguments of ``Popen`` that keep Ctrl-C from the child: the parent decides what it does."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def end_process_after(seconds: float) -> None:
    """End this process after ``seconds``, even within a call; 0 cancels that. Do nothing on Windows."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds)


def limit_process(memory_bytes: int) -> None:
    """Limit the memory of this process and keep it from writing files; not on Windows. macOS does not limit memory."""
    try:
        import resource
    except ImportError:
        return
    limits = {resource.RLIMIT_AS: memory_bytes, resource.RLIMIT_FSIZE: 0, resource.RLIMIT_CORE: 0}
    for limit, value in limits.items():
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(limit, (value, value))


def peak_memory_bytes() -> int:
    """Return the largest resident memory of this process so far; 0 on Windows."""
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def total_memory_bytes() -> int:
    """Return the memory of this machine; 4 GiB on Windows."""
    if not hasattr(os, "sysconf"):
        return _UNKNOWN_MEMORY
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def usable_cpus() -> int:
    """Return the logical processors that this process may use; all of them where the system does not say."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_umask_lock = threading.Lock()
_umask_users = 0
_umask_before = 0


@contextlib.contextmanager
def private_files() -> Iterator[None]:
    """Make files created meanwhile 0600, for libraries that take no mode: DuckDB creates its log at any time."""
    global _umask_users, _umask_before
    with _umask_lock:
        if _umask_users == 0:
            _umask_before = os.umask(0o077)
        _umask_users += 1
    try:
        yield
    finally:
        with _umask_lock:
            _umask_users -= 1
            if _umask_users == 0:
                os.umask(_umask_before)
