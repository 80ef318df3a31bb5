"""Detect objects with the model beside this file: ``python predict.py IMAGE|FOLDER [IMAGE|FOLDER ...]``.

Needs NumPy, OpenCV, and ONNX Runtime for ``model.onnx``, OpenVINO for ``model.xml`` or PaddlePaddle for
``model.json``; nothing of ppdet. Prints one JSON line per image: ``{"image": ..., "objects": [{"name",
"label", "score", "box"}]}``, boxes as x1, y1, x2, y2 in pixels of the image. An image that cannot be read is
told on stderr and does not end the rest; the exit status is 1 then. `Model` is the part to take into another
program.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple, Optional

import cv2
import numpy as np


class Found(NamedTuple):
    """Detections of one image, by falling score.

    Attributes:
        boxes: ``[D, 4]`` float32 x1, y1, x2, y2 in pixels of the image.
        scores: ``[D]`` float32.
        labels: ``[D]`` int64, indices of the class names.
        mask_probs: ``[D, M, M]`` float32, probabilities on a grid over each box, or None.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    mask_probs: Optional[np.ndarray]


class Model:
    """A network with the preparation of its images.

    Args:
        folder: Of the export.
        runtime: ``onnx``, ``openvino`` or ``paddle``.
        threads: Of the CPU.
    """

    def __init__(self, folder: Path, runtime: str, threads: int) -> None:
        self.info = json.loads((folder / "export.json").read_text("utf-8"))
        self.names = self.info["class_names"]
        self._run = _RUNTIMES[runtime][1](folder, threads)

    def detect(self, image: np.ndarray) -> Found:
        """Detect objects in ``[H, W, 3]`` uint8 RGB."""
        tensor, size, factor = self.prepare(image)
        outputs = self._run([tensor[None], np.array([size], np.float32), np.array([factor], np.float32)])
        real = outputs[2][0] >= 0  # the rest is padding
        masks = outputs[3][0][real] if len(outputs) > 3 else None
        return Found(outputs[0][0][real], outputs[1][0][real], outputs[2][0][real], masks)

    def objects(self, image: np.ndarray, threshold: float) -> list[dict[str, Any]]:
        """Detections of at least a score, as they are printed."""
        found = self.detect(image)
        return [
            {
                "name": self.names[int(label)],
                "label": int(label),
                "score": round(float(score), 5),
                "box": [round(float(side), 2) for side in box],
            }
            for box, score, label in zip(found.boxes, found.scores, found.labels)
            if score >= threshold
        ]

    def prepare(self, image: np.ndarray) -> tuple[np.ndarray, tuple[float, float], tuple[float, float]]:
        """The input of the network, the size of the resized image, and resized / original, all y before x."""
        steps = self.info["preprocess"]
        height, width = image.shape[:2]
        size, factor = (float(height), float(width)), (1.0, 1.0)
        if steps["target_size"] is not None:
            target = steps["target_size"]
            ratio = min(min(target) / min(height, width), max(target) / max(height, width))
            if steps["keep_ratio"] and steps["unrounded"]:
                image = cv2.resize(image.astype(np.float32), None, fx=ratio, fy=ratio)
                size, factor = (height * ratio, width * ratio), (ratio, ratio)
            else:
                if steps["keep_ratio"]:
                    target = [max(int(ratio * side + 0.5), 1) for side in (height, width)]
                image = cv2.resize(image, (target[1], target[0]), interpolation=steps["interp"])
                size = (float(target[0]), float(target[1]))
                factor = (target[0] / height, target[1] / width)
        if not self.info["uint8_input"]:
            mean, std = (np.array(steps[name], np.float32) for name in ("mean", "std"))
            image = (image.astype(np.float32) * np.float32(steps["scale"]) - mean) / std
        down, right = (-side % steps["pad_to_stride"] for side in image.shape[:2])
        image = np.pad(image, ((0, down), (0, right), (0, 0)))
        if not self.info["uint8_input"]:
            image = image.transpose(2, 0, 1)
        return np.ascontiguousarray(image), size, factor


def _open_onnx(folder: Path, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        str(folder / "model.onnx"), options, providers=onnxruntime.get_available_providers()
    )
    names = [node.name for node in session.get_inputs()]
    by_position = {"image": 0, "im_shape": 1, "scale_factor": 2}
    return lambda arrays: session.run(None, {name: arrays[by_position[name]] for name in names})


