"""Cuts large images into tiles with their objects, and joins the detections of tiles.

A detector resizes its input, so that an object of 20 pixels in an image of 4,000 has 3 left. In tiles it
keeps its size. Tiles and their merging are those of `ppdet infer --slice_infer`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, Union

import numpy as np
from tqdm import tqdm

from ppdet.data.annotation_files import read_json
from ppdet.data.formats.coco import CocoFile
from ppdet.data.formats.coco_objects import CocoObject
from ppdet.data.formats.masks import MaskError, mask_area, read_mask, to_runs
from ppdet.data.formats.values import Id, identifier, number
from ppdet.data.geometry import crop_target, decode_runs
from ppdet.data.image_files import resolve_file
from ppdet.data.transforms.decode import read_image
from ppdet.inference.drawing import save_picture
from ppdet.inference.merging import merge
from ppdet.inference.views import Tiling, View, Views
from ppdet.report.detections_file import read_json as read_results
from ppdet.structures import Detections, Mask, Target
from ppdet.structures.sample import rle_as_text
from ppdet.utils.errors import DataError, FileError
from ppdet.utils.files import write_json

#: What a tile's row in the annotation file says about where it is from.
_KEY = "tile_of"
#: Formats that tiles keep, since they lose nothing; of others tiles are JPEG.
_LOSSLESS = {".png", ".bmp", ".tif", ".tiff"}


@dataclass(frozen=True)
class SliceOptions:
    """How images are cut.

    Attributes:
        tiling: Size and overlap of the tiles.
        min_visible: Objects of which a tile shows a smaller share are left out of it; in [0, 1].
        negatives: Share of the tiles without objects that are kept; in [0, 1].
        seed: Of the choice of those.
    """

    tiling: Tiling = field(default_factory=Tiling)
    min_visible: float = 0.3
    negatives: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value in (("min_visible", self.min_visible), ("negatives", self.negatives)):
            if not 0 <= value <= 1:
                raise DataError(f"{name} {value:g}: a share, from 0 to 1")


class Sliced(NamedTuple):
    """What `slice_dataset` wrote.

    Attributes:
        annotations: The annotation file.
        images: Images that were cut.
        tiles: Tiles written.
        objects: Objects in the tiles; one that two tiles show counts twice.
        hidden: Cut objects that were left out of a tile because too little of them is in it.
        lost: Objects that no tile shows enough of.
        empty: Tiles without objects that were not kept.
    """

    annotations: Path
    images: int
    tiles: int
    objects: int
    hidden: int
    lost: int
    empty: int


def slice_dataset(
    parsed: CocoFile, image_dir: Path, folder: Path, options: SliceOptions = SliceOptions()
) -> Sliced:
    """Write ``folder/images/`` and ``folder/annotations.json``, COCO's format.

    A tile's row says in ``tile_of`` which image it is from and where in it, for `join_detections`. Boxes,
    polygons and run lengths are cut; the box of an object with a mask fits what the tile shows of it.

    Args:
        parsed: The annotations, read with masks.
        image_dir: Folder of the images.
        folder: Where to; must be empty or absent.
        options: How to cut.

    Raises:
        DataError: If an image is missing or cannot be read.
        FileError: If the folder holds something.
    """
    if folder.exists() and any(folder.iterdir()):
        raise FileError(f"{folder} is not empty; choose another folder, or empty it")
    objects: defaultdict[int, list[CocoObject]] = defaultdict(list)
    for item in parsed.objects:
        objects[item.image].append(item)
    writer = _TileWriter(folder / "images", options)
    for row, image in enumerate(tqdm(parsed.images, "slice", unit="image", disable=None)):
        file = resolve_file(image_dir, image.file_name)
        if file is None:
            raise DataError(f"{image_dir / image.file_name}: there is no such image (image id {image.id})")
        writer.add(image.id, file, read_image(str(image_dir / file)), objects.pop(row, []))
    table = zip(parsed.categories.ids, parsed.categories.names)
    categories = [{"id": id_, "name": name} for id_, name in table]
    path = folder / "annotations.json"
    content = {"images": writer.images, "annotations": writer.annotations, "categories": categories}
    write_json(path, content)
    counts = writer.counts
    return Sliced(
        path,
        len(parsed.images),
        len(writer.images),
        len(writer.annotations),
        counts["hidden"],
        counts["lost"],
        counts["empty"],
    )


class _Piece(NamedTuple):
    """The part of an object that a tile shows.

    Attributes:
        row: Of the object in the list of its image.
        box: x1, y1, x2, y2 in pixels of the tile.
        mask: In pixels of the tile; empty without one.
        visible: Its area as a share of the object's.
    """

    row: int
    box: np.ndarray
    mask: Mask
    visible: float


def _cut(objects: Sequence[CocoObject], window: tuple[int, int, int, int]) -> Iterator[_Piece]:
    """What a window x1, y1, x2, y2 shows of the objects of an image."""
    left, top, right, bottom = window
    for row, item in enumerate(objects):
        x, y, width, height = item.box
        whole = np.array([[x, y, x + width, y + height]], np.float32)
        if x >= right or y >= bottom or x + width <= left or y + height <= top or not width * height:
            continue
        target = Target(
            boxes=whole,
            labels=np.zeros(1, np.int64),
            is_crowd=np.array([item.is_crowd]),
            masks=(item.mask,) if item.mask else None,
        )
        cut = crop_target(target, (top, left), (bottom - top, right - left))
        box = cut.boxes[0]
        inside = x >= left and y >= top and x + width <= right and y + height <= bottom
        if cut.masks is None or inside:
            mask = () if cut.masks is None else cut.masks[0]
            yield _Piece(row, box, mask, float((box[2:] - box[:2]).prod()) / (width * height))
            continue
        mask = cut.masks[0]
        area = mask_area(mask) if mask else 0.0
        if area > 0:
            bounds = _bounds(mask)
            tight = np.concatenate([np.maximum(box[:2], bounds[:2]), np.minimum(box[2:], bounds[2:])])
            yield _Piece(row, tight, mask, area / (mask_area(item.mask) or area))


def _bounds(mask: Mask) -> np.ndarray:
    """x1, y1, x2, y2 of what a mask covers."""
    if isinstance(mask, dict):
        ys, xs = np.nonzero(decode_runs(mask))
        return np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], np.float32)
    points = np.concatenate([part for part in mask if len(part)])
    return np.concatenate([points.min(axis=0), points.max(axis=0)]).astype(np.float32)


def _suffix(file: str) -> str:
    suffix = PurePosixPath(file).suffix.lower()
    return ".png" if suffix in _LOSSLESS else ".jpg"


class _TileWriter:
    """Writes the tiles of one image after the other."""

    def __init__(self, folder: Path, options: SliceOptions) -> None:
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []
        self.counts = {"hidden": 0, "lost": 0, "empty": 0}
        self._folder, self._options = folder, options
        self._stems: set[str] = set()
        self._rng = np.random.default_rng(options.seed)

    def add(self, image_id: Id, file: str, pixels: np.ndarray, objects: list[CocoObject]) -> None:
        """Cut one image."""
        height, width = pixels.shape[:2]
        stem = self._stem(file)
        shown: set[int] = set()
        for window in self._options.tiling.windows(height, width):
            cut = list(_cut(objects, window))
            kept = [piece for piece in cut if piece.visible >= self._options.min_visible]
            self.counts["hidden"] += len(cut) - len(kept)
            if not kept and self._rng.random() >= self._options.negatives:
                self.counts["empty"] += 1
                continue
            left, top, right, bottom = window
            name = f"{stem}_{top}_{left}{_suffix(file)}"
            save_picture(pixels[top:bottom, left:right], self._folder / name)
            origin = {"image_id": image_id, "file_name": file, "height": height, "width": width}
            row: dict[str, Any] = {
                "id": len(self.images) + 1,
                "file_name": name,
                "height": bottom - top,
                "width": right - left,
            }
            self.images.append({**row, _KEY: {**origin, "x": left, "y": top}})
            for piece in kept:
                self._annotate(row["id"], objects[piece.row], piece)
            shown.update(piece.row for piece in kept)
        self.counts["lost"] += len(objects) - len(shown)

    def _stem(self, file: str) -> str:
        """A name for the tiles of an image, its folders kept; with the suffix where a stem occurs twice."""
        stem = PurePosixPath(file).with_suffix("").as_posix().lstrip("/").replace("../", "")
        if stem in self._stems:
            stem = f"{stem}{PurePosixPath(file).suffix}"
        self._stems.add(stem)
        return stem

    def _annotate(self, image_id: int, item: CocoObject, piece: _Piece) -> None:
        x1, y1, x2, y2 = (round(float(value), 3) for value in piece.box)
        mask = piece.mask
        row: dict[str, Any] = {
            "id": len(self.annotations) + 1,
            "image_id": image_id,
            "category_id": item.category_id,
            "bbox": [x1, y1, round(x2 - x1, 3), round(y2 - y1, 3)],
            "area": mask_area(mask) if mask else (x2 - x1) * (y2 - y1),
            "iscrowd": int(item.is_crowd),
        }
        if isinstance(mask, dict):
            row["segmentation"] = rle_as_text(mask)
        elif mask:
            row["segmentation"] = [np.round(part.reshape(-1), 3).tolist() for part in mask]
        self.annotations.append(row)


def join_detections(
    detections: Union[Path, Sequence[Mapping[str, Any]]],
    tiles: Path,
    *,
    match_threshold: float = 0.5,
) -> list[dict[str, Any]]:
    """Join detections of tiles into detections of the images, as `ppdet infer --slice_infer` does.

    Pieces of an object that tiles have cut become one, and what two tiles show both is listed once.

    Args:
        detections: Results of the tiles in COCO's format, or their file.
        tiles: The annotation file that `slice_dataset` wrote.
        match_threshold: IoU above which detections of one class are one object.

    Returns:
        Results in COCO's format, with the ids of the images that were cut.

    Raises:
        DataError: If a file is of another kind, or the two do not belong together.
    """
    origins = _origins(tiles)
    rows = read_results(detections) if isinstance(detections, Path) else detections
    source = detections if isinstance(detections, Path) else "detections"
    if not isinstance(rows, list) or any(not isinstance(row, Mapping) for row in rows):
        raise DataError(
            f"{source}: expected COCO's results, a list of {{image_id, category_id, bbox, score}} "
            "(ppdet eval --save_results, ppdet infer --formats coco)"
        )
    by_image: defaultdict[Id, dict[Id, list[Mapping[str, Any]]]] = defaultdict(dict)
    for row in rows:
        tile = identifier(row.get("image_id"))
        if tile is None or tile not in origins:
            raise DataError(f"{source}: image_id {row.get('image_id')!r} is no tile of {tiles}")
        by_image[origins[tile].image_id].setdefault(tile, []).append(row)
    rule = Views(match_threshold=match_threshold)
    joined: list[dict[str, Any]] = []
    for image_id, found in by_image.items():
        places = [origins[tile] for tile in found]
        parts = [_detections(found[tile], place, str(source)) for tile, place in zip(found, places)]
        views = [View(place.window, False, None) for place in places]
        whole = merge(parts, views, rule, image_id=0, size=places[0].size)
        joined += _results(whole, image_id)
    return joined


class _Origin(NamedTuple):
    """Where a tile is from: its image, that image's (height, width), and x1, y1, x2, y2 in it."""

    image_id: Id
    size: tuple[int, int]
    window: tuple[int, int, int, int]


