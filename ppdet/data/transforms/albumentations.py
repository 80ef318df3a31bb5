"""Transforms of the package Albumentations, by name.

Of version 2.0, the last one under the MIT licence. Its successor AlbumentationsX is under the AGPL, and
another package.
"""

from __future__ import annotations

import importlib.metadata
import os
import warnings
from collections.abc import Sequence
from typing import Any, Union

import numpy as np

from ppdet.config.errors import ArgumentError, suggestion
from ppdet.data.formats.masks import mask_area, to_runs
from ppdet.data.geometry import Moved, decode_runs, encode_runs, mask_outline
from ppdet.data.transforms.base import Transform, pixels_hwc
from ppdet.structures import Mask, Sample, Target
from ppdet.utils.errors import DataError
from ppdet.utils.packages import require_packages

#: Names that take further transforms in their argument ``transforms``.
_GROUPS = ("Compose", "OneOf", "SomeOf", "OneOrOther", "RandomOrder", "Sequential")
#: Share of the longer side by which a mask may reach out of the box beside it: each transform rounds masks to
#: whole pixels, and a crop that is enlarged enlarges that too. A mask that moved alone is further away.
_TOLERANCE = 1 / 8


class Albumentations(Transform[int]):
    """Runs transforms of Albumentations on image, boxes and masks.

    Each is a name, or a name with its arguments: ``- CLAHE: {p: 0.5}``. `OneOf`, `SomeOf` and other groups
    take a list of them in their argument ``transforms``. What comes back is checked. An object goes if
    nothing of its box or mask is left.

    Args:
        transforms: The transforms, in order.

    Raises:
        MissingPackageError: If the package is not installed (extra ``albumentations``).
        ArgumentError: If there is no such transform, or it does not take an argument.
    """

    def __init__(self, *, transforms: list[Union[str, dict[str, Any]]]) -> None:
        require_packages("albumentations")
        _require_mit()
        # Otherwise the import asks the network for a newer version.
        os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
        import albumentations

        built = [_build(albumentations, item) for item in transforms]
        self._moves_nothing = all(_moves_nothing(albumentations, item) for item in built)
        boxes = albumentations.BboxParams(
            format="pascal_voc", label_fields=["rows"], clip=True, filter_invalid_bboxes=True
        )
        self._compose = albumentations.Compose(built, bbox_params=None if self._moves_nothing else boxes)

    def draw(self, sample: Sample, rng: np.random.Generator) -> int:
        """Draw the seed of the package's own draws."""
        del sample
        return int(rng.integers(2**32))

    def apply(self, sample: Sample, params: int) -> Sample:
        """Run the transforms.

        Raises:
            DataError: If the package gives back objects or sizes that do not fit together.
        """
        image = pixels_hwc(sample)
        pixels = np.clip(image, 0, 255).astype(np.uint8) if image.dtype != np.uint8 else image
        self._compose.set_random_seed(params)
        if self._moves_nothing or sample.target is None:
            given = {} if self._moves_nothing else {"bboxes": np.zeros((0, 4)), "rows": []}
            changed, target = self._run(sample.path, image=pixels, **given)["image"], sample.target
        else:
            changed, target = self._with_objects(sample.path, pixels, sample.target)
        if changed.ndim != 3 or changed.shape[2] != 3 or changed.dtype != np.uint8:
            raise DataError(
                f"{sample.path}: Albumentations gave an image {changed.dtype} {changed.shape}, expected "
                "uint8 [H, W, 3]; NormalizeImage and Permute do what ToFloat, Normalize and ToTensor would"
            )
        height, width = changed.shape[:2]
        changed = np.ascontiguousarray(changed).astype(image.dtype, copy=False)
        return sample.replace(image=changed, image_size=(float(height), float(width)), target=target)

    def _run(self, path: str, **given: Any) -> dict[str, Any]:
        try:
            done: dict[str, Any] = self._compose(**given)
        except Exception as error:  # whatever the package may raise, it is about its own arguments
            reason = " ".join(str(error).split())[:300]
            raise DataError(f"{path}: Albumentations failed: {type(error).__name__}: {reason}") from error
        return done

    def _with_objects(self, path: str, image: np.ndarray, target: Target) -> tuple[np.ndarray, Target]:
        height, width = image.shape[:2]
        boxes = np.clip(target.boxes.astype(np.float64), 0, [width, height, width, height])
        given: dict[str, Any] = {"bboxes": boxes, "rows": list(range(len(boxes)))}
        bitmaps = [_bitmap(mask, (height, width)) for mask in target.masks or ()]
        if bitmaps:
            given["masks"] = bitmaps
        done = self._run(path, image=image, **given)
        rows = np.array(done["rows"], np.int64)
        returned = np.array(done["bboxes"], np.float32).reshape(-1, 4)
        if len(rows) != len(returned) or len(set(rows.tolist())) != len(rows):
            raise DataError(
                f"{path}: Albumentations gave {len(returned)} boxes for {len(set(rows.tolist()))} objects; "
                "leave out the transform that cuts objects into parts (RandomGridShuffle)"
            )
        size = (done["image"].shape[0], done["image"].shape[1])
        kept = target.select(rows).replace(
            boxes=np.clip(returned, 0, np.array([size[1], size[0]] * 2, np.float32))
        )
        if not bitmaps:
            return done["image"], kept
        moved = [np.asarray(bitmap) for bitmap in done["masks"]]
        if len(moved) != len(bitmaps) or any(bitmap.shape[:2] != size for bitmap in moved):
            shapes = sorted({bitmap.shape for bitmap in moved})
            raise DataError(
                f"{path}: Albumentations gave {len(moved)} masks {shapes} for {len(bitmaps)} objects in an "
                f"image {size}"
            )
        pairs = [(bitmaps[row], moved[row]) for row in rows]
        return done["image"], _with_masks(path, kept, pairs).kept(0.0)


