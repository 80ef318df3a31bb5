"""Whether scores mean what they say: of detections with score 0.8, are 80 % correct?

D-ECE is the detection expected calibration error over scores alone (Kueppers et al., "Multivariate Confidence
Calibration for Object Detection", CVPR Workshops 2020, equation 5).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ppdet.metrics.analysis.coco_matching import Matches
from ppdet.metrics.analysis.instances import Predictions

BINS = 20


@dataclass(frozen=True)
class Calibration:
    """Reliability of the scores at overlap 0.5.

    Attributes:
        score: ``[20]`` mean score of the detections of each bin, NaN without any.
        precision: ``[20]`` share of them that is correct, NaN without any.
        detections: ``[20]`` how many.
        error: D-ECE: mean of |precision - score| over detections.
    """

    score: np.ndarray
    precision: np.ndarray
    detections: np.ndarray
    error: float


def calibration(predictions: Predictions, matches: Matches, t: int = 0) -> Calibration:
    """Compare scores with precision in bins of width 0.05; ignored detections do not count."""
    correct = matches.correct[t]
    counted = correct | matches.wrong[t]
    score, correct = predictions.score[counted], correct[counted]
    place = np.clip((score * BINS).astype(np.int64), 0, BINS - 1)
    count = np.bincount(place, minlength=BINS)
    with np.errstate(invalid="ignore"):
        mean_score = np.bincount(place, weights=score, minlength=BINS) / count
        precision = np.bincount(place, weights=correct, minlength=BINS) / count
    gap = np.where(count > 0, np.abs(precision - mean_score), 0.0)
    return Calibration(mean_score, precision, count, float((gap * count).sum() / max(int(count.sum()), 1)))
