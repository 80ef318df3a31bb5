"""Runs the service of a detector until it is told to stop."""

from __future__ import annotations

import ipaddress
import logging
import signal
import socket
import threading
from dataclasses import dataclass

from ppdet.experiment.trained import TrainedDetector
from ppdet.serve.limits import ServeError, ServeLimits
from ppdet.utils.packages import missing_package

logger = logging.getLogger(__name__)

#: Names of this machine for itself.
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
#: Connections per request that is accepted: most of a browser's are idle.
_CONNECTIONS = 4
#: Seconds that a connection stays open without a request.
_KEEP_ALIVE = 15
#: Characters of a token that cannot be guessed.
_TOKEN_LENGTH = 16


def is_loopback(host: str) -> bool:
    """Whether only programs of this machine reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@dataclass(frozen=True)
class ServeOptions:
    """Where a service listens, and for whom.

    Attributes:
        host: Address to listen on; by default only programs of this machine reach it.
        port: Port; 0 for any that is free.
        token: What clients send as ``Authorization: Bearer TOKEN``; empty for none.
        open_to_all: Allow an address that other machines reach, without a token.
        limits: What is accepted.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str = ""
    open_to_all: bool = False
    limits: ServeLimits = ServeLimits()  # noqa: RUF009  (immutable)

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ServeError(f"port {self.port}: expected 0 to 65535")
        if self.token and (len(self.token) < _TOKEN_LENGTH or not self.token.isascii() or " " in self.token):
            raise ServeError(
                f"the token has {len(self.token)} characters; expected at least {_TOKEN_LENGTH} of ASCII "
                "without spaces, e.g. of: python -c 'import secrets; print(secrets.token_urlsafe())'"
            )
        if not self.token and not self.open_to_all and not is_loopback(self.host):
            raise ServeError(
                f"host {self.host}: other machines would reach the service without a token; give one "
                "(--token_file FILE, or PPDET_SERVE_TOKEN), or allow it (--open_to_all)"
            )


def serve_detector(detector: TrainedDetector, options: ServeOptions = ServeOptions()) -> None:
    """Serve a detector over HTTP until SIGTERM or Ctrl-C; requests under way are answered before it ends.

    Args:
        detector: From `load_detector`.
        options: Where, and for whom.

    Raises:
        ServeError: If the port cannot be used.
        MissingPackageError: If the extra ``serve`` is not installed.
        KeyboardInterrupt: After Ctrl-C.
    """
    try:
        import uvicorn

        from ppdet.serve.app import detector_app
    except ModuleNotFoundError as error:
        raise missing_package(error) from error
    # A line for every broken form would let strangers fill the disk.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
    limits = options.limits
    with bound_socket(options.host, options.port, _CONNECTIONS * limits.requests) as listening:
        hosts = _LOOPBACK_NAMES if is_loopback(options.host) and not options.token else ()
        app = detector_app(detector, limits, token=options.token, hosts=hosts)
        config = uvicorn.Config(
            app,
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="on",
            log_config=None,
            log_level=logging.WARNING,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=_CONNECTIONS * limits.requests,
            limit_concurrency=_CONNECTIONS * limits.requests + 16,
            timeout_keep_alive=_KEEP_ALIVE,
            timeout_graceful_shutdown=int(limits.seconds) + 1,
        )
        name, port = _shown_host(options.host), listening.getsockname()[1]
        logger.info("serving %s on http://%s:%d (interface: /docs; end: Ctrl-C)", detector.source, name, port)
        _run(uvicorn.Server(config), listening)


def _run(server: object, listening: socket.socket) -> None:
    """Run until it is told to stop.

    The server answers what is under way and then raises the signal again, which would end the process by it;
    after SIGTERM a service has done what it was told, so the handler that the signal meets only says so.
    """
    if threading.current_thread() is not threading.main_thread():
        server.run(sockets=[listening])  # type: ignore[attr-defined]
        return
    before = signal.signal(
        signal.SIGTERM, lambda *_: logger.info("stopped; requests under way were answered")
    )
    try:
        server.run(sockets=[listening])  # type: ignore[attr-defined]
    finally:
        signal.signal(signal.SIGTERM, before)


def bound_socket(host: str, port: int, backlog: int) -> socket.socket:
    """A socket that listens: clients that connect while the service starts wait for it.

    Raises:
        ServeError: If it cannot have the address.
    """
    try:
        kind, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        made = socket.socket(kind, socket.SOCK_STREAM)
    except OSError as error:
        raise ServeError(f"host {host}: no address of this machine ({error.strerror or error})") from None
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(backlog)
    except OSError as error:
        made.close()
        raise ServeError(
            f"port {port} of {host} cannot be used: {error.strerror or error}; choose another one "
            "(--port; 0 for any that is free)"
        ) from None
    return made


def _shown_host(host: str) -> str:
    return f"[{host}]" if ":" in host else host
