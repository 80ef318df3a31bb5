"""The export that programs written for PaddleDetection 2.x read: one table of detections per batch.

Letters: N images, D detections per image at most, n detections of all images.
"""

from __future__ import annotations

from pathlib import Path

import paddle
from paddle import Tensor

from ppdet.export.errors import ExportError
from ppdet.export.info import ExportInfo
from ppdet.export.program import DetectionProgram, save_program
from ppdet.export.sessions import PADDLE2X_FOLDER, PADDLE_MODEL
from ppdet.modeling.interfaces import Detector


class TableProgram(DetectionProgram):
    """As `DetectionProgram`, with the two outputs of 2.x."""

    def forward(self, image: Tensor, im_shape: Tensor, scale_factor: Tensor) -> list[Tensor]:
        """Detections.

        Args:
            image: As in `DetectionProgram`.
            im_shape: As there.
            scale_factor: As there.

        Returns:
            ``[n, 6]`` float32 of label, score, x1, y1, x2, y2 in original pixels, image after image, and
            ``[N]`` int32, the number of rows of each. Without any detections, the table is one row with
            label -1 and score 0.
        """
        detections = self.detect(image, im_shape, scale_factor)
        columns = [
            detections.labels.astype("float32").unsqueeze(-1),
            detections.scores.unsqueeze(-1),
            detections.boxes,
        ]
        rows = paddle.flatten(paddle.concat(columns, axis=-1), 0, 1)
        real = detections.labels >= 0
        # Paddle Inference 3.3.1 hangs on a table without rows, so one padded row stays without detections.
        nothing = paddle.logical_not(paddle.any(real))
        first = paddle.arange(paddle.shape(rows)[0]) == 0
        kept = paddle.nonzero(paddle.flatten(real) | (first & nothing)).squeeze(1)
        return [paddle.gather(rows, kept), real.astype("int32").sum(axis=1).astype("int32")]


def export_paddle2x(model: Detector, folder: Path, info: ExportInfo) -> Path:
    """Write the model into a folder of its own; returns the file of its structure.

    Raises:
        ExportError: If it has masks or takes bytes, which the programs of 2.x would read otherwise.
    """
    if info.has_masks:
        raise ExportError(
            "paddle2x has no masks: 2.x pasted them into whole images inside the graph. Use paddle "
            "or onnx, which put out a grid over each box"
        )
    if info.uint8_input:
        raise ExportError("paddle2x takes normalised images, as the programs of 2.x give; leave out uint8")
    target = folder / PADDLE2X_FOLDER
    target.mkdir(parents=True, exist_ok=True)
    save_program(TableProgram(model), target / "model", uint8_input=False)
    return target / PADDLE_MODEL
