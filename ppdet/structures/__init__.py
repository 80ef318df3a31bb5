"""Frozen, validated data that the parts hand to each other (docs/conventions.md)."""

from ppdet.structures.batch import (
    IGNORE_LABEL,
    Batch,
    BatchTargets,
    DetectionTensors,
    PolygonBatch,
    Proposals,
    original_sizes,
)
from ppdet.structures.categories import Categories
from ppdet.structures.conventions import BoxConventions, box_conventions
from ppdet.structures.detections import Detection, Detections
from ppdet.structures.feature_shape import FeatureShape, doubling_strides
from ppdet.structures.ground_truth import GroundTruth, ImageTruth
from ppdet.structures.sample import Mask, Polygons, Rle, Sample, Target

__all__ = [
    "IGNORE_LABEL",
    "Batch",
    "BatchTargets",
    "BoxConventions",
    "Categories",
    "Detection",
    "DetectionTensors",
    "Detections",
    "FeatureShape",
    "GroundTruth",
    "ImageTruth",
    "Mask",
    "PolygonBatch",
    "Polygons",
    "Proposals",
    "Rle",
    "Sample",
    "Target",
    "box_conventions",
    "doubling_strides",
    "original_sizes",
]
