"""Frames of a video, one after the other, and drawn frames as a video."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

import numpy as np

from ppdet.structures import Sample
from ppdet.utils.errors import DataError

#: Endings of video files, in lower case.
SUFFIXES = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv"})
#: Frames per second of videos that do not tell.
_USUAL_RATE = 25.0
#: Encoders to try, with the file type that goes with each. OpenCV's own builds have both.
_ENCODERS = (("mp4v", ".mp4"), ("MJPG", ".avi"))
WRITTEN_VIDEOS = tuple(suffix for _, suffix in _ENCODERS)


class Video:
    """A video file.

    Args:
        path: The file.

    Attributes:
        path: The file.
        rate: Frames per second.

    Raises:
        DataError: If OpenCV cannot read it.
    """

    def __init__(self, path: str) -> None:
        import cv2

        self.path = path
        self._capture = cv2.VideoCapture(path) if Path(path).is_file() else None
        if self._capture is None or not self._capture.isOpened():
            reason = "does not exist" if self._capture is None else "is no video that OpenCV can read"
            raise DataError(f"video {path} {reason}")
        self.rate = float(self._capture.get(cv2.CAP_PROP_FPS)) or _USUAL_RATE
        self._frames = max(0, int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))

    def __len__(self) -> int:
        """Frames; 0 if the file does not tell."""
        return self._frames

    def __iter__(self) -> Iterator[Sample]:
        """Frames in order, numbered from 0; each is read when it is asked for."""
        import cv2

        assert self._capture is not None
        index = 0
        while True:
            there, frame = self._capture.read()
            if not there:
                return
            yield Sample(index, f"{self.path}, frame {index}", cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
            index += 1


class VideoWriter:
    """Writes frames of one size.

    Args:
        path: Where to; its ending is replaced by that of the encoder in use.
        rate: Frames per second.
    """

    def __init__(self, path: Path, rate: float) -> None:
        self._wanted = path
        self._rate = rate
        self._writer: Optional[Any] = None
        self._size = (0, 0)
        self.path = path.with_suffix(_ENCODERS[0][1])

    def write(self, frame: np.ndarray) -> None:
        """Add a frame ``[H, W, 3]`` uint8 RGB; one of another size than the first is resized.

        Raises:
            DataError: If OpenCV has no encoder that works.
        """
        import cv2

        if self._writer is None:
            self._open(frame.shape[1], frame.shape[0])
        assert self._writer is not None
        if (frame.shape[1], frame.shape[0]) != self._size:
            frame = cv2.resize(frame, self._size)
        self._writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))

    def _open(self, width: int, height: int) -> None:
        import cv2

        for code, suffix in _ENCODERS:
            self.path = self._wanted.with_suffix(suffix)
            fourcc = cv2.VideoWriter.fourcc(*code)
            writer = cv2.VideoWriter(str(self.path), fourcc, self._rate, (width, height))
            if writer.isOpened():
                self._writer, self._size = writer, (width, height)
                return
        raise DataError(f"no video can be written to {self._wanted.parent}: OpenCV has no encoder for it")

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.release()
