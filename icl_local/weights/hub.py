"""Files from the Hugging Face hub: pinned to a commit, resumed after a kill, checked before they are used.

``hf:owner/repo/file.gguf[@revision]`` names a file. The revision is resolved to a commit, which is what gets recorded;
the bytes are compared with the checksum the hub publishes (SHA-256 for LFS and Xet files, git's SHA-1 for small ones).
The file ends up in huggingface_hub's own cache, where every other tool finds it.

The transfer itself is done here: hf_hub_download (2.4) throws a partial file away when its process ends and compares
sizes only, which costs gigabytes after each Ctrl-C. The partial file is kept beside its final place, continued with a
Range request, and renamed once its checksum is right.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import fnmatch
import hashlib
import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import urlsplit

from icl_local.exceptions import DiskFull, HubError, IclError
from icl_local.files import draft_file
from icl_local.identity import sha256_file
from icl_local.weights.checksum import OnBytes, remember, sha256_of

if TYPE_CHECKING:
    from huggingface_hub import HfFileMetadata

JUST_EVAL_REPO = "re-align/just-eval-instruct"
JUST_EVAL_FILE = "test_all_with_tags.jsonl"

_REFERENCE = re.compile(r"hf:(?P<repo>[\w.-]+/[\w.-]+)/(?P<file>[^@]+)(?:@(?P<revision>.+))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_CHUNK_BYTES = 1 << 20
_ATTEMPTS = 5  # in a row without a single new byte
_RETRY_SECONDS = 1.0
_SPARE_BYTES = 100 << 20  # left free on the disk beside the file


@dataclass(frozen=True)
class HubFile:
    """One file of one commit, checked and on this disk. ``sha256`` is None only for small files kept by git."""

    path: Path
    repo: str
    filename: str
    commit: str
    sha256: str | None

    @property
    def source(self) -> str:
        """What is recorded of it: hf:owner/repo/file@commit."""
        return f"hf:{self.repo}/{self.filename}@{self.commit}"

    def copy_to(self, target: Path) -> None:
        """Copy the file out of the cache; one that is there with other contents stays. Raises HubError."""
        try:
            if target.exists():
                if sha256_file(target) != sha256_file(self.path):
                    raise HubError(f"{target} exists and is another file; move it away, or name another with --out")
                return
            with draft_file(target, unique=False) as draft:
                shutil.copyfile(self.path, draft)
        except OSError as error:
            raise HubError(f"{target}: cannot be written ({error.strerror})") from error


@dataclass(frozen=True)
class HubFolder:
    """Files of one commit, each checked, in one folder of this disk."""

    path: Path
    repo: str
    commit: str

    @property
    def source(self) -> str:
        """What is recorded of it: hf:owner/repo@commit."""
        return f"hf:{self.repo}@{self.commit}"


@dataclass(frozen=True)
class _Wanted:
    repo: str
    filename: str
    revision: str | None
    repo_type: str

    def __str__(self) -> str:
        file = f"/{self.filename}" if self.filename else ""
        return f"hf:{self.repo}{file}" + (f"@{self.revision}" if self.revision else "")

    @property
    def page(self) -> str:
        return f"https://huggingface.co/{'datasets/' if self.repo_type == 'dataset' else ''}{self.repo}"


def fetch(reference: str, *, on_progress: OnBytes | None = None) -> HubFile:
    """The model file that ``hf:owner/repo/file.gguf[@revision]`` names. Raises HubError or DiskFull."""
    return _fetch(_parse(reference), on_progress)


def fetch_dataset_file(
    repo: str, filename: str, *, revision: str | None = None, on_progress: OnBytes | None = None
) -> HubFile:
    """One file of a dataset repository, with the same guarantees. Raises HubError or DiskFull."""
    return _fetch(_Wanted(repo, filename, revision, "dataset"), on_progress)


def fetch_folder(
    repo: str, patterns: Sequence[str], *, revision: str | None = None, on_progress: OnBytes | None = None
) -> HubFolder:
    """The files of a model repository whose names match one of ``patterns`` (fnmatch), such as a checkpoint's.

    Same guarantees, file by file. Raises HubError (also where nothing matches) or DiskFull.
    """
    from huggingface_hub import HfApi, constants, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HTTPError, OfflineModeIsEnabled  # type: ignore[attr-defined]

    wanted = _Wanted(repo, "", revision, "model")
    with _told(wanted):
        commit = _commit(wanted)
        try:
            names = HfApi(endpoint=constants.ENDPOINT).list_repo_files(repo, revision=commit)
        except (HTTPError, OfflineModeIsEnabled) as error:
            if isinstance(error, HfHubHTTPError):
                raise
            cache = constants.HF_HUB_CACHE
            kept = snapshot_download(repo, revision=commit, cache_dir=cache, local_files_only=True)
            return HubFolder(Path(kept), repo, commit)
    names = [name for name in names if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]
    if not names:
        raise HubError(f"{wanted}: the repository has no file like {', '.join(patterns)}; see {wanted.page}/tree/main")
    files = [_fetch(_Wanted(repo, name, commit, "model"), on_progress) for name in names]
    folder = files[0].path.parents[names[0].count("/")]
    return HubFolder(folder, repo, commit)


def fetch_just_eval(*, on_progress: OnBytes | None = None) -> HubFile:
    """The 1,000 queries of Just-Eval-Instruct, JSON lines. Raises HubError or DiskFull."""
    return fetch_dataset_file(JUST_EVAL_REPO, JUST_EVAL_FILE, on_progress=on_progress)


def cached(reference: str) -> Path | None:
    """Where the model file ``reference`` lies in the cache, None where it is not; asks no server."""
    return _in_cache(_parse(reference))


def cached_just_eval() -> Path | None:
    """Where Just-Eval-Instruct lies in the cache, None where it is not; asks no server."""
    return _in_cache(_Wanted(JUST_EVAL_REPO, JUST_EVAL_FILE, None, "dataset"))


def _parse(reference: str) -> _Wanted:
    match = _REFERENCE.fullmatch(reference)
    if match is None or ".." in match["file"].split("/"):
        raise HubError(f"{reference!r} is not hf:owner/repo/file.gguf or hf:owner/repo/file.gguf@revision")
    return _Wanted(match["repo"], match["file"], match["revision"], "model")


def _in_cache(wanted: _Wanted) -> Path | None:
    from huggingface_hub import constants, try_to_load_from_cache

    found = try_to_load_from_cache(
        wanted.repo,
        wanted.filename,
        cache_dir=constants.HF_HUB_CACHE,
        revision=wanted.revision,
        repo_type=wanted.repo_type,
    )
    return Path(found) if isinstance(found, str) else None


def _fetch(wanted: _Wanted, on_progress: OnBytes | None) -> HubFile:
    with _told(wanted):
        commit = _commit(wanted)
        pinned = _Wanted(wanted.repo, wanted.filename, commit, wanted.repo_type)
        path = _in_cache(pinned)
        if path is not None:
            return HubFile(path, wanted.repo, wanted.filename, commit, _verified_cached(path, pinned, on_progress))
        return _download(pinned, on_progress)


def _commit(wanted: _Wanted) -> str:
    """The commit that the wanted revision is now, or was when the hub was last reached."""
    from huggingface_hub import HfApi, constants

    api = HfApi(endpoint=constants.ENDPOINT)
    commit = api.resolve_revision(
        wanted.repo, repo_type=wanted.repo_type, revision=wanted.revision, cache_dir=constants.HF_HUB_CACHE
    ).resolved
    if not _COMMIT.fullmatch(commit):
        raise HubError(f"{wanted}: the server names {commit!r} as its commit; check HF_ENDPOINT")
    return commit


def _verified_cached(path: Path, wanted: _Wanted, on_progress: OnBytes | None) -> str | None:
    """SHA-256 of a file found in the cache, after comparing it with the checksum its blob is named by."""
    blob = path.resolve()
    if blob.parent.name != "blobs" or len(blob.name) != 64:
        return None
    digest = sha256_of(blob, on_progress=on_progress)
    if digest != blob.name:
        aside = blob.with_name(blob.name + ".damaged")
        os.replace(blob, aside)
        path.unlink(missing_ok=True)
        raise HubError(f"{wanted}: the cached copy is damaged; it was set aside as {aside}; run again to fetch it anew")
    return digest


def _download(wanted: _Wanted, on_progress: OnBytes | None) -> HubFile:
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.file_download import repo_folder_name

    url = hf_hub_url(
        wanted.repo,
        wanted.filename,
        repo_type=wanted.repo_type,
        revision=wanted.revision,
        endpoint=constants.ENDPOINT,
    )
    metadata = get_hf_file_metadata(url, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    etag = metadata.etag or ""
    if not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", etag) or metadata.size is None:
        raise HubError(f"{wanted}: the server publishes no checksum or size for it; check HF_ENDPOINT")
    folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=wanted.repo, repo_type=wanted.repo_type)
    blob = folder / "blobs" / etag
    blob.parent.mkdir(parents=True, exist_ok=True)
    digest = _transfer(url, blob, metadata, wanted, on_progress)
    # The blob is in its place: this only links it under its commit, and sees that its name is a safe one.
    path = hf_hub_download(
        wanted.repo,
        wanted.filename,
        repo_type=wanted.repo_type,
        revision=wanted.revision,
        cache_dir=constants.HF_HUB_CACHE,
        endpoint=constants.ENDPOINT,
    )
    return HubFile(Path(path), wanted.repo, wanted.filename, wanted.revision or "", digest)


def _transfer(
    url: str, blob: Path, metadata: HfFileMetadata, wanted: _Wanted, on_progress: OnBytes | None
) -> str | None:
    """Bring the bytes to ``blob``, its SHA-256 in return (None for git's checksums)."""
    assert metadata.size is not None
    partial = blob.with_name(blob.name + ".icl-partial")
    with partial.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # a second process waits, and then finds the file complete
        file.seek(0, os.SEEK_END)
        if blob.exists():
            partial.unlink(missing_ok=True)
            return blob.name if len(blob.name) == 64 else None
        _check_space(wanted, partial.parent, metadata.size - file.tell())
        _receive(url, file, metadata.size, wanted, on_progress)
        file.flush()
        os.fsync(file.fileno())
        if on_progress is not None:
            on_progress(f"checksum of {Path(wanted.filename).name}", 0, metadata.size)
        if _checksum(partial, blob.name, metadata.size) != blob.name:
            partial.unlink()
            raise HubError(
                f"{wanted}: the bytes received do not match the hub's checksum and were removed; run again, and "
                "suspect a proxy or mirror (HF_ENDPOINT) if it repeats"
            )
        os.replace(partial, blob)
    if len(blob.name) != 64:
        return None
    remember(blob, blob.name)
    return blob.name


def _receive(url: str, file: BinaryIO, size: int, wanted: _Wanted, on_progress: OnBytes | None) -> None:
    """Append to ``file`` until it has ``size`` bytes; a broken transfer goes on where it stopped."""
    from huggingface_hub.errors import HfHubHTTPError, HTTPError  # type: ignore[attr-defined]

    failures = 0
    while (at := file.tell()) < size:
        try:
            _stream(url, file, size, wanted, on_progress)
        except HTTPError as error:
            if isinstance(error, HfHubHTTPError) and not _transient(error.response.status_code):
                raise
            failures = 0 if file.tell() > at else failures + 1
            if failures >= _ATTEMPTS:
                raise
            time.sleep(_RETRY_SECONDS * failures)
        else:
            failures = 0 if file.tell() > at else failures + 1
            if failures >= _ATTEMPTS:
                raise HubError(f"{wanted}: the server sends nothing after byte {at:,} of {size:,}; run again later")


def _stream(url: str, file: BinaryIO, size: int, wanted: _Wanted, on_progress: OnBytes | None) -> None:
    from huggingface_hub import constants, get_session
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status  # type: ignore[attr-defined]

    headers = build_hf_headers() | {"Accept-Encoding": "identity"}
    if file.tell():
        headers["Range"] = f"bytes={file.tell()}-"
    # A redirect to another host drops the authorization header (httpx), so a token stays with the hub.
    with get_session().stream(
        "GET", url, headers=headers, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT, follow_redirects=True
    ) as response:
        if response.status_code == 416:
            _empty(file)
            return
        hf_raise_for_status(response)
        if response.status_code != 206:  # the server sends the whole file whatever was asked for
            _empty(file)
        for chunk in response.iter_bytes(_CHUNK_BYTES):
            file.write(chunk)
            if on_progress is not None:
                on_progress(Path(wanted.filename).name, file.tell(), size)
            if file.tell() > size:
                return  # more than was announced: the checksum will say no


def _empty(file: BinaryIO) -> None:
    file.seek(0)
    file.truncate()


def _transient(status: int) -> bool:
    return status in (408, 429) or status >= 500


def _checksum(path: Path, expected: str, size: int) -> str:
    """SHA-256, or git's SHA-1 of a blob, whichever ``expected`` is by its length."""
    with path.open("rb") as file:
        if len(expected) == 64:
            return hashlib.file_digest(file, "sha256").hexdigest()
        digest = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
        return digest.hexdigest()


def _check_space(wanted: _Wanted, folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed + _SPARE_BYTES > free:
        raise DiskFull(
            f"{wanted} needs {needed / 1e9:.1f} GB more in {folder}, {free / 1e9:.1f} GB are free; "
            "free some, or set HF_HOME to another disk"
        )


@contextlib.contextmanager
def _told(wanted: _Wanted) -> Iterator[None]:
    """Turns whatever huggingface_hub and its HTTP library raise into one line that says what to do.

    None of their own texts is repeated: they hold signed URLs.
    """
    from huggingface_hub import constants, errors

    host = urlsplit(constants.ENDPOINT).hostname or "the hub"
    unknown = (
        f"{wanted}: there is no such repository, or it is private; check the name at {wanted.page}, and set HF_TOKEN "
        "where it is private"
    )
    try:
        yield
    except IclError:
        raise
    except errors.GatedRepoError as error:
        raise HubError(
            f"{wanted}: access is gated; accept its licence at {wanted.page} and set HF_TOKEN to that account's token"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise HubError(f"{wanted}: there is no such revision; see {wanted.page}/commits") from error
    except errors.RemoteEntryNotFoundError as error:
        raise HubError(f"{wanted}: the repository has no such file; see {wanted.page}/tree/main") from error
    except errors.RepositoryNotFoundError as error:
        raise HubError(unknown) from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        if status == 404:
            raise HubError(unknown) from error
        if status in (401, 403):
            raise HubError(
                f"{wanted}: {host} refuses access (HTTP {status}); accept the licence at {wanted.page} and set "
                "HF_TOKEN to a valid token of that account"
            ) from error
        raise HubError(f"{wanted}: {host} answers HTTP {status}; run again later") from error
    except (errors.OfflineModeIsEnabled, errors.RevisionResolutionError, errors.LocalEntryNotFoundError) as error:
        offline = "HF_HUB_OFFLINE is set" if constants.is_offline_mode() else f"{host} cannot be reached"
        raise HubError(
            f"{wanted}: {offline} and the file is not in the cache; connect and run again, or copy the file here and "
            "name its path"
        ) from error
    except errors.HTTPError as error:  # type: ignore[attr-defined]
        raise HubError(
            f"{wanted}: the connection to {host} failed ({type(error).__name__}); run again, it goes on from there"
        ) from error
    except errors.HFValidationError as error:
        raise HubError(f"{wanted}: {wanted.repo!r} is no repository name; it is owner/repo") from error
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise DiskFull(f"{wanted}: no space left in {constants.HF_HUB_CACHE}; free some and run again") from error
        reason = error.strerror or type(error).__name__
        raise HubError(f"{wanted}: cannot be stored in {constants.HF_HUB_CACHE} ({reason})") from error
