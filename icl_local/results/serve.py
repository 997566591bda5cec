"""A page on this machine: http.server on 127.0.0.1, closed to other programs' pages.

Every address begins with a random token. A request with another token, Host or Origin, or to a route that is not
there, is answered 403 before anything is read. Nothing of a request is logged.
"""

import contextlib
import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from icl_local.exceptions import ConfigError, IclError, InputError

_LARGEST_POST = 1 << 20
_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


@dataclass(frozen=True)
class Page:
    """An HTML page with its content security policy."""

    html: str
    policy: str


Get = Callable[[str], Any]  # the rest of the address -> a Page, or what becomes JSON
Post = Callable[[Any], Any]  # the posted JSON -> what becomes JSON


class PageServer(ThreadingHTTPServer):
    """Server of a page; ``get`` and ``post`` are its routes by name, the page itself is ``get[""]``.

    ``port`` 0 takes a free one. A route raises InputError for a wrong request (status 400), another IclError for a
    failure (status 500). Raises ConfigError where the port is in use.
    """

    daemon_threads = True

    def __init__(self, get: Mapping[str, Get], post: Mapping[str, Post], *, port: int = 0) -> None:
        self.get, self.post = get, post
        self.token = secrets.token_urlsafe(24)
        try:
            super().__init__(("127.0.0.1", port), _Handler)
        except OSError as error:
            raise ConfigError(f"cannot serve on port {port}: {error.strerror}; give another --port") from error
        self.host = f"127.0.0.1:{self.server_port}"

    @property
    def url(self) -> str:
        """Return the address of the page."""
        return f"http://{self.host}/{self.token}/"


class _Handler(BaseHTTPRequestHandler):
    server: PageServer
    server_version, sys_version = "icl", ""

    def do_GET(self) -> None:
        self._answer(self.server.get, lambda route, rest: route(rest))

    def do_POST(self) -> None:
        self._answer(self.server.post, lambda route, _: route(self._posted()))

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _answer(self, routes: Mapping[str, Any], call: Callable[[Any, str], Any]) -> None:
        token, _, path = self.path.removeprefix("/").partition("/")
        name, _, rest = path.partition("/")
        if not self._comes_from_the_page(token) or name not in routes:
            self._send(403, {"error": "not allowed"})
            return
        try:
            self._send(200, call(routes[name], rest))
        except InputError as error:
            self._send(400, {"error": str(error)})
        except IclError as error:
            self._send(500, {"error": str(error)})

    def _comes_from_the_page(self, token: str) -> bool:
        origin = self.headers.get("Origin")
        known = secrets.compare_digest(token.encode(), self.server.token.encode())
        allowed = origin == f"http://{self.server.host}" or (origin is None and self.command == "GET")
        return known and allowed and self.headers.get_all("Host") == [self.server.host]

    def _posted(self) -> Any:
        try:
            length = int(self.headers.get("Content-Length", ""))
            if not 0 <= length <= _LARGEST_POST:
                raise ValueError
            return json.loads(self.rfile.read(length))
        except (ValueError, RecursionError):
            raise InputError("cannot read what the page sent") from None

    def _send(self, status: int, found: Any) -> None:
        page = found if isinstance(found, Page) else None
        text = page.html if page else json.dumps(found, default=str)
        body = text.encode("utf-8", "replace")
        self.send_response(status)
        self.send_header("Content-Type", f"{'text/html' if page else 'application/json'}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        if page:
            self.send_header("Content-Security-Policy", page.policy)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        with contextlib.suppress(ConnectionError):  # the browser has left
            self.end_headers()
            self.wfile.write(body)
