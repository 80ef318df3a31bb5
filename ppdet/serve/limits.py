"""What a service accepts, and how it says that it does not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Optional

from ppdet.utils.errors import UserError


class ServeError(UserError):
    """A service that cannot start."""


@dataclass(frozen=True)
class ServeLimits:
    """What a service accepts, and how it groups images.

    The memory of a service is bounded by them: `requests` bodies of at most `body_bytes`, and three bytes for
    each pixel of the `decoded_images`.

    Attributes:
        body_bytes: Most bytes of a request.
        pixels: Most pixels of an image, height times width; read from its header, before it is decoded.
        images: Most images of a request.
        requests: Most requests for detections at a time; the next one is answered with 503.
        seconds: Longest time of a request, its upload included.
        batch_size: Most images that the network runs at once; 1 for no batches.
        delay: Longest time in seconds that an image waits for others that are being decoded. One that comes
            alone does not wait.
    """

    body_bytes: int = 20_000_000
    pixels: int = 40_000_000
    images: int = 16
    requests: int = 64
    seconds: float = 30.0
    batch_size: int = 4
    delay: float = 0.005

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            least = 0 if item.name == "delay" else 1 if isinstance(item.default, int) else 0.001
            if not least <= value < float("inf"):
                raise ServeError(f"{item.name} {value} of a service: expected {least} or more")

    @property
    def decoded_images(self) -> int:
        """Images that are decoded, or wait for the network, at a time: a batch runs, the next is prepared."""
        return 2 * self.batch_size + 1


@dataclass
class RefusalError(Exception):
    """A request that is not answered with detections.

    Attributes:
        status: HTTP status.
        code: Name of the reason, for programs.
        message: What happened, to what, and what is accepted.
        limit: The limit that was exceeded, if it was one.
        headers: Of the response.
    """

    status: int
    code: str
    message: str
    limit: Optional[float] = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def content(self) -> dict[str, Any]:
        """The body of the response."""
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        return {"error": error if self.limit is None else {**error, "limit": self.limit}}


def busy(message: str, limit: float) -> RefusalError:
    """A refusal that may pass: status 503, try again in a second."""
    return RefusalError(503, "busy", message, limit, {"Retry-After": "1"})
