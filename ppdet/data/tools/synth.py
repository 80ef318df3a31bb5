"""A small dataset out of nothing: shapes of six classes, in COCO format, the same for the same seed."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Union

import numpy as np

from ppdet.data.formats.masks import polygon_area
from ppdet.data.image_files import forget_listings
from ppdet.data.tools.shapes import CLASSES, SCENES, Drawn, draw_picture
from ppdet.utils.errors import DataError

logger = logging.getLogger(__name__)

#: Goes up when the pictures change, so that old ones are made again.
_VERSION = 1
#: Says what a folder was made from; written last, so a folder without it is unfinished.
_MARK = "synthetic.json"
#: Sides of the pictures vary between this share of the size and the size.
_LEAST_SIDE = 0.8
_JPEG_QUALITY = 92


@dataclass(frozen=True)
class SyntheticOptions:
    """What to make.

    Attributes:
        train: Number of training images.
        val: Number of validation images.
        height: Largest height in pixels, 64 or more.
        width: Largest width in pixels, 64 or more.
        seed: Seed of everything.
        scene: A key of `SCENES`: ``mixed``; ``occluded``, objects in front of each other; ``scales``, from
            tiny to as large as the image; ``small``, many small objects; ``touching``, rows of them.

    Raises:
        DataError: If a number is out of range, or there is no such scene.
    """

    train: int = 300
    val: int = 60
    height: int = 240
    width: int = 320
    seed: int = 0
    scene: str = "mixed"

    def __post_init__(self) -> None:
        if min(self.train, self.val) < 1 or self.seed < 0:
            raise DataError(
                f"train {self.train}, val {self.val}: 1 or more of each; seed {self.seed}: 0 or more"
            )
        if self.scene not in SCENES:
            raise DataError(f"there is no scene {self.scene!r}; there are {', '.join(SCENES)}")
        if min(self.height, self.width) < 64:
            raise DataError(f"images of {self.height}x{self.width}: make them 64 pixels or more each way")


def write_dataset(
    folder: Union[str, os.PathLike[str]],
    options: SyntheticOptions = SyntheticOptions(),
) -> bool:
    """Write ``train/``, ``val/`` and ``annotations/instances_{train,val}.json``.

    Args:
        folder: Where to; made if absent. A folder that holds something else is not touched.
        options: What to make.

    Returns:
        False if the folder already holds just this, True if it was written.

    Raises:
        DataError: If the folder holds other files or cannot be written.
    """
    folder = Path(folder)
    mark = folder / _MARK
    wanted = {"version": _VERSION, **asdict(options)}
    if mark.is_file() and _content(mark) == wanted:
        return False
    if folder.exists() and not mark.is_file() and any(folder.iterdir()):
        unfinished = (folder / "annotations").is_dir() and (folder / "train").is_dir()
        if not unfinished:
            raise DataError(f"{folder} is not empty; choose another folder, or empty it")
    try:
        mark.unlink(missing_ok=True)
        for split, count in (("train", options.train), ("val", options.val)):
            _write_split(folder, split, count, options)
        mark.write_text(json.dumps(wanted), "utf-8")
    except OSError as error:
        raise DataError(f"{folder}: cannot be written: {error.strerror or error}") from None
    forget_listings()
    return True


def _content(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None


def _write_split(folder: Path, split: str, count: int, options: SyntheticOptions) -> None:
    import cv2

    images = folder / split
    images.mkdir(parents=True, exist_ok=True)
    for old in images.glob("*.jpg"):
        old.unlink()
    records: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    stream = ("train", "val").index(split)
    for number in range(count):
        # Each picture has randomness of its own: more pictures do not change the first ones.
        rng = np.random.default_rng([options.seed, stream, number])
        size = (
            int(rng.integers(int(_LEAST_SIDE * options.height), options.height + 1)),
            int(rng.integers(int(_LEAST_SIDE * options.width), options.width + 1)),
        )
        picture, objects = draw_picture(size, rng, SCENES[options.scene])
        name = f"{split}_{number:05d}.jpg"
        bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
        _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
        (images / name).write_bytes(data.tobytes())
        records.append({"id": number + 1, "file_name": name, "height": size[0], "width": size[1]})
        annotations += [
            _annotation(item, number + 1, len(annotations) + k) for k, item in enumerate(objects, 1)
        ]
    content = {
        "info": {"description": "synthetic shapes made by ppdet"},
        "images": records,
        "annotations": annotations,
        "categories": [
            {"id": k, "name": name, "supercategory": "shape"} for k, name in enumerate(CLASSES, 1)
        ],
    }
    (folder / "annotations").mkdir(exist_ok=True)
    (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(content), "utf-8")
    logger.info("%s: %d images, %d objects", images, len(records), len(annotations))


def _annotation(item: Drawn, image_id: int, number: int) -> dict[str, Any]:
    x1, y1, x2, y2 = item.box
    return {
        "id": number,
        "image_id": image_id,
        "category_id": item.label + 1,
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": sum(polygon_area(part) for part in item.polygons),
        "iscrowd": 0,
        "segmentation": [part.reshape(-1).tolist() for part in item.polygons],
    }
