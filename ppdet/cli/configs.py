"""The configurations that come with ppdet.

ppdet configs list [WORD]           names, with the first line of each file
ppdet configs show NAME             the file; `ppdet config NAME` prints it resolved
ppdet configs copy NAME [FILE]      copy it to change it; its _BASE_ files are still found
"""

from __future__ import annotations

import argparse

from ppdet.cli.common import CommandError
from ppdet.config.packaged import config_path, copy_config, packaged_configs, title_of
from ppdet.utils.files import expanded
from ppdet.utils.tables import text_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the three actions."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="all configurations, or those whose name contains a word")
    listing.add_argument("word", nargs="?", default="", help="part of a name")
    show = actions.add_parser("show", help="print a configuration as it is written")
    show.add_argument("name", help="name of a configuration")
    copy = actions.add_parser("copy", help="copy a configuration, to change it")
    copy.add_argument("name", help="name of a configuration")
    copy.add_argument(
        "target",
        nargs="?",
        type=expanded,
        default=expanded("."),
        help="file or folder to write (default: here)",
    )


def run(args: argparse.Namespace) -> int:
    """Do one action."""
    if args.action == "list":
        matching = {name: path for name, path in packaged_configs().items() if args.word.lower() in name}
        if not matching:
            raise CommandError(
                f"no configuration has {args.word!r} in its name; `ppdet configs list` shows all"
            )
        print(text_table([[name, title_of(path)] for name, path in matching.items()], align="<"))
    elif args.action == "show":
        print(config_path(args.name).read_text("utf-8"), end="")
    else:
        print(copy_config(args.name, args.target))
    return 0
