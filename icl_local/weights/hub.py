"""Files from the Hugging Face hub: pinned to a commit, resumed after a kill, checked before they are used.

The revision is resolved to a commit, which is recorded; the bytes are compared with the checksum that the hub publishes
(SHA-256 for LFS and Xet files, git's SHA-1 for small ones). Files are in huggingface_hub's own cache.

The partial file is kept here: hf_hub_download (2.4) deletes it when its process ends and compares sizes only, which
costs gigabytes after each Ctrl-C. It stays beside its final place, the library's http_get continues it, and it is
renamed once its checksum is right.
"""

import contextlib
import errno
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from icl_local.exceptions import DiskFull, HubError
from icl_local.files import json_object, write_file
from icl_local.identity import sha256_file
from icl_local.operating_system import locked
from icl_local.weights.checksum import OnBytes, remember, sha256_of

_REFERENCE = re.compile(r"hf:(?P<repo>[\w.-]+/[\w.-]+)(?:/(?P<file>[^@]+))?(?:@(?P<revision>.+))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_CONVERTED = "refs/convert/parquet"  # branch on which the hub keeps a data set as config/split/0000.parquet
_SHARD = re.compile(r"(-\d{5}-of-\d{5}\.\w+|/0\d{3}\.parquet)$")  # end of the name of one of a split's files
_LISTED = 20  # names in a message
_PARTIAL = ".icl-partial"  # end of the name of a file that is being received
_SPARE_BYTES = 100 << 20  # left free on the disk beside the file


@dataclass(frozen=True)
class Address:
    """A file of a repository; the fields are arguments by which huggingface_hub's functions find it.

    ``filename`` is "" for a whole repository. As text it is what is recorded: hf:owner/repo/file@revision.
    """

    repo_id: str
    filename: str
    revision: str | None
    repo_type: str = "model"

    def __str__(self) -> str:
        file = f"/{self.filename}" if self.filename else ""
        return f"hf:{self.repo_id}{file}" + (f"@{self.revision}" if self.revision else "")

    @property
    def folder(self) -> Path:
        """Return the repository's folder in the cache."""
        from huggingface_hub import constants
        from huggingface_hub.file_download import repo_folder_name

        return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=self.repo_id, repo_type=self.repo_type)

    @property
    def page(self) -> str:
        return f"https://huggingface.co/{'datasets/' if self.repo_type == 'dataset' else ''}{self.repo_id}"


@dataclass(frozen=True)
class HubFile:
    """A file of one commit, checked and on this disk. ``sha256`` is None only for small files kept by git."""

    path: Path
    address: Address
    sha256: str | None


@dataclass(frozen=True)
class HubFiles:
    """Files of one commit, each checked. ``address``: of their split; of the file, if it is one; of a repository."""

    files: tuple[HubFile, ...]
    address: Address

    @property
    def path(self) -> Path:
        """Return the folder of the commit."""
        return self.files[0].path.parents[self.files[0].address.filename.count("/")]


def fetch(reference: str, *, on_progress: OnBytes | None = None) -> HubFile:
    """Return the model file that ``hf:owner/repo/file.gguf[@revision]`` names. Raises HubError or DiskFull."""
    return _fetch(_parse(reference), on_progress)


def fetch_dataset(reference: str, suffixes: Sequence[str], *, on_progress: OnBytes | None = None) -> HubFiles:
    """Return the files of a split that ``hf:owner/name[/config][/split][@revision]`` or ``hf:owner/name/file`` names.

    They have one of ``suffixes``. Configs and splits are those of the data set's card, else of the names of its files,
    else of the hub's Parquet branch; a folder of the repository serves as well. Scripts of a data set are not run.
    Raises HubError, which lists the names there are if not one split fits, and DiskFull.
    """
    target = _parse(reference, "dataset")
    names = [target.filename]
    if not target.filename.lower().endswith(tuple(suffixes)):
        with _hub_errors(target):
            target, names = _only_split(target, tuple(suffixes))
    return _fetch_all(target, names, on_progress, name=target.filename if len(names) > 1 else names[0])


