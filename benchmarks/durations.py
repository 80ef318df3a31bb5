"""Where the time of the tests goes, from what pytest prints.

    make test TESTS="-vv --durations=0 --durations-min=0.05" > test.log
    python benchmarks/durations.py test.log > benchmarks/durations_MACHINE_202611.md

Seconds are those of all test processes together; divide by their number for the time that one waits.
"""

from __future__ import annotations

import argparse
import re
from collections import defaultdict
from pathlib import Path

_LINE = re.compile(r"^(\d+\.\d+)s (call|setup|teardown)\s+(tests/\S+?)::(.+)$")
#: Files and tests that are listed.
_FILES, _TESTS = 30, 30


def main() -> int:
    """Print the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("log", type=Path)
    text = parser.parse_args().log.read_text("utf-8", "replace")
    by_folder: dict[str, float] = defaultdict(float)
    by_file: dict[str, float] = defaultdict(float)
    by_test: dict[str, float] = defaultdict(float)
    for match in filter(None, map(_LINE.match, text.splitlines())):
        seconds, path, name = float(match[1]), match[3], match[4]
        parts = path.split("/")
        by_folder[parts[1] if len(parts) > 2 else "top level"] += seconds
        by_file[path] += seconds
        by_test[f"{path}::{name}"] += seconds
    total = sum(by_folder.values())
    ends = [line.strip("= ") for line in text.splitlines() if re.search(r"\d+ passed.* in ", line)]
    print(f"# Where the time of the tests goes\n\n{ends[-1] if ends else 'The run did not end'}. ", end="")
    print(f"Listed below: {total:.0f} s of all test processes together.\n")
    for title, table, count in (
        ("Folder", by_folder, None),
        ("File", by_file, _FILES),
        ("Test", by_test, _TESTS),
    ):
        print(f"| {title} | seconds | share |\n|---|--:|--:|")
        for name, seconds in sorted(table.items(), key=lambda pair: -pair[1])[:count]:
            print(f"| {name} | {seconds:.0f} | {seconds / total:.0%} |")
        print()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
