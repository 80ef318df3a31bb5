"""Tensor operations: boxes, NMS, proposals, RoIAlign, masks."""