def fetch_folder(
    repo: str, patterns: Sequence[str], *, revision: str | None = None, on_progress: OnBytes | None = None
) -> HubFiles:
    """Return the files of a model repository whose names match one of ``patterns`` (fnmatch), such as a checkpoint's.

    Same guarantees, file by file. Raises HubError (also if nothing matches) or DiskFull.
    """
    from huggingface_hub.utils import filter_repo_objects  # type: ignore[attr-defined]

    target = Address(repo, "", revision)
    with _hub_errors(target):
        target = replace(target, revision=_commit(target))
        found, _ = _contents(target)
    names = list(filter_repo_objects(found, allow_patterns=list(patterns)))
    if not names:
        raise HubError(f"{target}: the repository has no file like {', '.join(patterns)}; see {target.page}/tree/main")
    return _fetch_all(target, names, on_progress)


def cached(reference: str) -> Path | None:
    """Return the path of the model file ``reference`` in the cache, None if it is not there; asks no server."""
    return _in_cache(_parse(reference))


def cached_dataset_file(reference: str) -> HubFile | None:
    """Return the file hf:owner/name/file of a data set if it is here; asks no server. Raises HubError if damaged."""
    return _checked(_parse(reference, "dataset"))


def _parse(reference: str, repo_type: str = "model") -> Address:
    """Return the file that ``reference`` names; a data set may be named without one."""
    match = _REFERENCE.fullmatch(reference)
    if match is None or ".." in (match["file"] or "").split("/") or not (match["file"] or repo_type == "dataset"):
        model = "hf:owner/repo/file.gguf or hf:owner/repo/file.gguf@revision"
        data_set = "hf:owner/name, with /config, /split, /file or @revision after it"
        raise HubError(f"{reference!r} is not {model if repo_type == 'model' else data_set}")
    return Address(match["repo"], match["file"] or "", match["revision"], repo_type)


def _in_cache(target: Address) -> Path | None:
    from huggingface_hub import constants, try_to_load_from_cache

    found = try_to_load_from_cache(**vars(target), cache_dir=constants.HF_HUB_CACHE)
    return Path(found) if isinstance(found, str) else None


def _fetch_all(target: Address, names: Sequence[str], on_progress: OnBytes | None, *, name: str = "") -> HubFiles:
    files = tuple(_fetch(replace(target, filename=one), on_progress) for one in names)
    return HubFiles(files, replace(files[0].address, filename=name))


def _fetch(target: Address, on_progress: OnBytes | None) -> HubFile:
    with _hub_errors(target):
        pinned = replace(target, revision=_commit(target))
        return _checked(pinned, on_progress) or _download(pinned, on_progress)


def _commit(target: Address) -> str:
    """Return the commit of the target's revision now, or when the hub was last reached."""
    from huggingface_hub import HfApi, constants

    api = HfApi(endpoint=constants.ENDPOINT)
    commit = api.resolve_revision(
        target.repo_id, repo_type=target.repo_type, revision=target.revision, cache_dir=constants.HF_HUB_CACHE
    ).resolved
    if not _COMMIT.fullmatch(commit):
        raise HubError(f"{target}: the server names {commit!r} as its commit; check HF_ENDPOINT")
    return commit


def _contents(target: Address) -> tuple[list[str], Any]:
    """Return the names of a commit's files and its card's configs; without a network those kept, or the files here."""
    from huggingface_hub import HfApi, constants, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HTTPError, OfflineModeIsEnabled  # type: ignore[attr-defined]

    of: dict[str, Any] = {"repo_id": target.repo_id, "repo_type": target.repo_type, "revision": target.revision}
    kept = target.folder / f"{target.revision}.icl.json"
    try:
        info: Any = HfApi(endpoint=constants.ENDPOINT).repo_info(**of)
    except (HTTPError, OfflineModeIsEnabled) as error:
        if isinstance(error, HfHubHTTPError):
            raise
        found = json_object(kept)
        if found.keys() >= {"names", "configs"}:
            return found["names"], found["configs"]
        folder = Path(snapshot_download(**of, cache_dir=constants.HF_HUB_CACHE, local_files_only=True))
        return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()], None
    names = [sibling.rfilename for sibling in info.siblings or ()]
    configs = (info.card_data or {}).get("configs") or []
    with contextlib.suppress(OSError):
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_file(kept, json.dumps({"names": names, "configs": configs}))
    return names, configs


