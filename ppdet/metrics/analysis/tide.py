"""Six kinds of error and what each costs: TIDE (Bolya et al., "TIDE: A General Toolbox for Identifying Object
Detection Errors", ECCV 2020, section 2).

Every false positive is of one kind. An object that no detection matches is missed, unless a false positive is
nearly right about it. The cost of a kind is the AP50 that is gained where that kind alone is mended
(section 2.3).

Letters: D detections, G objects.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ppdet.metrics.analysis.average_precision import mean, scores
from ppdet.metrics.analysis.coco_matching import Matches
from ppdet.metrics.analysis.instances import Objects, Predictions
from ppdet.metrics.analysis.overlaps import FLOOR, Pairs

#: Overlap of a true positive, ``t_f``; below `FLOOR`, ``t_b``, is background.
FOREGROUND = 0.5

#: Kinds in the order in which the paper defines them.
KINDS = ("classification", "localisation", "both", "duplicate", "background", "missed")
CLASSIFICATION, LOCALISATION, BOTH, DUPLICATE, BACKGROUND, MISSED = range(6)


@dataclass(frozen=True)
class Errors:
    """The split.

    Attributes:
        kind: ``[D]`` int8 index in `KINDS` of every false positive; -1 for other detections.
        missed: ``[G]`` bool: objects without a detection that was nearly right.
        counts: Errors by kind.
        cost: AP50 gained by mending the kind, 0 to 1.
        ap50: AP50 as it is.
        false_positives: AP50 gained by removing all false positives.
        false_negatives: AP50 gained by forgiving all objects without a match.
    """

    kind: np.ndarray
    missed: np.ndarray
    counts: dict[str, int]
    cost: dict[str, float]
    ap50: float
    false_positives: float
    false_negatives: float


def split_errors(objects: Objects, predictions: Predictions, pairs: Pairs, matches: Matches) -> Errors:
    """Tell the kinds apart and mend each.

    Args:
        objects: Ground truth.
        predictions: Detections.
        pairs: Of `overlapping_pairs`.
        matches: Of `match` at one threshold, `FOREGROUND`.
    """
    used = np.zeros(len(objects), bool)
    used[matches.thing[0, matches.correct[0]]] = True
    kind, target = _kinds(objects, predictions, pairs, matches, used)
    nearly = np.zeros(len(objects), bool)
    nearly[target[target >= 0]] = True
    missed = matches.counts & ~used & ~nearly
    base = _ap50(objects, predictions, matches)
    cost = {}
    for index, name in enumerate(KINDS[:-1]):
        cost[name] = _mended(objects, predictions, matches, kind == index, target) - base
    cost["missed"] = _ap50(objects, predictions, replace(matches, counts=matches.counts & ~missed)) - base
    nothing = np.full(len(predictions), -1)
    removed = _mended(objects, predictions, matches, kind >= 0, nothing)
    forgiven = _ap50(objects, predictions, replace(matches, counts=matches.counts & used))
    counts = {name: int((kind == index).sum()) for index, name in enumerate(KINDS[:-1])}
    return Errors(
        kind, missed, {**counts, "missed": int(missed.sum())}, cost, base, removed - base, forgiven - base
    )


def _kinds(
    objects: Objects, predictions: Predictions, pairs: Pairs, matches: Matches, used: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Kind ``[D]`` of every false positive, and the object ``[D]`` that it becomes when mended, or -1.

    As in the authors' program, each free object goes to the nearly right detection of the highest score,
    whichever of the two kinds it is.
    """
    wrong = matches.wrong[0]
    real = wrong[pairs.detection] & matches.counts[pairs.thing]
    detection, thing, overlap = pairs.detection[real], pairs.thing[real], pairs.overlap[real]
    same = objects.label[thing] == predictions.label[detection]
    count = len(predictions)
    near, near_thing = _best(detection[same], thing[same], overlap[same], count)
    other, other_thing = _best(detection[~same], thing[~same], overlap[~same], count)
    kind = np.where(wrong, BOTH, -1).astype(np.int8)
    target = np.full(count, -1, np.int64)
    # Later lines win, so that the order is the authors': localisation, classification, duplicate, background.
    kind[wrong & (np.maximum(near, other) <= FLOOR)] = BACKGROUND
    again = same & used[thing]
    repeated, _ = _best(detection[again], thing[again], overlap[again], count)
    kind[wrong & (repeated >= FOREGROUND)] = DUPLICATE
    mistaken = wrong & (other >= FOREGROUND)
    kind[mistaken], target[mistaken] = CLASSIFICATION, other_thing[mistaken]
    loose = wrong & (near >= FLOOR) & (near <= FOREGROUND)
    kind[loose], target[loose] = LOCALISATION, near_thing[loose]
    rows = np.flatnonzero(target >= 0)
    rows = rows[~used[target[rows]]]
    rows = rows[np.argsort(-predictions.score[rows], kind="stable")]
    winners = rows[np.unique(target[rows], return_index=True)[1]]
    stands_for = np.full(count, -1, np.int64)
    stands_for[winners] = target[winners]
    return kind, stands_for


def _best(
    detection: np.ndarray, thing: np.ndarray, overlap: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Largest overlap ``[D]`` of each detection, 0 for none, and the object ``[D]`` it is with."""
    best, owner = np.zeros(count), np.full(count, -1, np.int64)
    order = np.lexsort((-thing, overlap, detection))  # the last row of a detection is written last
    best[detection[order]] = overlap[order]
    owner[detection[order]] = thing[order]
    return best, owner


def _mended(
    objects: Objects, predictions: Predictions, matches: Matches, chosen: np.ndarray, target: np.ndarray
) -> float:
    """AP50 with the chosen false positives made the objects that they stand for, or removed without one."""
    rows = np.flatnonzero(chosen & (target >= 0))
    thing, label = matches.thing.copy(), predictions.label.copy()
    thing[0, rows] = target[rows]
    label[rows] = objects.label[target[rows]]
    mended = replace(matches, thing=thing, countable=matches.countable & ~chosen)
    return _ap50(objects, replace(predictions, label=label), mended)


def _ap50(objects: Objects, predictions: Predictions, matches: Matches) -> float:
    ones = np.ones((1, len(objects.image_ids)))
    return float(mean(scores(objects, predictions, matches, ones).ap)[0])