def _origins(path: Path) -> dict[Id, _Origin]:
    """The tiles of an annotation file by their ids."""
    content = read_json(path)
    rows = content.get("images") if isinstance(content, Mapping) else None
    origins: dict[Id, _Origin] = {}
    for row in rows if isinstance(rows, list) else []:
        try:
            origin = row[_KEY]
            x, y = int(origin["x"]), int(origin["y"])
            window = (x, y, x + int(row["width"]), y + int(row["height"]))
            origins[row["id"]] = _Origin(
                origin["image_id"], (int(origin["height"]), int(origin["width"])), window
            )
        except (KeyError, TypeError, ValueError):
            raise DataError(
                f"{path}: an image has no {_KEY}; this is no file of `ppdet data slice`"
            ) from None
    if not origins:
        raise DataError(f"{path}: no images; this is no file of `ppdet data slice`")
    return origins


def _detections(rows: Sequence[Mapping[str, Any]], place: _Origin, source: str) -> Detections:
    """Detections of one tile; labels are category ids here."""
    left, top, right, bottom = place.window
    size = (bottom - top, right - left)
    boxes, scores, labels, masks = [], [], [], []
    for row in rows:
        box = [number(value) for value in row.get("bbox") or ()]
        score, label = number(row.get("score")), row.get("category_id")
        if len(box) != 4 or None in box or score is None or not isinstance(label, int):
            raise DataError(f"{source}: a result lacks bbox, score or category_id: {str(row)[:100]}")
        boxes.append(box)
        scores.append(score)
        labels.append(label)
        if row.get("segmentation"):
            try:
                masks.append(read_mask(row["segmentation"], size))
            except MaskError as error:
                raise DataError(f"{source}: {error}") from None
    corners = np.array(boxes, np.float32)
    corners[:, 2:] += corners[:, :2]
    runs = tuple(to_runs(mask, size) for mask in masks) if len(masks) == len(boxes) else None
    return Detections(0, corners, np.array(scores, np.float32), np.array(labels, np.int64), runs)


def _results(found: Detections, image_id: Id) -> Iterator[dict[str, Any]]:
    for row in range(len(found)):
        x1, y1, x2, y2 = (round(float(value), 3) for value in found.boxes[row])
        result: dict[str, Any] = {
            "image_id": image_id,
            "category_id": int(found.labels[row]),
            "bbox": [x1, y1, round(x2 - x1, 3), round(y2 - y1, 3)],
            "score": round(float(found.scores[row]), 6),
        }
        if found.masks is not None:
            result["segmentation"] = rle_as_text(found.masks[row])
        yield result
