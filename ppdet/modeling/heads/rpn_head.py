"""Region proposal network (Ren et al., "Faster R-CNN", section 3.1).

Letters: N images, L feature levels, H, W size of a feature map, A anchors per cell, A_l = H * W * A
anchors of a level, S sampled anchors per image, R proposals per image.
"""

from __future__ import annotations

from typing import NamedTuple

import paddle
from paddle import Tensor, nn
from paddle.nn import functional

from ppdet.config.errors import ArgumentError
from ppdet.config.ranges import Fraction, NonNegative, PositiveInt
from ppdet.config.spec import Derived, Spec
from ppdet.modeling.assign.anchors import AnchorGenerator
from ppdet.modeling.assign.rpn_targets import RPNTargetAssign
from ppdet.ops.indexing import dim, gather_rows
from ppdet.ops.losses import binary_cross_entropy, smooth_l1
from ppdet.ops.proposals import generate_proposals
from ppdet.structures import BatchTargets, BoxConventions, FeatureShape, Proposals
from ppdet.structures.conventions import NORMAL


class RpnOutputs(NamedTuple):
    """Raw outputs, level after level; anchors of a level in the order row, column, size, aspect ratio.

    Attributes:
        objectness_logits: ``[N, R]`` float32, R = the sum of the A_l.
        deltas: ``[N, R, 4]`` float32 dx, dy, dw, dh.
        anchors: L tensors ``[A_l, 4]`` float32 xyxy, pixels of the resized image.
    """

    objectness_logits: Tensor
    deltas: Tensor
    anchors: list[Tensor]


class ProposalGenerator:
    """Raw outputs of an RPN to proposals (section 3.3)."""

    def __init__(
        self,
        *,
        pre_nms_top_n: PositiveInt = 12000,
        post_nms_top_n: PositiveInt = 2000,
        nms_thresh: Fraction = 0.5,
        min_size: NonNegative = 0.1,
        conventions: Derived[BoxConventions] = NORMAL,
    ) -> None:
        """Check and keep the numbers.

        Args:
            pre_nms_top_n: Best anchors of each level that enter NMS.
            post_nms_top_n: R, proposals kept over all levels.
            nms_thresh: IoU beyond which the worse of two boxes of a level is dropped.
            min_size: Shortest side of a proposal in pixels; never less than 1.
            conventions: Box conventions.

        Raises:
            ValueError: If a limit is not positive.
        """
        for name, limit in (("pre_nms_top_n", pre_nms_top_n), ("post_nms_top_n", post_nms_top_n)):
            if limit < 1:
                raise ArgumentError(name, f"expected >= 1, got {limit}")
        self.pre_nms_top_n = pre_nms_top_n
        self.post_nms_top_n = post_nms_top_n
        self.nms_thresh = nms_thresh
        self.min_size = min_size
        self._last_pixel = conventions.last_pixel

    def __call__(self, outputs: RpnOutputs, image_sizes: Tensor) -> Proposals:
        """Proposals of each image, best first; no gradient passes.

        Args:
            outputs: Raw outputs of the RPN.
            image_sizes: ``[N, 2]`` float32 (height, width) without padding.
        """
        ranked = generate_proposals(
            outputs.objectness_logits,
            outputs.deltas,
            outputs.anchors,
            image_sizes,
            pre_nms_top_n=self.pre_nms_top_n,
            post_nms_top_n=self.post_nms_top_n,
            nms_thresh=self.nms_thresh,
            min_size=self.min_size,
            last_pixel=self._last_pixel,
        )
        return Proposals(ranked.boxes, ranked.objectness_logits, ranked.valid)


