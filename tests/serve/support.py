"""A detector whose every answer is known, its service on a port of this machine, and a client of it."""

from __future__ import annotations

import contextlib
import http.client
import json
import struct
import threading
import time
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Optional

import cv2
import numpy as np
import uvicorn

from ppdet.config.spec import Spec
from ppdet.data.readers import Reader, TestReader
from ppdet.data.transforms.decode import Decode
from ppdet.data.transforms.normalize import NormalizeImage, Permute
from ppdet.data.transforms.pad import PadBatch
from ppdet.data.transforms.resize import Resize
from ppdet.experiment.trained import TrainedDetector
from ppdet.inference.predictors import Predictor
from ppdet.ops.masks import encode_window
from ppdet.serve.app import detector_app
from ppdet.serve.limits import ServeLimits
from ppdet.serve.server import bound_socket
from ppdet.structures import Batch, Detections, original_sizes

NAMES = ("cat", "dog", "bird")
SIDE = 64
_DEFAULT = ServeLimits()


class KnownPredictor(Predictor):
    """Detects a cat in the left half of every image, and in the right a dog, whose score is the mean of red.

    Attributes:
        batches: Number of images of every batch so far.
        gate: Batches wait until it is set.
        error: Raised at the next batch.
    """

    runtime = "known answers"

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.gate = threading.Event()
        self.gate.set()
        self.error: Optional[Exception] = None

    def run(self, batch: Batch) -> np.ndarray:
        """Mean red of each image, 0 to 1."""
        self.gate.wait(20)
        self.batches.append(len(batch.image_ids))
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        images, sizes = np.asarray(batch.images), np.asarray(batch.image_sizes).astype(int)
        return np.array([image[0, :h, :w].mean() for image, (h, w) in zip(images, sizes)])

    def finish(self, batch: Batch, raw: np.ndarray) -> list[Detections]:
        """Two objects with masks in each image."""
        sizes = original_sizes(np.asarray(batch.image_sizes), np.asarray(batch.scale_factors))
        found = []
        for (height, width), red in zip(sizes.tolist(), raw):
            size, half = (int(height), int(width)), width / 2
            windows = ((0, 0, int(half), size[0]), (int(half), 0, size[1], size[0]))
            masks = tuple(
                encode_window(np.ones((x2 - x1, y2 - y1), bool), x1, y1, size) for x1, y1, x2, y2 in windows
            )
            found.append(
                Detections(
                    image_id=0,
                    boxes=np.array([[0, 0, half, height], [half, 0, width, height]], np.float32),
                    scores=np.array([0.9, red], np.float32),
                    labels=np.array([0, 1]),
                    masks=masks,
                )
            )
        return found


class KnownDetector(TrainedDetector):
    """A detector of `KnownPredictor`."""

    experiment = None
    has_masks = True
    final_nms = None

    def __init__(self) -> None:
        super().__init__(source="/secret/place/known", class_names=NAMES, runtime="auto")
        self.network = KnownPredictor()

    def reader(self, key: str) -> Reader:
        """Images of 64 pixels, values from 0 to 1."""
        del key
        steps: list[Any] = [
            Spec.of(Decode),
            Spec.of(Resize, target_size=(SIDE, SIDE), keep_ratio=True),
            Spec.of(NormalizeImage, mean=[0.0] * 3, std=[1.0] * 3, is_scale=True),
            Spec.of(Permute),
        ]
        return TestReader(sample_transforms=steps, batch_transforms=[Spec.of(PadBatch, pad_to_stride=32)])

    def predictor(self, reader: Reader, images: int) -> Predictor:
        """Known answers."""
        del reader, images
        return self.network

    def export(self, *args: Any, **kwargs: Any) -> Any:
        """Is not tried."""
        raise NotImplementedError


class Answer(NamedTuple):
    """What a service answers."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body, read as JSON."""
        return json.loads(self.body)

    def code(self) -> str:
        """The code of a refusal, whose message is a sentence."""
        error = self.json()["error"]
        assert len(error["message"]) > 10
        return str(error["code"])


class Client(NamedTuple):
    """Talks to a service on a port of this machine."""

    port: int

    def ask(
        self,
        method: str,
        path: str,
        body: Optional[bytes] = None,
        headers: Optional[dict[str, str]] = None,
    ) -> Answer:
        """One request on a connection of its own."""
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            connection.request(method, path, body, headers or {})
            got = connection.getresponse()
            return Answer(got.status, {k.lower(): v for k, v in got.getheaders()}, got.read())

    def detect(self, *images: bytes, query: str = "", **headers: str) -> Answer:
        """A form with images."""
        body, kind = form(*images)
        return self.ask("POST", f"/v1/detect{query}", body, {"Content-Type": kind, **headers})


def form(*images: bytes, field: str = "images", filename: str = "photo.png") -> tuple[bytes, str]:
    """multipart/form-data and its Content-Type."""
    edge = b"edge-of-part"
    parts = [
        b'--%b\r\nContent-Disposition: form-data; name="%b"; filename="%b"\r\n\r\n%b\r\n'
        % (edge, field.encode(), filename.encode(), image)
        for image in images
    ]
    return b"".join([*parts, b"--%b--\r\n" % edge]), "multipart/form-data; boundary=edge-of-part"


def picture(height: int = 48, width: int = 64, red: int = 204, suffix: str = ".png") -> bytes:
    """An image file of one colour."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 2] = red
    done, encoded = cv2.imencode(suffix, pixels)
    assert done
    return encoded.tobytes()


def png_bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header states a size."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + crc

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@contextlib.contextmanager
def service(detector: TrainedDetector, limits: ServeLimits = _DEFAULT, **options: Any) -> Iterator[Client]:
    """The service of a detector, in a thread."""
    app = detector_app(detector, limits, **options)
    listening = bound_socket("127.0.0.1", 0, 64)
    config = uvicorn.Config(app, log_config=None, lifespan="on", http="h11", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        wait_until(lambda: server.started)
        yield Client(listening.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


def wait_until(condition: Any, seconds: float = 20.0) -> None:
    """Wait for something that another thread does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)
