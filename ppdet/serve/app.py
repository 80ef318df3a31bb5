"""The service as an ASGI application: routes, answers, errors."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import cv2
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from ppdet import __version__
from ppdet.experiment.trained import TrainedDetector
from ppdet.inference.results import Result, json_row
from ppdet.serve.docs_page import docs_page
from ppdet.serve.guard import Guard, response_to
from ppdet.serve.limits import RefusalError, ServeLimits, busy
from ppdet.serve.metrics import Metrics
from ppdet.serve.openapi import document
from ppdet.serve.requests import options_of, uploads_of
from ppdet.serve.service import DetectionService, Found

logger = logging.getLogger(__name__)

T = TypeVar("T")
_ASSETS = Path(__file__).parent / "assets"
_TYPES = {".js": "text/javascript", ".css": "text/css", ".html": "text/html", ".svg": "image/svg+xml"}
#: Quality of drawn JPEG pictures.
_QUALITY = 92


def detector_app(
    detector: TrainedDetector,
    limits: ServeLimits = ServeLimits(),  # noqa: B008  (immutable)
    *,
    token: str = "",
    hosts: Sequence[str] = (),
) -> Starlette:
    """The service of a detector, for an ASGI server of your own; `serve_detector` runs one.

    Args:
        detector: From `load_detector`. One image is run at once.
        limits: What is accepted.
        token: What clients send as ``Authorization: Bearer TOKEN``; empty for nothing.
        hosts: Names under which clients may call the service; empty for any.

    Raises:
        UserError: If the detector has no class names, or its runtime cannot run it.
    """
    metrics = Metrics()
    handlers = _Handlers(DetectionService(detector, limits, metrics), needs_token=bool(token))
    routes = [
        Route("/v1/detect", handlers.detect, methods=["POST"]),
        Route("/v1/info", handlers.info),
        Route("/healthz", handlers.health),
        Route("/metrics", handlers.metrics),
        Route("/openapi.json", handlers.openapi),
        Route("/docs", handlers.docs),
        *(Route(path, handlers.asset) for path in handlers.assets),
    ]
    guard = Middleware(
        Guard, metrics=metrics, paths=[route.path for route in routes], token=token, hosts=hosts
    )
    return Starlette(
        routes=routes,
        middleware=[guard],
        exception_handlers={RefusalError: _refused, HTTPException: _no_route, Exception: _failed},
        lifespan=handlers.lifespan,
    )


class _Handlers:
    """What answers each route."""

    def __init__(self, service: DetectionService, *, needs_token: bool) -> None:
        self._service, self._limits, self._metrics = service, service.limits, service.metrics
        self._needs_token = needs_token
        self._document = document(service.limits)
        self._docs = docs_page(self._document)
        self._under_way = 0
        self.assets: dict[str, Response] = {}
        for path in sorted(_ASSETS.iterdir()):
            name = "/" if path.name == "index.html" else f"/assets/{path.name}"
            self.assets[name] = Response(path.read_bytes(), media_type=_TYPES[path.suffix])

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        """The threads of the service live as long as the application."""
        del app
        await self._service.start()
        try:
            yield
        finally:
            await self._service.stop()

    async def detect(self, request: Request) -> Response:
        """Detections of the images of a request."""
        if self._under_way >= self._limits.requests:
            most = self._limits.requests
            raise busy(f"{most} requests are under way, which is the most at a time; try again", most)
        self._under_way += 1
        self._metrics.under_way.set(self._under_way)
        try:
            return await self._detect(request)
        finally:
            self._under_way -= 1
            self._metrics.under_way.set(self._under_way)

    async def _detect(self, request: Request) -> Response:
        options = options_of(request)
        seconds = self._limits.seconds
        end = asyncio.get_running_loop().time() + seconds
        late = RefusalError(408, "upload_too_slow", f"the upload took more than {seconds:g} s", seconds)
        uploads = await _until(end, uploads_of(request, self._limits), late)
        draw = options.output == "image"
        if draw and len(uploads) != 1:
            raise RefusalError(400, "one_image", "output=image answers one image per request", 1)
        late = busy(f"there were no detections within {seconds:g} s; try again later", seconds)
        found = await _until(end, self._service.detect(uploads, threshold=options.threshold, draw=draw), late)
        respond = _picture if draw else _rows
        response = await asyncio.get_running_loop().run_in_executor(
            None, respond, found, self._service.detector.class_names
        )
        stages = {name: max(one.seconds[name] for one in found) for name in found[0].seconds}
        response.headers["Server-Timing"] = ", ".join(f"{k};dur={1000 * v:.1f}" for k, v in stages.items())
        return response

    async def info(self, request: Request) -> Response:
        """What runs here, and what is accepted. No path of the machine is in it."""
        del request
        limits, detector = self._limits, self._service.detector
        return JSONResponse(
            {
                "name": Path(detector.source).name,
                "classes": self._service.classes,
                "has_masks": detector.has_masks,
                "runtime": self._service.runtime,
                "version": __version__,
                "limits": {
                    "body_bytes": limits.body_bytes,
                    "pixels": limits.pixels,
                    "images": limits.images,
                    "requests": limits.requests,
                    "seconds": limits.seconds,
                },
                "batching": {"batch_size": limits.batch_size, "delay_seconds": limits.delay},
            }
        )

    async def health(self, request: Request) -> Response:
        """Whether the service answers; open without a token."""
        del request
        return JSONResponse({"status": "ok", "needs_token": self._needs_token})

    async def metrics(self, request: Request) -> Response:
        """Counters for Prometheus."""
        del request
        return Response(self._metrics.text(), media_type="text/plain; version=0.0.4")

    async def openapi(self, request: Request) -> Response:
        """The description of the interface."""
        del request
        return JSONResponse(self._document)

    async def docs(self, request: Request) -> Response:
        """The same for people."""
        del request
        return HTMLResponse(self._docs)

    async def asset(self, request: Request) -> Response:
        """The page to try, and its parts."""
        return self.assets[request.url.path]


async def _until(end: float, work: Awaitable[T], late: RefusalError) -> T:
    """The result of some work; `late` is raised where it does not come in time.

    Args:
        end: In the time of the event loop.
        work: Cancelled then.
        late: What the client is told.
    """
    left = max(0.0, end - asyncio.get_running_loop().time())
    try:
        return await asyncio.wait_for(work, left)
    except asyncio.TimeoutError:
        raise late from None


def _rows(found: Sequence[Found], names: Sequence[str]) -> Response:
    """A row per image, as in ``detections.json``."""
    rows = [json_row(Result(one.name, "", one.size, one.detections, ""), names) for one in found]
    content = json.dumps(rows, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    return Response(content, media_type="application/json")


def _picture(found: Sequence[Found], names: Sequence[str]) -> Response:
    """The first image with its detections drawn."""
    del names
    picture = cv2.cvtColor(found[0].picture, cv2.COLOR_RGB2BGR)
    done, encoded = cv2.imencode(".jpg", picture, (cv2.IMWRITE_JPEG_QUALITY, _QUALITY))
    if not done:
        height, width = picture.shape[:2]
        raise RefusalError(422, "not_drawable", f"a picture of {width} x {height} cannot be a JPEG")
    return Response(encoded.tobytes(), media_type="image/jpeg")


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RefusalError)
    logger.debug("%s %s: %d %s", request.method, request.url.path, error.status, error.message)
    return response_to(error)


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = f"{request.method} {request.url.path[:200]}: {error.detail.lower()}; see /docs"
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "malformed")
    return response_to(RefusalError(error.status_code, code, message, headers=error.headers or {}))


async def _failed(request: Request, error: Exception) -> Response:
    del request, error  # the server logs the traceback
    return response_to(RefusalError(500, "fault", "the service failed at this request; its log says why"))
