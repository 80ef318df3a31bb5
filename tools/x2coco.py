"""`python tools/x2coco.py ...` is `ppdet data convert ...`; works from a checkout that is not installed."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ppdet.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["data", "convert", *sys.argv[1:]]))
