"""Protects that pixels, boxes and polygons are the ones the published models were trained and tested on.

The numbers are PaddleDetection's own, from `data_pipeline.npz`. Its images are known by sha256. OpenCV 4.11
made them; OpenCV 5.0 gives the same bytes for decoding, resizing and blending, so the hashes are compared as
they are, but only where this machine's libjpeg decodes the files to the same bytes.
"""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Any, Optional

import cv2
import numpy as np
import pytest

from ppdet.data.datasets.coco import COCODataSet
from ppdet.data.finish import Finish
from ppdet.data.transforms.base import Transform
from ppdet.data.transforms.decode import Decode
from ppdet.data.transforms.expand import ExpandParams, RandomExpand
from ppdet.data.transforms.flip import RandomFlip
from ppdet.data.transforms.mixup import Mixup
from ppdet.data.transforms.normalize import NormalizeImage, Permute
from ppdet.data.transforms.pad import PadBatch
from ppdet.data.transforms.resize import Resize
from ppdet.data.transforms.yolo_format import PadBox
from ppdet.structures import Polygons, Sample, Target
from tests.oracles.resize import bicubic
from tests.support import TINY_COCO, load_golden, requires_shared

pytestmark = requires_shared
RNG = np.random.default_rng(0)
#: Reader -> interpolation, stride. All keep the ratio at 800 / 1333 but YOLO, which is 608 x 608.
READERS = {"rcnn_fpn": (2, 32), "rcnn_c4": (2, -1), "retina": (1, 32), "yolov3": (2, -1)}


@cache
def golden() -> tuple[Any, dict[str, Any]]:
    return load_golden("data_pipeline")


@cache
def dataset(load_crowd: bool = False, allow_empty: bool = True) -> COCODataSet:
    return COCODataSet(
        dataset_dir=str(TINY_COCO),
        image_dir="val2017",
        anno_path="annotations/instances_val2017.json",
        data_fields=["image", "gt_bbox", "gt_class", "is_crowd", "gt_poly"],
        load_crowd=load_crowd,
        allow_empty=allow_empty,
    )


def sample(name: str, *, load_crowd: bool = False) -> Sample:
    data = dataset(load_crowd)
    rows = [k for k in range(len(data.packed)) if data.packed.name(k) == name]
    decoded = Decode()(data[rows[0]], RNG)
    assert decoded.image is not None
    if name == golden()[1]["files"][0] and not same_bytes(decoded.image, "rcnn_fpn/0/Decode"):
        pytest.skip("this libjpeg decodes to other bytes than the one the goldens were made with")
    return decoded


def same_bytes(image: np.ndarray, key: str) -> bool:
    """Whether an image has the hash of the golden, once in its dtype."""
    wanted = golden()[1]["hashes"][key]
    assert list(image.shape) == wanted["shape"], key
    content = np.ascontiguousarray(image.astype(wanted["dtype"]))
    return hashlib.sha256(content.tobytes()).hexdigest() == wanted["sha256"]


def check_resized(image: np.ndarray, key: str, source: np.ndarray, *, flipped: bool = False) -> None:
    """The bytes of the golden; or, where OpenCV rounds ties otherwise, the exact values rounded.

    OpenCV's bicubic kernel for processors with AVX-512, which made the goldens, and that for AVX2 differ in
    two
    pixels of ten thousand, all of which lie halfway between two numbers.
    """
    if same_bytes(image, key):
        return
    exact = bicubic(source, *image.shape[:2])
    check_rounded(image, exact[:, ::-1] if flipped else exact)


def check_pixels(image: np.ndarray, key: str, source: Optional[np.ndarray], interp: int) -> None:
    """As `check_resized` where the interpolation is bicubic; else the bytes of the golden."""
    assert source is not None
    if interp == cv2.INTER_CUBIC:
        check_resized(image, key, source)
    else:
        assert same_bytes(image, key)


def resizes_as_the_goldens() -> bool:
    """Whether OpenCV's bicubic kernel for this processor is the one that made the goldens."""
    resize = Resize(target_size=[800, 1333], keep_ratio=True, interp=cv2.INTER_CUBIC)
    resized = resize(sample(golden()[1]["files"][0]), RNG)
    assert resized.image is not None
    return same_bytes(resized.image, "rcnn_fpn/0/Resize")