class _RpnFeature(nn.Layer):
    """The 3x3 convolution before the two outputs."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.rpn_conv = _conv(channels, channels, 3)

    def forward(self, feature: Tensor) -> Tensor:
        """``[N, C, H, W]`` to the same shape."""
        return functional.relu(self.rpn_conv(feature))


class RPNHead(nn.Layer):
    """Objectness and box deltas of every anchor; one set of weights for all levels.

    Args:
        in_shapes: Feature shapes, all with the same number of channels.
        conventions: Box conventions.
        anchor_generator: Anchors; takes its strides from `in_shapes`.
        rpn_target_assign: Training targets of anchors.
        train_proposal: Proposals for training the second stage.
        test_proposal: Proposals at inference.

    Raises:
        ValueError: If the channels of the levels differ.
    """

    def __init__(
        self,
        *,
        in_shapes: Derived[list[FeatureShape]],
        conventions: Derived[BoxConventions] = NORMAL,
        anchor_generator: Spec[AnchorGenerator] = Spec.of(AnchorGenerator),  # noqa: B008  (immutable)
        rpn_target_assign: Spec[RPNTargetAssign] = Spec.of(RPNTargetAssign),  # noqa: B008
        train_proposal: Spec[ProposalGenerator] = Spec.of(ProposalGenerator),  # noqa: B008
        test_proposal: Spec[ProposalGenerator] = Spec.of(ProposalGenerator),  # noqa: B008
    ) -> None:
        super().__init__()
        channels = {shape.channels for shape in in_shapes}
        if len(channels) != 1:
            raise ValueError(f"RPNHead needs levels with equal channels, got {sorted(channels)}")
        width = channels.pop()
        strides = [shape.stride for shape in in_shapes]
        self.anchors = anchor_generator.build(strides=strides, conventions=conventions)
        self.assign = rpn_target_assign.build()
        self.train_proposal = train_proposal.build(conventions=conventions)
        self.test_proposal = test_proposal.build(conventions=conventions)
        self.rpn_feat = _RpnFeature(width)
        self.rpn_rois_score = _conv(width, self.anchors.num_anchors, 1)
        self.rpn_rois_delta = _conv(width, 4 * self.anchors.num_anchors, 1)

    def forward(self, features: list[Tensor]) -> RpnOutputs:
        """L maps ``[N, C, H_l, W_l]`` to raw outputs."""
        score, delta, anchors = self.rpn_rois_score, self.rpn_rois_delta, self.anchors.num_anchors
        # One convolution gives both outputs of a level; all else is done once for all levels.
        weight = paddle.concat([score.weight, delta.weight])
        bias = paddle.concat([score.bias, delta.bias]).astype("float32")
        maps = [functional.conv2d(self.rpn_feat(feature), weight).flatten(2) for feature in features]
        # Cell after cell, so that anchors run as they are generated.
        cells = paddle.concat(maps, axis=2).transpose([0, 2, 1]).astype("float32") + bias
        images = dim(cells, 0)
        logits = paddle.reshape(cells[..., :anchors], [images, -1])
        deltas = paddle.reshape(cells[..., anchors:], [images, -1, 4])
        return RpnOutputs(logits, deltas, self.anchors(features))

    def losses(self, outputs: RpnOutputs, targets: BatchTargets) -> dict[str, Tensor]:
        """Losses of sampled anchors, divided by S * N however many were sampled (eq. 1, both terms alike).

        Returns:
            ``loss_rpn_cls`` (binary cross entropy) and ``loss_rpn_reg`` (L1 of the deltas of positives).
        """
        assigned = self.assign(paddle.concat(outputs.anchors), targets)
        logits = gather_rows(outputs.objectness_logits, assigned.anchor_index)
        deltas = gather_rows(outputs.deltas, assigned.anchor_index)
        count = assigned.anchor_index.shape[0] * assigned.anchor_index.shape[1]
        positive = (assigned.labels == 1).unsqueeze(-1).astype("float32")
        objectness = binary_cross_entropy(logits, assigned.labels.astype("float32"))
        regression = smooth_l1(deltas, assigned.deltas, beta=0.0) * positive
        return {"loss_rpn_cls": objectness.sum() / count, "loss_rpn_reg": regression.sum() / count}

    def decode(self, outputs: RpnOutputs, image_sizes: Tensor, *, training: bool) -> Proposals:
        """Proposals of each image, best first; no gradient passes.

        The counterpart of `DenseHead.decode` for a first stage: proposals stay in pixels of the resized
        images, so there are no scale factors.

        Args:
            outputs: Raw outputs.
            image_sizes: ``[N, 2]`` float32 (height, width) without padding.
            training: Use the limits of `train_proposal` rather than those of `test_proposal`.
        """
        generate = self.train_proposal if training else self.test_proposal
        return generate(outputs, image_sizes)


def _conv(in_channels: int, out_channels: int, kernel: int) -> nn.Conv2D:
    """Convolution with small normal weights (section 3.1.3)."""
    return nn.Conv2D(
        in_channels,
        out_channels,
        kernel,
        padding=kernel // 2,
        weight_attr=paddle.ParamAttr(initializer=nn.initializer.Normal(0.0, 0.01)),
    )
