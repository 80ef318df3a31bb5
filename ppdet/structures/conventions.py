"""Conventions that give the numbers of a network their meaning as boxes.

Everything in this package is computed on continuous coordinates: a box of width w spans x to x + w. Weights
that were trained with other conventions (integer pixels whose last one counts, rounded anchors, ...) are
served by a named set of them, chosen as a whole by the top-level ``conventions`` of a config. The detector
resolves the name once and passes the object to its parts; each part reads the fields that concern it, and
all of them still exchange continuous boxes. So a box "x1, y1, last pixel x2, y2" of such weights appears here
as x1, y1, x2 + 1, y2 + 1: its width, area and IoU then need no "+1", and neither do NMS, level assignment and
results.

To remove the December-2020 conventions some day, delete this file, `ops/whole_pixel_masks.py` and
`zoo/layout_2020.py`, and what refers to them in these files (a test keeps the list complete):

* the fields are read in `modeling/assign/anchors.py`, `modeling/heads/`: `bbox_decode.py`, `bbox_head.py`,
  `cascade_head.py`, `mask_head.py`, `roi_extractor.py`, `rpn_head.py`, `yolo.py`, in
  `inference/predictors.py` and in `data/transforms/resize.py`;
* ``last_pixel`` is an argument in `ops/`: `boxes.py`, `proposals.py`, `roi_align.py`;
* the name is looked up in `modeling/detectors/`: `two_stage.py`, `yolov3.py`, and in `export/runtime.py`;
* weights and exports carry the name: `modeling/interfaces.py`, `export/info.py`, `utils/metadata.py`,
  `experiment/`: `build.py`, `config.py`, `model_card.py`, `sources.py`, `train.py`, `zoo/`: `loading.py`,
  `locate.py`, `report.py`, `saving.py`, `table.py`, `weight_file.py`, `data/tools/new.py`,
  and `cli/weights.py`;
* `structures/__init__.py` exports them; tests: `parity/test_conventions_2020.py`, `zoo/test_layouts.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional


@dataclass(frozen=True)
class BoxConventions:
    """One set of conventions. The defaults are the normal ones (docs/conventions.md).

    Attributes:
        name: Name of the set in a config; "" for the normal one.
        last_pixel: Pixels that the network's own boxes leave out at the right and bottom: 1 where x2 is the
            last pixel of a box. Clipping then leaves that pixel of every box, regions are pooled without it,
            and boxes are scaled without it.
        anchor_offset: Shift of anchor centres in cells; None for that of the anchor generator.
        integer_anchors: Anchors are whole multiples of one with integer sides and the area of a cell.
        half_pixel_pooling: RoIAlign's ``aligned``; None for that of the extractor.
        pyramid_samples: RoIAlign's samples per bin and side on a pyramid; None for those of the extractor.
        limited_growth: Box heads cut dw and dh at `ppdet.ops.boxes.LOG_SCALE_LIMIT`.
        decode_in_original: Box deltas apply to regions in pixels of the original image.
        clipped_stages: A cascade clips the boxes that it hands from stage to stage.
        scores_on_last: A cascade applies all its classifiers to the last stage's regions.
        unrounded_resize: Resizing that keeps the aspect ratio works on floats, bilinearly, and the image has
            the size scale * original, not rounded.
        whole_pixel_masks: Masks are pasted into boxes widened by one mask cell and cut to integers.
    """

    name: str = ""
    last_pixel: float = 0.0
    anchor_offset: Optional[float] = None
    integer_anchors: bool = False
    half_pixel_pooling: Optional[bool] = None
    pyramid_samples: Optional[int] = None
    limited_growth: bool = True
    decode_in_original: bool = False
    clipped_stages: bool = True
    scores_on_last: bool = False
    unrounded_resize: bool = False
    whole_pixel_masks: bool = False


NORMAL = BoxConventions()

#: R-CNN weights of PaddleDetection's December-2020 "dygraph" release.
DYGRAPH_2020 = BoxConventions(
    name="dygraph2020",
    last_pixel=1.0,
    anchor_offset=0.5,
    integer_anchors=True,
    half_pixel_pooling=False,
    pyramid_samples=2,
    limited_growth=False,
    decode_in_original=True,
    clipped_stages=False,
    scores_on_last=True,
    unrounded_resize=True,
    whole_pixel_masks=True,
)

#: YOLOv3 weights of that release, and the first ones of 2.x (39.0 AP, "evaluate with --bias").
DYGRAPH_2020_YOLO = BoxConventions(name="dygraph2020-yolo", last_pixel=1.0)

_BY_NAME = {each.name: each for each in (NORMAL, DYGRAPH_2020, DYGRAPH_2020_YOLO)}


def box_conventions(name: str) -> BoxConventions:
    """The set of that name.

    Raises:
        ValueError: If there is none; lists the names.
    """
    if name not in _BY_NAME:
        names = ", ".join(repr(n) for n in _BY_NAME)
        raise ValueError(f"conventions {name!r} are unknown; there are {names}")
    return _BY_NAME[name]
