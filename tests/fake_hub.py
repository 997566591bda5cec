"""Two local servers that answer as the hub and its CDN do, with the ways in which those fail."""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote, urlsplit

import pytest

from icl_local.prompting import just_eval

REPO, FILE = "someone/some-GGUF", "some.Q8_0.gguf"
NAME = f"hf:{REPO}/{FILE}"
FIRST, SECOND = "a" * 40, "b" * 40
TOKEN = "hf_very_secret_token"
CHUNK_BYTES = 1 << 20
WEIGHTS = os.urandom(3 << 20)
SMALL = 200  # smaller files are kept by git itself: served by the hub without redirect, named by git's SHA-1


@dataclass
class FakeHub:
    """What the two servers serve, how they fail, and the requests they received."""

    commits: dict[str, str] = field(default_factory=lambda: {"main": FIRST})
    files: dict[tuple[str, str], bytes] = field(default_factory=lambda: {(FIRST, FILE): WEIGHTS})
    cards: dict[str, dict[str, object]] = field(default_factory=dict)  # a commit's metadata of its README
    gated: int = 0  # HTTP status of a refusal
    published: str | None = None  # a checksum that is not the file's
    drop_after: int | None = None  # the CDN hangs up once after so many bytes
    stall_after: int | None = None  # the CDN stops sending and waits for `go_on`
    ignores_range: bool = False
    go_on: threading.Event = field(default_factory=threading.Event)
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    hub_url: str = ""
    cdn_url: str = ""

    def ranges(self) -> list[str | None]:
        """The Range header of every request to the CDN, in order."""
        return [headers.get("Range") for server, _, headers in self.requests if server == "cdn"]


def handler(state: FakeHub, server: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            pass

        def reply(self, status: int, body: bytes = b"", **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            if "Content_Length" not in headers:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            state.requests.append((server, f"{self.command} {path}", dict(self.headers)))
            if server == "cdn":
                self.send_weights(path)
            elif match := re.fullmatch(r"/api/(?:models|datasets)/([^/]+/[^/]+)(?:/revision/(.+))?", path):
                self.tell_commit(match[1], match[2] or "main")
            elif match := re.fullmatch(r"(?:/datasets)?/[^/]+/[^/]+/resolve/([^/]+)/(.+)", path):
                self.resolve(match[1], match[2])
            else:
                self.reply(404)

        do_HEAD = do_GET

        def tell_commit(self, repo: str, revision: str) -> None:
            if repo == "answers/404":
                self.reply(404)
            elif repo != REPO and not any(one.startswith(f"hf:{repo}/") for one in just_eval.FILES.values()):
                self.reply(401, b'{"error":"Invalid username or password."}', X_Error_Code="RepoNotFound")
            elif revision not in state.commits and revision not in {commit for commit, _ in state.files}:
                self.reply(404, X_Error_Code="RevisionNotFound")
            else:
                commit = state.commits.get(revision, revision)
                names = [{"rfilename": name} for of, name in state.files if of == commit]
                info = {"id": repo, "sha": commit, "siblings": names, "cardData": state.cards.get(commit)}
                self.reply(200, json.dumps(info).encode())

        def resolve(self, commit: str, name: str) -> None:
            commit = state.commits.get(commit, commit)
            body = state.files.get((commit, name))
            if state.gated:
                code = {"X_Error_Code": "GatedRepo"} if state.gated == 401 else {}
                self.reply(state.gated, X_Error_Message="Access to this model is restricted", **code)
            elif body is None:
                self.reply(404, X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
            elif len(body) < SMALL:
                digest = state.published or hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()
                self.reply(200, body, X_Repo_Commit=commit, ETag=f'"{digest}"')
            else:
                digest = state.published or hashlib.sha256(body).hexdigest()
                self.reply(
                    302,
                    X_Repo_Commit=commit,
                    X_Linked_Etag=f'"{digest}"',
                    X_Linked_Size=str(len(body)),
                    Location=f"{state.cdn_url}/{commit}/{name}?signature=very-secret-signature",
                )

        def send_weights(self, path: str) -> None:
            commit, name = path.strip("/").split("/", 1)
            body = state.files[commit, name]
            begin = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            start = int(begin[1]) if begin and not state.ignores_range else 0
            if start >= len(body):
                self.reply(416)
                return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(body) - start))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
            self.end_headers()
            if state.drop_after is not None:
                self.wfile.write(body[start : start + state.drop_after])
                state.drop_after = None
                self.close_connection = True
            elif state.stall_after is not None:
                self.wfile.write(body[start : start + state.stall_after])
                self.wfile.flush()
                state.stall_after = None
                state.go_on.wait(30)
                self.close_connection = True
            else:
                self.wfile.write(body[start:])

    return Handler


@contextmanager
def serving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub and a CDN on two ports, and huggingface_hub pointed at them with an empty cache under ``tmp_path``."""
    from huggingface_hub import constants, file_download

    state = FakeHub()
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), handler(state, server)) for server in ("hub", "cdn")]
    state.hub_url, state.cdn_url = (f"http://127.0.0.1:{server.server_port}" for server in servers)
    for server in servers:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", state.hub_url)
    template = state.hub_url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr(file_download, "time", SimpleNamespace(sleep=lambda seconds: None))
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", CHUNK_BYTES)
    yield state
    state.go_on.set()
    for server in servers:
        server.shutdown()
        server.server_close()
