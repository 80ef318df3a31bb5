"""Count objects by class and size, as JSON.

ppdet data stats -c FILE|NAME
ppdet data stats --dataset_dir DIR --anno_path FILE --image_dir DIR
"""

from __future__ import annotations

import argparse
import json

from ppdet.cli.data.sources import add_dataset_arguments, training_dataset
from ppdet.data.tools.stats import dataset_stats


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command line."""
    add_dataset_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Print the counts."""
    dataset = training_dataset(args, load_crowd=True)
    print(json.dumps(dataset_stats(dataset), indent=2, ensure_ascii=False))
    return 0
