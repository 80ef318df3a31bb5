"""What every request passes: who may ask, what browsers may do with the answers, and counting."""

from __future__ import annotations

import hmac
import time
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ppdet.serve.limits import RefusalError
from ppdet.serve.metrics import Metrics

#: Pages load what this service gives them, and nothing else may show them in a frame.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
#: Paths that need the token, by their beginning.
_PRIVATE = ("/v1/", "/metrics")


class Guard:
    """Checks the host, the origin and the token; adds headers; counts.

    Args:
        app: What answers.
        metrics: Counts requests.
        paths: Known paths; others are counted together.
        token: Bearer token of the clients; empty for none.
        hosts: Names under which clients may call the service; empty for any. It keeps a web page from
            reaching a service of this machine under a name of its own that leads here (DNS rebinding).
    """

    def __init__(
        self, app: ASGIApp, *, metrics: Metrics, paths: Sequence[str], token: str, hosts: Sequence[str]
    ) -> None:
        self._app, self._metrics, self._paths = app, metrics, frozenset(paths)
        self._token, self._hosts = token.encode(), frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.perf_counter(), 500

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        refusal = self._refusal(scope)
        answer = self._app if refusal is None else response_to(refusal)
        try:
            await answer(scope, receive, send_with_headers)
        finally:
            path = scope["path"] if scope["path"] in self._paths else "other"
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._metrics.requests.labels(path, method, str(status)).inc()
            self._metrics.request_seconds.labels(path).observe(time.perf_counter() - start)

    def _refusal(self, scope: Scope) -> RefusalError | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self._hosts and _name_of(host) not in self._hosts:
            known = ", ".join(sorted(self._hosts))
            return RefusalError(403, "unknown_host", f"Host {host[:200]!r}: this service answers to {known}")
        origin = headers.get("origin")
        if origin is not None and _host_of(origin) != host.lower():
            return RefusalError(403, "other_origin", "pages of other origins may not use this service")
        if self._token and scope["path"].startswith(_PRIVATE) and not self._has_token(headers):
            message = "this service needs its token: Authorization: Bearer TOKEN"
            return RefusalError(401, "unauthorised", message, headers={"WWW-Authenticate": "Bearer"})
        return None

    def _has_token(self, headers: Mapping[str, str]) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), self._token)


def response_to(refusal: RefusalError) -> JSONResponse:
    """The response that says why."""
    return JSONResponse(refusal.content(), refusal.status, dict(refusal.headers))


def _host_of(origin: str) -> str:
    """Host and port of an origin, in lower case; nothing for ``null``."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _name_of(host: str) -> str:
    """The name in a Host header, without the port."""
    name, colon, port = host.lower().rpartition(":")
    return name if colon and port.isdecimal() else host.lower()
