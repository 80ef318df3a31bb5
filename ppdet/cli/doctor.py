"""Check that this machine trains and detects as it should, and write a page to attach to an issue.

ppdet doctor                          everything: four minutes on two cores
ppdet doctor --only yolov3 --steps 5  one family, a few steps
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ppdet.cli.common import CommandError, add_device_argument
from ppdet.utils.files import expanded, writable_folder, write_json, write_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``ppdet doctor``."""
    add_device_argument(parser)
    parser.add_argument(
        "--output_dir",
        type=expanded,
        default=Path("output/doctor"),
        help="folder of doctor.md and doctor.json (%(default)s)",
    )
    parser.add_argument("--steps", type=int, default=20, help="steps of each training (%(default)s)")
    parser.add_argument("--images", type=int, default=5, help="images for each speed (%(default)s)")
    parser.add_argument("--only", metavar="TEXT", help="configs whose name contains this")


def run(args: argparse.Namespace) -> int:
    """Run all checks, show each, and write both files."""
    from ppdet.doctor.examine import examine
    from ppdet.doctor.machine import facts
    from ppdet.doctor.page import content, page
    from ppdet.experiment.build import set_device

    if args.steps < 1 or args.images < 1:
        raise CommandError(f"--steps {args.steps} --images {args.images}: both must be 1 or more")
    folder = writable_folder(args.output_dir)
    device = set_device(args.device)
    known = facts(device)
    for name, value in known.items():
        print(f"{name}: {value}")
    checks = []
    try:
        for check in examine(device, steps=args.steps, images=args.images, only=args.only):
            checks.append(check)
            mark = {True: "ok    ", False: "FAILED", None: "      "}[check.passed]
            print(f"{mark} {check.name}: {check.text}", flush=True)
    finally:  # what is known is worth keeping, whatever ended it
        write_text(folder / "doctor.md", page(known, checks))
        write_json(folder / "doctor.json", content(known, checks), indent=1)
    failed = sum(check.passed is False for check in checks)
    print(f"{len(checks)} checks, {failed} failed: {folder / 'doctor.md'}, {folder / 'doctor.json'}")
    return 1 if failed else 0
