"""From the outputs of an R-CNN box head to boxes with scores.

Letters: N images, R regions per image, K classes, B boxes per region (K or 1).
"""

from __future__ import annotations

import paddle
from paddle import Tensor

from ppdet.config.spec import Derived
from ppdet.modeling.assign.box_coder import DeltaCoder
from ppdet.modeling.heads.bbox_head import BoxPredictions
from ppdet.modeling.post_process import BoxDecoder, DecodedBoxes
from ppdet.ops.boxes import clip_boxes, non_empty, scale_boxes
from ppdet.structures import BoxConventions, original_sizes
from ppdet.structures.conventions import NORMAL


class RCNNBox(BoxDecoder):
    """Refined boxes in pixels of the original images."""

    def __init__(
        self, *, prior_box_var: Derived[list[float]], conventions: Derived[BoxConventions] = NORMAL
    ) -> None:
        """Keep the weights of the deltas.

        Args:
            prior_box_var: Four weights; those of the head's last stage.
            conventions: Box conventions.
        """
        self.conventions = conventions
        self.coder = DeltaCoder(prior_box_var, limited=self.conventions.limited_growth)

    def __call__(self, outputs: BoxPredictions, image_sizes: Tensor, scale_factors: Tensor) -> DecodedBoxes:
        """Decode, go back to the original size of the image, and clip to it.

        Clipping, scaling and NMS commute: IoU does not change when both axes are scaled. So boxes are clipped
        once, to the smaller of the image and the scaled content of the resized one. Decoding and scaling
        commute too, unless the last pixel of a box is left out of the scaling, as in conventions that decode
        in the original image. A box that becomes empty gets the score 0.

        Args:
            outputs: Predictions of a box head.
            image_sizes: ``[N, 2]`` float32 (height, width) of the resized content.
            scale_factors: ``[N, 2]`` float32 (y, x), resized / original.

        Returns:
            B boxes and K scores of every region.
        """
        last_pixel = self.conventions.last_pixel
        regions, back = outputs.regions.unsqueeze(2), paddle.reciprocal(scale_factors)
        limits = original_sizes(image_sizes, scale_factors)
        if self.conventions.decode_in_original:
            regions = scale_boxes(regions, back, last_pixel=last_pixel)
            boxes = self.coder.decode(regions, outputs.deltas)
        else:
            boxes = scale_boxes(self.coder.decode(regions, outputs.deltas), back)
            limits = paddle.minimum(limits, image_sizes * back)
        boxes = clip_boxes(boxes, limits, last_pixel=last_pixel)
        counted = outputs.valid.unsqueeze(-1) & non_empty(boxes)
        return DecodedBoxes(boxes, outputs.probs[..., :-1] * counted.astype("float32"))
