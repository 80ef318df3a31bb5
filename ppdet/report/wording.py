"""What numbers of an evaluation mean for the reader, as sentences with their evidence."""

from __future__ import annotations

from typing import NamedTuple, Optional

from ppdet.metrics.analysis.analysis import Analysis
from ppdet.report.page import percent, signed


class Advice(NamedTuple):
    """A piece of advice.

    Attributes:
        text: What is the matter, and what to do.
        evidence: The numbers behind it.
        warning: Whether it is about a fault rather than an opportunity.
    """

    text: str
    evidence: str
    warning: bool = False


#: Kind of error -> its label, its meaning (section 2.2 of the paper), what helps.
ERRORS = {
    "classification": (
        "Wrong class",
        "Overlap of 0.5 or more with an object of another class.",
        "Right places get wrong classes: check the labels of the classes that are mixed up (confusion "
        "matrix), "
        "and add examples of them.",
    ),
    "localisation": (
        "Loose box",
        "Overlap of 0.1 to 0.5 with an object of the class.",
        "Boxes are in the right place but not tight: train longer or at a larger input size, and check how "
        "exactly the annotations are drawn.",
    ),
    "both": (
        "Class and box",
        "Overlap of 0.1 to 0.5 with an object of another class.",
        "Detections near objects of other classes cost most: train longer, or with more data.",
    ),
    "duplicate": (
        "Duplicate",
        "Overlap of 0.5 or more with an object that a detection of a higher score has.",
        "Several detections share one object: lower the NMS threshold (nms_threshold).",
    ),
    "background": (
        "Background",
        "Overlap of 0.1 or less with every object.",
        "Detections where nothing is annotated cost most: look for unannotated objects first (gallery, wrong "
        "detections), then add images without objects to the training set.",
    ),
    "missed": (
        "Missed object",
        "An object that no detection matches or nearly matches.",
        "Objects without any detection cost most: see which are missed (by size below), and train on more of "
        "them.",
    ),
}
#: Cost in AP50 below which an error is not worth a line of advice.
WORTH = 0.01


def verdict(analysis: Analysis) -> str:
    """The evaluation in a sentence."""
    best, ap = analysis.curve.best, analysis.numbers["AP"]
    if best.objects == 0:
        return "There are no annotated objects, so that nothing can be measured."
    if best.correct == 0:
        return (
            f"None of the {best.objects:,} objects is detected: none of the {len(analysis.predictions):,} "
            "detections matches one."
        )
    return (
        f"AP is {percent(ap.value)} ({percent(ap.low)} to {percent(ap.high)} with 95 % confidence). At a "
        f"score threshold of {best.threshold:.2f} the detector finds {percent(best.recall, 0)} % of the "
        f"objects, and {percent(best.precision, 0)} % of its detections are correct."
    )


def advice(analysis: Analysis) -> list[Advice]:
    """What would help most, the most important first; empty where nothing stands out."""
    if analysis.curve.best.objects == 0:
        return []
    found = [_never_predicted(analysis), _costliest(analysis), _small(analysis), _noise(analysis)]
    return [one for one in found if one is not None]


def _never_predicted(analysis: Analysis) -> Optional[Advice]:
    detected = set(analysis.predictions.label.tolist())
    names = [
        row.name for label, row in enumerate(analysis.classes) if row.point.objects and label not in detected
    ]
    if not names:
        return None
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    return Advice(
        f"Never detected: {shown}. Check that the class names of the model and of the annotations agree.",
        f"{len(names)} of {sum(row.point.objects > 0 for row in analysis.classes)} classes with objects "
        f"have no "
        "detection at any score.",
        warning=True,
    )


def _costliest(analysis: Analysis) -> Optional[Advice]:
    errors = analysis.errors
    name = max(errors.cost, key=errors.cost.__getitem__)
    if errors.cost[name] < WORTH:
        return None
    return Advice(
        ERRORS[name][2],
        f"“{ERRORS[name][0]}” is the costliest kind of error: mending its {errors.counts[name]:,} cases "
        f"would "
        f"change AP50 from {percent(errors.ap50)} to {percent(errors.ap50 + errors.cost[name])} "
        f"({signed(errors.cost[name])}).",
    )


def _small(analysis: Analysis) -> Optional[Advice]:
    small, large = analysis.numbers["APs"].value, analysis.numbers["APl"].value
    share = float(analysis.matches_by_size["s"].counts.sum() / max(analysis.matches.counts.sum(), 1))
    if small < 0 or large <= 0 or small > 0.5 * large or share < 0.1:
        return None
    return Advice(
        "Small objects are much harder: raise the input size in the readers, or detect on tiles with "
        "--slice_infer.",
        f"{percent(share, 0)} % of the objects are smaller than 32 by 32 pixels; AP of these is "
        f"{percent(small)}, of large ones {percent(large)}.",
    )


def _noise(analysis: Analysis) -> Optional[Advice]:
    ap, images = analysis.numbers["AP"], len(analysis.objects.image_ids)
    half = (ap.high - ap.low) / 2
    if half < 0.015:
        return None
    return Advice(
        f"Differences of AP of less than about {100 * half:.0f} points may be chance: compare two models "
        f"with "
        "ppdet compare, which takes the same images for both, or evaluate on more images.",
        f"The 95 % interval from {images:,} images is {percent(ap.low)} to {percent(ap.high)}.",
    )
