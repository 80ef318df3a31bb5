"""A real HTTP server on 127.0.0.1 whose faults a test chooses, one per request."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Optional

Answer = Callable[["Handler", bytes, int], None]


@dataclass
class Site:
    """What a server serves and what it was asked.

    Attributes:
        content: The file at every address.
        etag: Its ETag; None for none.
        answers: How to answer the coming requests; afterwards all is well.
        ranges: The Range header of each request so far.
        paths: The path of each request so far.
    """

    content: bytes
    etag: Optional[str] = '"v1"'
    answers: list[Answer] = field(default_factory=list)
    ranges: list[Optional[str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    url: str = ""


class Handler(BaseHTTPRequestHandler):
    """Answers one request as the site says."""

    site: Site
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent."""

    def do_GET(self) -> None:
        """Answer."""
        with self.site.lock:
            wanted = self.headers.get("Range")
            self.site.ranges.append(wanted)
            self.site.paths.append(self.path)
            answer = self.site.answers.pop(0) if self.site.answers else right
        found = re.match(r"bytes=(\d+)-$", wanted or "")
        start = int(found.group(1)) if found else 0
        if self.headers.get("If-Range") not in (None, self.site.etag):
            start = 0  # the file has changed since
        self.close_connection = True
        answer(self, self.site.content, start)

    def head(self, status: int, length: Optional[int], start: Optional[int] = None) -> None:
        """Send the head of an answer."""
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(length))
        if start is not None:
            total = len(self.site.content)
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        if self.site.etag:
            self.send_header("ETag", self.site.etag)
        self.send_header("Connection", "close")
        self.end_headers()


def right(handler: Handler, content: bytes, start: int) -> None:
    """As it should be."""
    if start >= len(content) > 0:
        handler.head(416, 0)
        return
    handler.head(206 if start else 200, len(content) - start, start or None)
    handler.wfile.write(content[start:])


def drop_after(count: int) -> Answer:
    """Promise everything, send `count` bytes, close."""

    def answer(handler: Handler, content: bytes, start: int) -> None:
        handler.head(206 if start else 200, len(content) - start, start or None)
        handler.wfile.write(content[start : start + count])

    return answer


def ignore_range(handler: Handler, content: bytes, start: int) -> None:
    """Send the whole file whatever was asked for."""
    handler.head(200, len(content))
    handler.wfile.write(content)


def wrong_range(handler: Handler, content: bytes, start: int) -> None:
    """Claim a part that was not asked for."""
    handler.head(206, len(content) - 1, 1)
    handler.wfile.write(content[1:])


def promise_less(handler: Handler, content: bytes, start: int) -> None:
    """A Content-Length of half the file."""
    handler.head(200, len(content) // 2)
    handler.wfile.write(content)


def promise_more(handler: Handler, content: bytes, start: int) -> None:
    """A Content-Length beyond the file."""
    handler.head(206 if start else 200, len(content) - start + 1000, start or None)
    handler.wfile.write(content[start:])


def no_length(handler: Handler, content: bytes, start: int) -> None:
    """No Content-Length: the end is where the connection closes."""
    handler.head(200, None)
    handler.wfile.write(content)


def status(code: int) -> Answer:
    """An error."""

    def answer(handler: Handler, content: bytes, start: int) -> None:
        handler.head(code, 0)

    return answer


def send(body: bytes) -> Answer:
    """Something else, politely."""

    def answer(handler: Handler, content: bytes, start: int) -> None:
        handler.head(200, len(body))
        handler.wfile.write(body)

    return answer


def hang_up(handler: Handler, content: bytes, start: int) -> None:
    """Close without a word."""
    handler.connection.close()


def redirect(target: str) -> Answer:
    """Point elsewhere."""

    def answer(handler: Handler, content: bytes, start: int) -> None:
        handler.send_response(302)
        handler.send_header("Location", target)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


@contextmanager
def serve(content: bytes, **options: Any) -> Iterator[Site]:
    """A site that runs while the block does."""
    site = Site(content, **options)
    handler = type("BoundHandler", (Handler,), {"site": site})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    site.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
