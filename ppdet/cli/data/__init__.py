"""Data work: one action is one module of this folder, with `add_arguments` and `run`, as a verb is."""

from __future__ import annotations

#: Action -> what it does, in the words of `ppdet data --help`. Its module is `ppdet.cli.data.<action>`, with
#: `_` for `-`.
ACTIONS = {
    "anchors": "fit anchors to the objects of a dataset",
    "browse": "show what a training sees: images before and after the transforms",
    "check": "find everything that is wrong with a dataset",
    "convert": "convert a dataset from one format to another",
    "filter": "keep or drop objects and images by class, size, area and file name",
    "merge": "unite datasets of any formats",
    "predict-labels": "annotate images with a detector, to be corrected in labelme, CVAT or Label Studio",
    "remap": "rename, join and drop classes",
    "slice": "cut large images into tiles with their objects, and join the detections of tiles",
    "split": "split a dataset: classes shared alike, groups kept together, or folds",
    "stats": "count objects by class and size",
    "synth": "write a small dataset of drawn shapes, in COCO format",
}