def _with_masks(path: str, target: Target, pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> Moved:
    """The objects with their masks before and after; boxes follow masks that have changed."""
    boxes, masks, visible = target.boxes.copy(), list(target.masks or ()), np.ones(len(target))
    for row, (before, after) in enumerate(pairs):
        if mask_area(masks[row]) == 0 or (before.shape == after.shape and np.array_equal(before, after)):
            continue
        masks[row] = runs = encode_runs(after != 0)
        points = mask_outline(runs)
        visible[row] = len(points) > 0
        if not len(points):
            continue
        tight = np.concatenate([points.min(axis=0), points.max(axis=0)])
        beyond = np.concatenate([boxes[row, :2] - tight[:2], tight[2:] - boxes[row, 2:]])
        if beyond.max() > _TOLERANCE * max(after.shape):
            raise DataError(
                f"{path}: Albumentations moved the box of object {row} to {boxes[row].tolist()} and its mask "
                f"to {tight.tolist()}; leave out the transform that does not move both"
            )
        boxes[row] = tight
    return Moved(target.replace(boxes=boxes, masks=tuple(masks)), visible)


def _bitmap(mask: Mask, size: tuple[int, int]) -> np.ndarray:
    return decode_runs(to_runs(mask, size)) if mask else np.zeros(size, np.uint8)


def _require_mit() -> None:
    try:
        importlib.metadata.version("albumentationsx")
    except importlib.metadata.PackageNotFoundError:
        return
    raise DataError(
        "AlbumentationsX is installed, which takes the place of Albumentations, is under another licence "
        "(AGPL), and is not tested here: pip uninstall albumentationsx, then pip install "
        "'ppdet[albumentations]'"
    )


def _build(package: Any, item: Union[str, dict[str, Any]]) -> Any:
    """One transform of the package."""
    if isinstance(item, dict) and len(item) != 1:
        raise ArgumentError("transforms", f"expected Name: {{arguments}}, got {item}")
    name, arguments = (item, {}) if isinstance(item, str) else next(iter(item.items()))
    kind = getattr(package, str(name), None)
    known = isinstance(kind, type) and issubclass(kind, (package.BasicTransform, package.BaseCompose))
    if not known:
        names = [
            key
            for key, value in vars(package).items()
            if isinstance(value, type) and issubclass(value, package.BasicTransform)
        ]
        message = f"Albumentations {package.__version__} has no transform {name}"
        raise ArgumentError("transforms", message + suggestion(str(name), [*names, *_GROUPS]))
    arguments = dict(arguments or {})
    if name in _GROUPS:
        arguments["transforms"] = [_build(package, part) for part in arguments.get("transforms") or ()]
    try:
        with warnings.catch_warnings():
            # An argument that it does not know is only warned of.
            warnings.filterwarnings("error", ".*not valid for transform")
            return kind(**arguments)  # type: ignore[misc]  # it is a class, as checked above
    except (TypeError, ValueError, UserWarning) as error:
        reason = " ".join(str(error).split("\n    For further")[0].split())
        raise ArgumentError("transforms", f"{name}: {reason}") from None


def _moves_nothing(package: Any, transform: Any) -> bool:
    """Whether a transform leaves every pixel in its place, and with it boxes and masks."""
    if isinstance(transform, package.BaseCompose):
        return all(_moves_nothing(package, part) for part in transform.transforms)
    return isinstance(transform, package.ImageOnlyTransform)