def _only_split(target: Address, suffixes: tuple[str, ...]) -> tuple[Address, list[str]]:
    """Return the one split, or folder, that ``target`` names, at its commit, and the names of its files."""
    from huggingface_hub.errors import RevisionNotFoundError, RevisionResolutionError

    commit, splits, of_card = _splits(target, suffixes)
    found = _named(splits, target.filename)
    if target.revision is None and len(found) != 1 and not of_card:
        with contextlib.suppress(RevisionNotFoundError, RevisionResolutionError):
            commit, splits, _ = _splits(replace(target, revision=_CONVERTED), suffixes)
            found = _named(splits, target.filename)
    names = list(found or splits)
    if len(found) == 1:
        ((split, names),) = found.items()
        if len({Path(name).suffix for name in names}) == 1:
            return replace(target, filename=split, revision=commit), sorted(names)
    if not names:
        raise HubError(f"{target}: has no file in one of the forms {', '.join(suffixes)}; see {target.page}/tree/main")
    listed = ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")
    raise HubError(f"{target}: name one config and split, or one file; there are {listed}; see {target.page}")


def _splits(target: Address, suffixes: tuple[str, ...]) -> tuple[str, dict[str, list[str]], bool]:
    """Return the commit of a data set, {"config/split": files}, and whether its card says so, not the files' names."""
    from huggingface_hub.utils import filter_repo_objects  # type: ignore[attr-defined]

    commit = _commit(target)
    names, configs = _contents(replace(target, revision=commit))
    files = [name for name in names if name.lower().endswith(suffixes)]
    splits: dict[str, list[str]] = {}
    for config in configs or ():
        for split, patterns in _patterns(config.get("data_files")).items():
            if of_split := list(filter_repo_objects(files, allow_patterns=patterns)):
                splits[f"{config.get('config_name', 'default')}/{split}"] = of_split
    of_card = bool(splits)
    if not of_card:
        for file in files:  # in the cache alone, the files of a split may be incomplete
            splits.setdefault(file if configs is None else _SHARD.sub("", file), []).append(file)
    return commit, splits, of_card


def _patterns(data_files: Any) -> dict[str, Any]:
    """Return {split: pattern or patterns} of a config in a card, written in one of the hub's three ways."""
    match data_files:
        case {}:
            return dict(data_files)
        case [{"split": _, "path": _}, *_]:
            return {one["split"]: one["path"] for one in data_files}
        case _:
            return {"train": data_files or []}


def _named(splits: Mapping[str, list[str]], wanted: str) -> dict[str, list[str]]:
    """Return the splits whose config, split, both or folder is ``wanted``; all without one."""
    return {name: files for name, files in splits.items() if not wanted or f"/{wanted.strip('/')}/" in f"/{name}/"}


def _checked(target: Address, on_progress: OnBytes | None = None) -> HubFile | None:
    """Return a file of the cache, compared with the checksum that names its blob; None if it is not there."""
    path = _in_cache(target)
    if path is None:
        return None
    pinned = replace(target, revision=path.parents[target.filename.count("/")].name)
    blob = path.resolve()
    if blob.parent.name != "blobs" or len(blob.name) not in (40, 64):
        return HubFile(path, pinned, None)
    large = len(blob.name) == 64
    digest = sha256_of(blob, on_progress=on_progress) if large else _checksum(blob, blob.name)
    if digest != blob.name:
        aside = blob.with_name(blob.name + ".damaged")
        os.replace(blob, aside)
        path.unlink(missing_ok=True)
        raise HubError(
            f"{target}: the cached copy is damaged; it was set aside as {aside}; run again to fetch it again"
        )
    return HubFile(path, pinned, digest if large else None)


