"""The same small dataset as people have it: four 64x64 JPEGs with a cat and a dog each, in four formats."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.data.support import write_image

SIDE = 64
NAMES = ("a", "b", "c", "d")
#: x1, y1, x2, y2 in pixels, the same in every image.
BOXES = {"cat": (8.0, 8.0, 32.0, 24.0), "dog": (30.0, 20.0, 60.0, 60.0)}


def write_images(folder: Path) -> None:
    """a.jpg to d.jpg."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(NAMES):
        write_image(folder / f"{name}.jpg", SIDE, SIDE, seed)


def coco() -> dict[str, Any]:
    """The content of a COCO annotation file; image ids from 1, category ids 1 and 2."""
    content: dict[str, Any] = {
        "images": [
            {"id": k, "file_name": f"{name}.jpg", "height": SIDE, "width": SIDE}
            for k, name in enumerate(NAMES, start=1)
        ],
        "annotations": [],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }
    for image in content["images"]:
        for number, (x1, y1, x2, y2) in enumerate(BOXES.values(), start=1):
            content["annotations"].append(
                {
                    "id": len(content["annotations"]) + 1,
                    "image_id": image["id"],
                    "category_id": number,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": 0,
                    "segmentation": [[x1, y1, x2, y1, x2, y2, x1, y2]],
                }
            )
    return content


def write_coco(folder: Path, content: dict[str, Any]) -> dict[str, str]:
    """Annotations and images; returns the arguments of the dataset."""
    write_images(folder / "images")
    (folder / "anno.json").write_text(json.dumps(content), "utf-8")
    return {"dataset_dir": str(folder), "image_dir": "images", "anno_path": "anno.json"}


def voc(
    boxes: dict[str, tuple[float, float, float, float]] = BOXES, size: tuple[int, int] = (SIDE, SIDE)
) -> str:
    """The content of an XML file."""
    objects = "".join(
        f"<object><name>{name}</name><difficult>0</difficult><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin>"
        f"<xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
        for name, (x1, y1, x2, y2) in BOXES.items()
    )
    return (
        f"<annotation><size><width>{size[1]}</width><height>{size[0]}</height><depth>3</depth></size>"
        f"{objects}</annotation>"
    )


def write_voc(folder: Path) -> dict[str, str]:
    """JPEGImages, Annotations, train.txt, labels.txt; returns the arguments of the dataset."""
    write_images(folder / "JPEGImages")
    (folder / "Annotations").mkdir(exist_ok=True)
    for name in NAMES:
        (folder / "Annotations" / f"{name}.xml").write_text(voc(), "utf-8")
    lines = "".join(f"JPEGImages/{name}.jpg Annotations/{name}.xml\n" for name in NAMES)
    (folder / "train.txt").write_text(lines, "utf-8")
    (folder / "labels.txt").write_text("cat\ndog\n", "utf-8")
    return {"dataset_dir": str(folder), "anno_path": "train.txt", "label_list": "labels.txt"}


def write_yolo(folder: Path) -> None:
    """images and labels, a text file per image."""
    write_images(folder / "images")
    (folder / "labels").mkdir(exist_ok=True)
    lines = []
    for number, (x1, y1, x2, y2) in enumerate(BOXES.values()):
        shares = ((x1 + x2) / 2 / SIDE, (y1 + y2) / 2 / SIDE, (x2 - x1) / SIDE, (y2 - y1) / SIDE)
        lines.append(f"{number} {' '.join(map(str, shares))}\n")
    for name in NAMES:
        (folder / "labels" / f"{name}.txt").write_text("".join(lines), "utf-8")


def labelme(image: str) -> dict[str, Any]:
    """The content of a labelme file."""
    shapes = [
        {"label": name, "shape_type": "rectangle", "points": [[x1, y1], [x2, y2]], "group_id": None}
        for name, (x1, y1, x2, y2) in BOXES.items()
    ]
    return {"imagePath": image, "imageHeight": SIDE, "imageWidth": SIDE, "shapes": shapes}


def write_labelme(folder: Path) -> None:
    """images, and a JSON file per image beside it."""
    write_images(folder / "images")
    for name in NAMES:
        (folder / "images" / f"{name}.json").write_text(json.dumps(labelme(f"{name}.jpg")), "utf-8")
