"""Addresses of this machine, and messages between nodes: one JSON object per line, over TCP."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import os
import socket
import struct
import sys
import time
from dataclasses import dataclass
from typing import Any, Optional

from ppdet.utils.errors import UserError

#: Port of the first node where the user names none.
DEFAULT_PORT = 29400
#: Longest message in bytes; a resolved configuration has some 20,000.
_LONGEST = 1 << 22
#: Seconds between two attempts to look up a name.
_LOOK_AGAIN = 1.0
#: ioctl of Linux that gives the IPv4 address of an interface.
_SIOCGIFADDR = 0x8915


class LaunchError(UserError):
    """A training that cannot start on these machines, or has ended on one of them."""


class LinkClosedError(Exception):
    """The other side has gone, or has sent what is no message."""


@dataclass(frozen=True)
class Endpoint:
    """An IPv4 address and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only programs of this machine can reach it."""
        return ipaddress.ip_address(self.host).is_loopback


def parse_master(text: str, *, wait: float = 0.0) -> Endpoint:
    """``HOST`` or ``HOST:PORT``; a name is looked up.

    Args:
        text: What the user gave.
        wait: Seconds in which a name may still become known, as those of containers do.

    Raises:
        LaunchError: If it is malformed or unknown, or a name that means only this machine.
    """
    host, _, port_text = text.rpartition(":") if ":" in text else (text, "", str(DEFAULT_PORT))
    if not host or ":" in host or not port_text.isdigit() or not 0 < int(port_text) < 65536:
        raise LaunchError(f"--master {text}: expected IP:PORT with an IPv4 address, e.g. 10.0.0.1:29400")
    deadline = time.monotonic() + wait
    address = None
    while address is None:
        try:
            address = socket.gethostbyname(host)
        except OSError as error:
            if time.monotonic() >= deadline:
                raise LaunchError(
                    f"--master {text}: no address is known for {host!r} ({error.strerror or error}); "
                    f"give the "
                    "IP address of the first machine"
                ) from None
            time.sleep(_LOOK_AGAIN)
    found = Endpoint(address, int(port_text))
    if found.is_loopback and host not in (address, "localhost"):
        own = ", ".join(f"{ip} ({name})" for name, ip in interfaces().items() if not ip.startswith("127."))
        raise LaunchError(
            f"--master {text}: {host} is {address} on this machine, where other machines cannot reach it "
            f"(see /etc/hosts). Give an address that they know: {own or 'this machine has none'}"
        )
    return found


def own_address(master: Endpoint) -> str:
    """The address of this machine by which packets to the master leave; no packet is sent.

    Raises:
        LaunchError: If there is no route.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((master.host, master.port))
        except OSError as error:
            raise LaunchError(
                f"--master {master}: this machine has no route to it ({error.strerror}); is the address "
                "right, and is the network up?"
            ) from None
        return str(probe.getsockname()[0])


def interfaces() -> dict[str, str]:
    """Name -> IPv4 address of this machine's network interfaces; empty where the system does not say."""
    if not sys.platform.startswith("linux"):
        return {}
    import fcntl

    found: dict[str, str] = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode()[:15])
            with contextlib.suppress(OSError):  # it has no address
                answer = fcntl.ioctl(any_socket.fileno(), _SIOCGIFADDR, request)
                found[name] = socket.inet_ntoa(answer[20:24])
    return found


def free_port(host: str) -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def why(error: OSError) -> str:
    """What a failed connection failed of, in the system's words."""
    return os.strerror(error.errno) if error.errno else str(error)


class Link:
    """A connection to another node.

    Args:
        reader: Of the connection; its limit bounds a message.
        writer: Of the connection.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(cls, endpoint: Endpoint, *, timeout: float) -> Link:
        """Connect.

        Raises:
            OSError: If nothing listens there, or there is no answer in `timeout` seconds.
        """
        opening = asyncio.open_connection(endpoint.host, endpoint.port, limit=_LONGEST)
        try:
            return cls(*await asyncio.wait_for(opening, timeout))
        except asyncio.TimeoutError:
            raise TimeoutError(f"no answer in {timeout:.0f} s") from None

    @property
    def peer(self) -> str:
        """Address of the other side."""
        return str((self._writer.get_extra_info("peername") or ("unknown",))[0])

    def send(self, kind: str, **content: Any) -> None:
        """Send a message without waiting; what cannot be sent shows at the next `receive`."""
        self._writer.write(json.dumps({"kind": kind, **content}).encode() + b"\n")

    async def receive(self, *, timeout: Optional[float] = None) -> dict[str, Any]:
        """The next message.

        Raises:
            LinkClosedError: If the other side has gone, is silent for `timeout` seconds, or sends no message.
        """
        try:
            line = await asyncio.wait_for(self._reader.readline(), timeout)
            message = json.loads(line) if line.endswith(b"\n") else None
        except (OSError, asyncio.TimeoutError, ValueError):
            raise LinkClosedError from None
        if not isinstance(message, dict) or not isinstance(message.get("kind"), str):
            raise LinkClosedError
        return message

    async def close(self) -> None:
        """Send what waits, and close."""
        with contextlib.suppress(OSError, asyncio.TimeoutError):
            await asyncio.wait_for(self._writer.drain(), 2.0)
        self._writer.close()


def start_server(handle: Any, endpoint: Endpoint) -> Any:
    """An asyncio server whose handler takes a `Link`; to be awaited."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await handle(Link(reader, writer))

    return asyncio.start_server(connected, endpoint.host, endpoint.port, limit=_LONGEST)