def _open_paddle(folder: Path, threads: int) -> Any:
    from paddle import inference

    config = inference.Config(str(folder / "model.json"), str(folder / "model.pdiparams"))
    config.disable_glog_info()
    config.set_cpu_math_library_num_threads(threads)
    config.enable_mkldnn()
    # Paddle 3.3 gets these two wrong; see the page on export.
    for name in ("conv_activation_onednn_fuse_pass", "operator_scale_onednn_fuse_pass"):
        config.delete_pass(name)
    predictor = inference.create_predictor(config)

    def run(arrays: list[np.ndarray]) -> list[np.ndarray]:
        for name, array in zip(("image", "im_shape", "scale_factor"), arrays):
            handle = predictor.get_input_handle(name)
            handle.reshape(array.shape)
            handle.copy_from_cpu(array)
        predictor.run()
        return [predictor.get_output_handle(name).copy_to_cpu() for name in predictor.get_output_names()]

    return run


def _open_openvino(folder: Path, threads: int) -> Any:
    import openvino

    # Without the hint it computes in bfloat16 where the processor can.
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    model = openvino.Core().compile_model(folder / "model.xml", "CPU", settings)
    names = [node.get_any_name() for node in model.inputs]
    by_position = {"image": 0, "im_shape": 1, "scale_factor": 2}

    def run(arrays: list[np.ndarray]) -> list[np.ndarray]:
        found = model({name: arrays[by_position[name]] for name in names})
        return [np.array(found[node]) for node in model.outputs]

    return run


#: File of each runtime, in the order in which they are looked for, and what opens it.
_RUNTIMES = {
    "onnx": ("model.onnx", _open_onnx),
    "openvino": ("model.xml", _open_openvino),
    "paddle": ("model.json", _open_paddle),
}
_IMAGES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}


def read_image(path: Path) -> np.ndarray:
    """A file as ``[H, W, 3]`` uint8 RGB; names in any alphabet.

    Raises:
        ValueError: If there is no image that OpenCV can read.
    """
    try:
        image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    except (OSError, cv2.error) as error:
        raise ValueError(f"{path}: {error}") from None
    if image is None:
        raise ValueError(f"{path} is no image that OpenCV can read")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def images_of(paths: list[Path]) -> list[Path]:
    """Files as they are, and the images in folders, by name."""
    found: list[Path] = []
    for path in paths:
        inside = (
            sorted(p for p in path.rglob("*") if p.suffix.lower() in _IMAGES) if path.is_dir() else [path]
        )
        found += inside
    return found


def draw(image: np.ndarray, objects: list[dict[str, Any]], target: Path) -> None:
    """Write the image with its boxes."""
    canvas = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    for one in objects:
        shade = int(one["label"] * 47 % 180)  # a hue for each class
        colour = cv2.cvtColor(np.full((1, 1, 3), (shade, 220, 255), np.uint8), cv2.COLOR_HSV2BGR)[
            0, 0
        ].tolist()
        x1, y1, x2, y2 = (round(side) for side in one["box"])
        cv2.rectangle(canvas, (x1, y1), (x2, y2), colour, 2)
        text = f"{one['name']} {one['score']:.2f}"
        cv2.putText(
            canvas, text, (x1, max(y1 - 4, 12)), cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, 1, cv2.LINE_AA
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    cv2.imencode(".jpg", canvas)[1].tofile(target)


def main() -> int:
    """Entry point."""
    folder = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("images", nargs="+", type=Path, help="image files, or folders of them")
    parser.add_argument("--model_dir", type=Path, default=folder, help="folder of the export")
    parser.add_argument("--runtime", choices=tuple(_RUNTIMES), help="default: the first whose model is there")
    parser.add_argument("--threshold", type=float, default=0.5, help="lowest score shown (default: 0.5)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="threads of the CPU")
    parser.add_argument(
        "--draw", type=Path, metavar="FOLDER", help="write the images with boxes to this folder"
    )
    args = parser.parse_args()
    there = [name for name, (file, _) in _RUNTIMES.items() if (args.model_dir / file).is_file()]
    if args.runtime is None and not there:
        parser.error(f"{args.model_dir} holds no model; give the folder of an export with --model_dir")
    model = Model(args.model_dir, args.runtime or there[0], args.threads)
    failed = 0
    for number, path in enumerate(images_of(args.images)):
        try:
            image = read_image(path)
        except ValueError as error:
            sys.stderr.write(f"skipped: {error}\n")
            failed += 1
            continue
        objects = model.objects(image, args.threshold)
        sys.stdout.write(json.dumps({"image": str(path), "objects": objects}, ensure_ascii=False) + "\n")
        if args.draw:
            draw(image, objects, args.draw / f"{number:04}_{path.stem}.jpg")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
