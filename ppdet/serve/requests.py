"""From the bytes of a request to images and options. Nothing in it is ever opened as a path or a URL."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import AsyncGenerator
from typing import Any, NamedTuple

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from ppdet.serve.images import Upload
from ppdet.serve.limits import RefusalError, ServeLimits

#: What a request for detections may ask for.
OUTPUTS = ("json", "image")
#: Lowest score that is returned where the request does not say.
THRESHOLD = 0.5
#: Characters of a file's name that are repeated in results and messages.
_NAME = 200


class Options(NamedTuple):
    """The query of a request for detections.

    Attributes:
        threshold: Lowest score, 0 to 1.
        output: One of `OUTPUTS`.
    """

    threshold: float
    output: str


def options_of(request: Request) -> Options:
    """Read the query.

    Raises:
        RefusalError: If a parameter is unknown, repeated, or has a value that it cannot have.
    """
    given = request.query_params
    for name in dict.fromkeys(key for key, _ in given.multi_items()):
        if name not in Options._fields:
            raise _bad_query(
                f"there is no parameter {name[:_NAME]!r}; there are: {', '.join(Options._fields)}"
            )
        if len(given.getlist(name)) > 1:
            raise _bad_query(f"{name} is given more than once")
    text = given.get("threshold", str(THRESHOLD))
    try:
        threshold = float(text) if text.isascii() and "_" not in text else float("nan")
    except ValueError:
        threshold = float("nan")
    if not 0 <= threshold <= 1:
        raise _bad_query(f"threshold {text[:_NAME]!r}: expected a number from 0 to 1")
    output = given.get("output", "json")
    if output not in OUTPUTS:
        raise _bad_query(f"output {output[:_NAME]!r}: expected one of {', '.join(OUTPUTS)}")
    return Options(threshold, output)


async def uploads_of(request: Request, limits: ServeLimits) -> list[Upload]:
    """Read the images of a request, from multipart/form-data or JSON.

    Raises:
        RefusalError: If the body is too long, of another type, not well formed, or has no or too many images.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in ("multipart/form-data", "application/json"):
        raise RefusalError(
            415,
            "unsupported_media_type",
            f"Content-Type {kind[:_NAME] or 'missing'!r}: expected multipart/form-data with files named "
            'images, or application/json with {"images": ["<base64>"]}',
        )
    stated = request.headers.get("content-length", "")
    if stated.isdecimal() and int(stated) > limits.body_bytes:
        raise _too_long(limits)
    try:
        if kind == "application/json":
            content = b"".join([part async for part in _bounded(request, limits)])
            uploads = _from_json(content, limits)
        else:
            uploads = await _from_form(request, limits)
    except ClientDisconnect:
        raise RefusalError(400, "disconnected", "the client left before its request was complete") from None
    if not uploads:
        raise RefusalError(400, "no_images", "the request has no images")
    return uploads


async def _bounded(request: Request, limits: ServeLimits) -> AsyncGenerator[bytes, None]:
    """The body in parts, up to the limit: its stated length may be wrong or missing."""
    length = 0
    async for part in request.stream():
        length += len(part)
        if length > limits.body_bytes:
            raise _too_long(limits)
        yield part


class _InMemory(MultiPartParser):
    """Writes no file: a body is bounded, and so is the number of them."""

    spool_max_size = 1 << 62


async def _from_form(request: Request, limits: ServeLimits) -> list[Upload]:
    # One more of each than is accepted, so that the message is ours.
    parser = _InMemory(
        request.headers,
        _bounded(request, limits),
        max_files=limits.images + 1,
        max_fields=1,
        max_part_size=1024,
    )
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError, ValueError) as error:  # the last two: a header that is not closed
        if isinstance(error, MultiPartException) and error.message.startswith("Too many files"):
            raise _too_many(limits) from None
        reason = error.message if isinstance(error, MultiPartException) else "it is not well formed"
        raise RefusalError(400, "malformed", f"multipart/form-data cannot be read: {reason}") from None
    uploads: list[Upload] = []
    for name, item in form.multi_items():
        if name != "images" or not isinstance(item, UploadFile):
            raise RefusalError(
                400,
                "unknown_field",
                f"the form has {name[:_NAME]!r}; expected files named images (options go into the query)",
            )
        uploads.append(Upload(_shown(item.filename, len(uploads)), await item.read()))
    await form.close()
    if len(uploads) > limits.images:
        raise _too_many(limits)
    return uploads


def _from_json(content: bytes, limits: ServeLimits) -> list[Upload]:
    try:
        body: Any = json.loads(content)
    except (ValueError, RecursionError):
        raise RefusalError(400, "malformed", "the body is not JSON") from None
    if not isinstance(body, dict) or set(body) != {"images"} or not isinstance(body["images"], list):
        raise RefusalError(400, "malformed", 'expected {"images": ["<base64>", ...]} and no other key')
    if len(body["images"]) > limits.images:
        raise _too_many(limits)
    uploads = []
    for index, text in enumerate(body["images"]):
        try:
            uploads.append(Upload(f"image {index}", base64.b64decode(text, validate=True)))
        except (binascii.Error, ValueError, TypeError):
            raise RefusalError(
                400,
                "malformed",
                f"images[{index}] is not the content of a file in base64 (RFC 4648, without a prefix data:)",
            ) from None
    return uploads


def _shown(filename: str | None, index: int) -> str:
    """The last part of a file's name, as the client calls it."""
    name = (filename or "").replace("\\", "/").rpartition("/")[2]
    return "".join(c for c in name if c.isprintable())[:_NAME] or f"image {index}"


def _bad_query(message: str) -> RefusalError:
    return RefusalError(400, "bad_query", message)


def _too_long(limits: ServeLimits) -> RefusalError:
    message = f"the request has more than {limits.body_bytes:,} bytes; send fewer or smaller images at a time"
    return RefusalError(413, "too_many_bytes", message, limits.body_bytes, {"Connection": "close"})


def _too_many(limits: ServeLimits) -> RefusalError:
    message = f"at most {limits.images} images are accepted in a request"
    return RefusalError(413, "too_many_images", message, limits.images)
