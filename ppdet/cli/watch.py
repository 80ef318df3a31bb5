"""Show a running or finished training in the terminal, from the files of its folder alone.

ppdet watch output/my_run           a view that changes with the training
ppdet watch output/my_run | cat     a line per change
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ppdet.utils.files import expanded


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``ppdet watch``."""
    parser.add_argument("run", type=expanded, metavar="RUN", help="folder of the training")
    parser.add_argument("--once", action="store_true", help="print one line and stop")
    parser.add_argument(
        "--interval", type=float, default=2.0, metavar="SECONDS", help="how often to look; default: 2"
    )


def run(args: argparse.Namespace) -> int:
    """Follow the training until it ends, or Ctrl-C."""
    from ppdet.report.runs import read_run
    from ppdet.report.watch import follow, summary_line, watch_in_terminal

    folder: Path = args.run
    if args.once:
        print(summary_line(read_run(folder)))
        return 0
    if sys.stdout.isatty():
        watch_in_terminal(folder, args.interval)
        return 0
    for state in follow(folder, args.interval):
        print(summary_line(state), flush=True)
    return 0