def check_rounded(image: np.ndarray, exact: np.ndarray) -> None:
    """Every number is the nearest one, or one of the two nearest."""
    assert np.abs(image - exact).max() <= 0.5 + 1e-4
    assert (image != np.round(exact)).mean() < 1e-3


def check_floats(image: np.ndarray, key: str, *, samples: bool = True) -> None:
    """Compare shape, statistics, and a sample every so many pixels."""
    arrays = golden()[0]
    assert list(image.shape) == golden()[1]["hashes"][key]["shape"]
    if f"{key}/stats" not in arrays.files:
        return
    wide = image.astype(np.float64)
    mine = [wide.mean(), wide.std(), wide.min(), wide.max()]
    np.testing.assert_allclose(mine, arrays[f"{key}/stats"], rtol=1e-5, atol=1e-6)
    if samples and f"{key}/sample" in arrays.files:
        wanted = arrays[f"{key}/sample"]
        step = max(1, image.size // 1000) | 1
        np.testing.assert_allclose(image.ravel()[::step][:1000], wanted, rtol=1e-5, atol=1e-5)


def test_records_and_categories() -> None:
    meta = golden()[1]["dataset"]
    kept, dropped = dataset(), dataset(allow_empty=False)
    assert (len(kept), len(dropped)) == (50, meta["records"])
    assert dropped.packed.image_ids.tolist() == meta["im_ids"]
    assert len(dropped.packed.boxes) == len(kept.packed.boxes) == meta["boxes"]
    crowded = dataset(load_crowd=True, allow_empty=False)
    assert len(crowded) == meta["records_load_crowd"]
    assert len(crowded.packed.boxes) == meta["boxes_load_crowd"]
    labels = {str(id_): label for label, id_ in enumerate(kept.categories.ids)}
    assert labels == meta["catid2clsid"]


@pytest.mark.parametrize("index", range(3))
@pytest.mark.parametrize("reader", READERS)
def test_evaluation_readers(reader: str, index: int) -> None:
    arrays, meta = golden()
    interp, stride = READERS[reader]
    size = [608, 608] if reader == "yolov3" else [800, 1333]
    resize = Resize(target_size=size, keep_ratio=reader != "yolov3", interp=interp)
    resized = resize(sample(meta["files"][index]), RNG)
    assert resized.image is not None
    key = f"{reader}/{index}"
    if f"{key}/Resize" in meta["hashes"]:
        check_pixels(resized.image, f"{key}/Resize", sample(meta["files"][index]).image, interp)
    if f"{key}/im_shape" in arrays.files:
        assert resized.image_size == tuple(arrays[f"{key}/im_shape"].tolist())
        np.testing.assert_array_equal(np.float32(resized.scale_factor), arrays[f"{key}/scale_factor"])
        assert resized.original_size == tuple(arrays[f"{key}/hw"].tolist())
    final = Permute()(NormalizeImage()(resized, RNG), RNG)
    assert final.image is not None
    if f"{key}/Permute" in meta["hashes"]:
        check_floats(final.image, f"{key}/Permute")
    (padded,) = PadBatch(pad_to_stride=stride).run([final], RNG)
    assert padded.image is not None
    check_floats(padded.image, f"{key}/batch1")


@pytest.mark.parametrize("reader", ["rcnn_fpn", "rcnn_c4", "retina"])
def test_batches_of_three(reader: str) -> None:
    """Each image of a mixed batch is its content, then zeros up to the common size."""
    meta = golden()[1]
    interp, stride = READERS[reader]
    steps: list[Transform] = [
        Resize(target_size=[800, 1333], keep_ratio=True, interp=interp),
        NormalizeImage(),
        Permute(),
    ]
    samples = [sample(name) for name in meta["files"]]
    for step in steps:
        samples = step.run(samples, RNG)
    padded = PadBatch(pad_to_stride=stride).run(samples, RNG)
    batch = np.stack([s.image for s in padded if s.image is not None])
    finish = Finish(NormalizeImage(), PadBatch(pad_to_stride=stride))
    travelled = finish.stack([steps[0](sample(name), RNG).image for name in meta["files"]])  # type: ignore[misc]
    assert travelled["images"].dtype == np.uint8
    np.testing.assert_array_equal(finish(**travelled).numpy(), batch)
    assert list(batch.shape) == meta["hashes"][f"{reader}/batch3"]["shape"]
    check_floats(batch, f"{reader}/batch3")


def check_target(target: Target, key: str, *, atol: float = 0.0) -> None:
    arrays = golden()[0]
    np.testing.assert_allclose(target.boxes, arrays[f"{key}/gt_bbox"], rtol=0, atol=atol, err_msg=key)
    if f"{key}/gt_class" in arrays.files:
        np.testing.assert_array_equal(target.labels, arrays[f"{key}/gt_class"].ravel())
        np.testing.assert_array_equal(target.is_crowd, arrays[f"{key}/is_crowd"].ravel().astype(bool))
    if f"{key}/gt_poly/parts" in arrays.files:
        check_polygons(target, key)


def check_polygons(target: Target, key: str) -> None:
    """Compare polygon by polygon; 2.x has a made-up polygon where a crowd has run lengths."""
    arrays = golden()[0]
    assert target.masks is not None
    parts, lengths = arrays[f"{key}/gt_poly/parts"], arrays[f"{key}/gt_poly/lengths"]
    wanted = np.split(arrays[f"{key}/gt_poly/points"], np.cumsum(lengths)[:-1])
    for mask, first, count in zip(target.masks, np.cumsum(parts) - parts, parts):
        if isinstance(mask, dict):
            assert not np.any(wanted[first])
            continue
        polygons: Polygons = mask
        assert len(polygons) == count
        for polygon, expected in zip(polygons, wanted[first : first + count]):
            np.testing.assert_allclose(polygon.reshape(-1), expected, rtol=0, atol=2e-4, err_msg=key)


@pytest.mark.parametrize("index", range(3))
def test_training_targets(index: int) -> None:
    meta = golden()[1]
    name, key = meta["train_files"][index], f"train/{index}"
    raw = sample(name)
    assert raw.target is not None
    check_target(raw.target, f"{key}/raw")
    crowded = sample(name, load_crowd=True).target
    assert crowded is not None
    check_target(crowded, f"{key}/raw_load_crowd")
    flipped = RandomFlip().apply(raw, True)
    resized = Resize(target_size=[640, 1333], keep_ratio=True, interp=1)(raw, RNG)
    both = RandomFlip().apply(resized, True)
    for result, step in ((flipped, "flip"), (resized, "resize640"), (both, "resize640_flip")):
        assert result.target is not None
        check_target(result.target, f"{key}/{step}", atol=1e-4)
        assert result.image_size == tuple(golden()[0][f"{key}/{step}/im_shape"].tolist())
    assert flipped.image is not None
    assert same_bytes(flipped.image, f"{key}/flip/image")


@pytest.mark.parametrize("index", range(3))
def test_resized_and_flipped_pixels(index: int) -> None:
    """The golden resized bytes and kept the whole numbers as float32."""
    raw = sample(golden()[1]["train_files"][index])
    resized = Resize(target_size=[640, 1333], keep_ratio=True, interp=2)(raw, RNG)
    image = RandomFlip().apply(resized, True).image
    assert image is not None
    assert raw.image is not None
    check_resized(image, f"train/{index}/resize640_flip/image", raw.image, flipped=True)


@pytest.mark.parametrize("size", [(800, 1067), (333, 217), (608, 608)])
def test_resized_pixels_are_the_exact_ones(size: tuple[int, int]) -> None:
    raw = sample(golden()[1]["files"][0])
    assert raw.image is not None
    resized = Resize(target_size=list(size), keep_ratio=False, interp=2)(raw, RNG).image
    assert resized is not None
    check_rounded(resized, bicubic(raw.image, *size))
    with pytest.raises(AssertionError):
        check_rounded(resized, bicubic(raw.image[:, 1:], *size))


#: Run -> image, size, interpolation; `float` runs resize float32 pixels.
YOLO = {
    "yolo416/0": (0, 416, 1),
    "yolo416/1": (1, 416, 1),
    "yolo608/0": (0, 608, 2),
    "yolo320_iou05/0": (0, 320, 3),
    "yolo352_float/0": (0, 352, 2),
    "mixup04_320/0": (0, 320, 0),
}


@pytest.mark.parametrize("run", YOLO)
def test_yolo_chain(run: str) -> None:
    arrays = golden()[0]
    index, size, interp = YOLO[run]
    raw = mixed() if run.startswith("mixup") else sample(golden()[1]["train_files"][index])
    if "float" in run:
        assert raw.image is not None
        raw = raw.replace(image=raw.image.astype(np.float32))
    resized = Resize(target_size=size, keep_ratio=False, interp=interp)(raw, RNG)
    assert resized.image is not None
    assert resized.target is not None
    # The golden's samples were taken after NormalizeImage had overwritten the array; hash and statistics
    # before.
    check_floats(resized.image, f"{run}/resized/image", samples=False)
    if "float" not in run:
        check_pixels(resized.image, f"{run}/resized/image", raw.image, interp)
    np.testing.assert_array_equal(np.float32(resized.scale_factor), arrays[f"{run}/resized/scale_factor"])
    check_yolo_boxes(resized.target, size, run)
    final = Permute()(NormalizeImage()(resized, RNG), RNG).image
    assert final is not None
    check_floats(final, f"{run}/final/image")


def check_yolo_boxes(target: Target, size: int, run: str) -> None:
    """The steps that batching and head make unnecessary: their numbers follow from boxes in pixels."""
    arrays = golden()[0]
    normalized = target.boxes / size
    np.testing.assert_allclose(normalized, arrays[f"{run}/normalized/gt_bbox"], atol=1e-6)
    kept = PadBox(num_max_boxes=50)(sample_with(target), RNG).target
    assert kept is not None
    count = len(kept)
    # The golden's `padded` boxes were overwritten by the next step; only classes and scores are of this one.
    np.testing.assert_array_equal(kept.labels, arrays[f"{run}/padded/gt_class"][:count])
    centres = (kept.boxes[:, :2] + kept.boxes[:, 2:]) / 2
    xywh = np.concatenate([centres, kept.boxes[:, 2:] - kept.boxes[:, :2]], axis=1) / size
    np.testing.assert_allclose(xywh, arrays[f"{run}/xywh/gt_bbox"][:count], atol=1e-6)
    if kept.weights is not None:
        np.testing.assert_array_equal(kept.weights, arrays[f"{run}/padded/gt_score"][:count])


def sample_with(target: Target) -> Sample:
    return Sample(image_id=1, path="a.jpg", target=target)


def mixed() -> Sample:
    """The pair of the goldens, blended with a share of 0.4."""
    first, second = (sample(name) for name in golden()[1]["train_files"][:2])
    return Mixup().apply(first.replace(partners=(second,)), 0.4)


def test_mixup() -> None:
    result = mixed()
    assert result.image is not None
    assert result.target is not None
    assert same_bytes(result.image, "mixup04/image")
    # The golden's boxes were divided by the size, in place, by a later step.
    arrays = golden()[0]
    np.testing.assert_allclose(result.target.boxes / 640, arrays["mixup04/gt_bbox"], atol=1e-6)
    np.testing.assert_array_equal(result.target.labels, arrays["mixup04/gt_class"].ravel())
    np.testing.assert_array_equal(result.target.weights, arrays["mixup04/gt_score"].ravel())
    # 2.x leaves im_shape at the first image's size; here it is the size of the content, which Resize reads.
    assert result.image_size == (640.0, 640.0)


def test_expand() -> None:
    raw = sample(golden()[1]["train_files"][0])
    expand = RandomExpand(fill_value=[123.675, 116.28, 103.53])
    result = expand.apply(raw, ExpandParams(size=(700, 900), offset=(31, 57)))
    assert result.image is not None
    assert result.target is not None
    assert same_bytes(result.image, "expand/image")
    check_target(result.target, "expand")
    # 2.x leaves im_shape at the size before; here it is the size of the content.
    assert result.image_size == (700.0, 900.0)
