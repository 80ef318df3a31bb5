"""``python -m ppdet`` is ``ppdet``."""

from ppdet.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