def _download(target: Address, on_progress: OnBytes | None) -> HubFile:
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url

    url = hf_hub_url(**vars(target), endpoint=constants.ENDPOINT)
    metadata = get_hf_file_metadata(url, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    etag = metadata.etag or ""
    if not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", etag) or metadata.size is None:
        raise HubError(f"{target}: the server publishes no checksum or size for it; check HF_ENDPOINT")
    blob = target.folder / "blobs" / etag
    locks = target.folder.parent / ".locks" / target.folder.name  # as the hub's library lays out its cache
    for folder in (blob.parent, locks):
        folder.mkdir(parents=True, exist_ok=True)
    with locked(locks / f"{etag}.icl.lock"):  # a second process waits, and then finds the file complete
        if not blob.exists():
            _transfer(url, blob, metadata.size, target, on_progress)
        blob.with_name(etag + _PARTIAL).unlink(missing_ok=True)
    # The blob is in its place: this only links it under its commit, and checks that its name is safe.
    path = hf_hub_download(**vars(target), cache_dir=constants.HF_HUB_CACHE, endpoint=constants.ENDPOINT)
    return HubFile(Path(path), target, etag if len(etag) == 64 else None)


def _transfer(url: str, blob: Path, size: int, target: Address, on_progress: OnBytes | None) -> None:
    """Write the bytes to ``blob``, whose name is their checksum."""
    partial, name = blob.with_name(blob.name + _PARTIAL), Path(target.filename).name
    with partial.open("ab") as file:
        needed, free = size - file.tell(), shutil.disk_usage(partial.parent).free
        if needed + _SPARE_BYTES > free:
            raise DiskFull(
                f"{target} needs {needed / 1e9:.1f} GB more in {partial.parent}, {free / 1e9:.1f} GB are free; "
                "free some space, or set HF_HOME to another disk"
            )
        _receive(url, file, size, name, on_progress)
        file.flush()
        os.fsync(file.fileno())
    if on_progress is not None:
        on_progress(f"checksum of {name}", 0, size)
    if _checksum(partial, blob.name) != blob.name:
        partial.unlink()
        raise HubError(
            f"{target}: the bytes received do not match the hub's checksum and were removed; run again, and "
            "suspect a proxy or mirror (HF_ENDPOINT) if it repeats"
        )
    os.replace(partial, blob)
    if len(blob.name) == 64:
        remember(blob, blob.name)


def _receive(url: str, file: BinaryIO, size: int, name: str, on_progress: OnBytes | None) -> None:
    """Append to ``file`` until it has ``size`` bytes; the hub's library continues a broken transfer."""
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers, tqdm  # type: ignore[attr-defined]

    class Reported(tqdm):
        """The library's progress bar, drawn by the caller."""

        def __init__(self, *, initial: int = 0, **options: Any) -> None:
            super().__init__(initial=initial, **{**options, "disable": True})  # type: ignore[no-untyped-call]
            self.done = initial

        def update(self, n: float | None = 1) -> None:
            self.done += int(n or 0)
            if on_progress is not None:
                on_progress(name, self.done, size)

    # A redirect to another host drops the authorization header (httpx), so a token stays with the hub.
    headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
    http_get(url, file, resume_size=file.tell(), headers=headers, expected_size=size, tqdm_class=Reported)


def _checksum(path: Path, expected: str) -> str:
    """Return the SHA-256, or git's SHA-1 of a small file, whichever ``expected`` is by its length."""
    from huggingface_hub.utils.sha import git_hash

    return sha256_file(path) if len(expected) == 64 else git_hash(path.read_bytes())


@contextlib.contextmanager
def _hub_errors(target: Address) -> Iterator[None]:
    """Turn every exception of huggingface_hub and its HTTP library into one line; their own texts hold signed URLs."""
    from huggingface_hub import constants, errors

    try:
        yield
    except (errors.HTTPError, errors.RevisionResolutionError, errors.HFValidationError, OSError) as error:  # type: ignore[attr-defined]
        if getattr(error, "errno", None) == errno.ENOSPC:
            raise DiskFull(f"{target}: no space left in {constants.HF_HUB_CACHE}; free space and run again") from error
        raise HubError(f"{target}: {_reason(error, target)}") from error


def _reason(error: Exception, target: Address) -> str:
    from huggingface_hub import constants, errors

    host = urlsplit(constants.ENDPOINT).hostname or "the hub"
    status = error.response.status_code if isinstance(error, errors.HfHubHTTPError) else None
    match error:
        case errors.RevisionNotFoundError():
            return f"revision not found; see {target.page}/commits"
        case errors.RemoteEntryNotFoundError():
            return f"the repository has no such file; see {target.page}/tree/main"
        case errors.RepositoryNotFoundError() if not isinstance(error, errors.GatedRepoError):
            status = 404
        case errors.OfflineModeIsEnabled() | errors.RevisionResolutionError() | errors.LocalEntryNotFoundError():
            offline = "HF_HUB_OFFLINE is set" if constants.is_offline_mode() else f"{host} cannot be reached"
            return f"{offline} and the file is not in the cache; connect and run again, or name the path of a copy"
        case errors.HFValidationError():
            return f"{target.repo_id!r} is not a repository name such as owner/repo"
    match status:
        case 404:
            return f"repository not found or private; check {target.page}, and set HF_TOKEN"
        case 401 | 403:
            account = f"accept the licence at {target.page} and set HF_TOKEN to a token of that account"
            return f"{host} refuses access (HTTP {status}); {account}"
        case int():
            return f"{host} answers HTTP {status}; run again later"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be stored in {constants.HF_HUB_CACHE} ({error.strerror})"
    return f"the connection to {host} failed ({type(error).__name__}); run again to continue"
