"""Make a virtual environment with everything `ppdet` needs, and say what was done.

Usage: ``python3 tools/install.py [VENV]`` (default ``.venv``); `make install` calls it. Needs nothing but
Python. It leaves alone a PaddlePaddle or an OpenCV that the environment already has, whatever its build.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

#: Import name -> distribution to install when nothing provides that import.
CHOICES = {"paddle": "paddlepaddle>=3.2", "cv2": "opencv-python-headless>=4.5"}

#: Run in the environment: which of the given imports does it lack?
FIND_MISSING = "import importlib.util as u, sys; print(*[m for m in sys.argv[1:] if u.find_spec(m) is None])"

#: Run in the environment: prove that the parts load together, and show their versions.
SHOW_VERSIONS = """
import warnings; warnings.simplefilter("ignore")
import cv2, numpy, paddle, ppdet, ppdet.modeling
print(f"ppdet {ppdet.__version__}, paddle {paddle.__version__}"
      f" ({'GPU' if paddle.is_compiled_with_cuda() else 'CPU'} build),"
      f" numpy {numpy.__version__}, opencv {cv2.__version__}")
"""


def make_environment(folder: Path) -> Path:
    """Create the environment unless it is there already.

    Returns:
        Its Python interpreter.
    """
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    if python.is_file():
        print(f"==> using the environment in {folder}", flush=True)
        return python
    print(f"==> making a virtual environment in {folder}", flush=True)
    try:
        venv.create(folder, with_pip=True, symlinks=sys.platform != "win32")
    except subprocess.CalledProcessError:
        raise SystemExit(
            "Python cannot make a virtual environment with pip here. On Debian or Ubuntu install the package "
            f"python3-venv; elsewhere use a full Python. Then remove {folder} and try again."
        ) from None
    return python


def install(python: Path) -> None:
    """Install the checkout (editable, with the tools that `make test` needs) and what it lacks."""
    asked = subprocess.run(
        [python, "-c", FIND_MISSING, *CHOICES], check=True, capture_output=True, text=True, cwd=python.parent
    )
    missing = asked.stdout.split()
    for module, package in CHOICES.items():
        print(
            f"==> {module}: " + (f"installing {package}" if module in missing else "present, kept"),
            flush=True,
        )
    command = [python, "-m", "pip", "install", "--disable-pip-version-check", "--editable", f"{ROOT}[dev]"]
    command += [CHOICES[module] for module in missing]
    if subprocess.run(command).returncode:
        raise SystemExit("==> pip failed; its message above says why. Nothing else was changed.")


def main() -> None:
    """Entry point."""
    # This file also has to speak to Pythons that the package does not support.
    if sys.version_info < (3, 9):  # noqa: UP036
        raise SystemExit(
            f"ppdet needs Python 3.9 or newer; this is {sys.version.split()[0]}. Try: make PYTHON=python3.11"
        )
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".venv").resolve()
    python = make_environment(folder)
    install(python)
    versions = subprocess.run([python, "-c", SHOW_VERSIONS], capture_output=True, text=True)
    if versions.returncode:
        raise SystemExit(f"==> installed, but the parts do not load together:\n{versions.stderr}")
    print(f"==> ready: {versions.stdout.strip()}")
    print("    try next: make quickstart   (trains and evaluates a small detector)")
    print("              make test         (everything the project promises, checked)")


if __name__ == "__main__":
    main()
