"""Published weights: where they are, how to fetch, convert and load them."""

from ppdet.zoo.class_names import class_names_of, parse_classes
from ppdet.zoo.loading import Purpose, load_weights
from ppdet.zoo.locate import Located, locate, read_source
from ppdet.zoo.report import Entry, LoadReport, Outcome
from ppdet.zoo.table import ZooEntry, entries, find
from ppdet.zoo.weight_file import Layout, WeightFile, read_metadata, read_state, read_weights

__all__ = [
    "Entry",
    "Layout",
    "LoadReport",
    "Located",
    "Outcome",
    "Purpose",
    "WeightFile",
    "ZooEntry",
    "class_names_of",
    "entries",
    "find",
    "load_weights",
    "locate",
    "parse_classes",
    "read_metadata",
    "read_source",
    "read_state",
    "read_weights",
]
