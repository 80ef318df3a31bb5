"""Published weights: where they are, how to fetch, read and convert them, and how to load them."""

from ppdet.zoo.loading import Purpose, load_weights, read_source
from ppdet.zoo.report import Entry, LoadReport, Outcome
from ppdet.zoo.weight_file import Layout, WeightFile, read_metadata, read_state, read_weights

__all__ = [
    "Entry",
    "Layout",
    "LoadReport",
    "Outcome",
    "Purpose",
    "WeightFile",
    "load_weights",
    "read_metadata",
    "read_source",
    "read_state",
    "read_weights",
]
