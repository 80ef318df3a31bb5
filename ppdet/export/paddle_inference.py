"""Export for Paddle Inference."""

from __future__ import annotations

from pathlib import Path

from ppdet.export.info import ExportInfo
from ppdet.export.program import DetectionProgram, save_program
from ppdet.export.sessions import PADDLE_MODEL
from ppdet.modeling.interfaces import Detector


def export_paddle(model: Detector, folder: Path, info: ExportInfo) -> Path:
    """Write the model into a folder; returns the file of its structure."""
    normalize = info.preprocess if info.uint8_input else None
    save_program(DetectionProgram(model, normalize), folder / "model", uint8_input=info.uint8_input)
    return folder / PADDLE_MODEL
