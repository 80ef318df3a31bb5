"""Build a release and try it out as a user would.

    python tools/release_check.py build              wheel and sdist in dist/, checked, with SHA256SUMS
    python tools/release_check.py try [PYTHON ...]   install the wheel into a new environment of each Python
                                                     and use it in an empty folder

The release workflow runs the same two commands, so what it does can be tried on any machine.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DIST = ROOT / "dist"
#: What a new user does, in this order; the dataset is where the quickstart config looks for it.
COMMANDS = (
    "ppdet --version",
    "ppdet configs list",
    "ppdet data synth dataset/quickstart --train 8 --val 4 --height 64 --width 64",
    "ppdet train -c quickstart_ppyoloe -o max_iters=2 worker_num=0",
    "ppdet eval --weights output/quickstart_ppyoloe/model_final --runtime native -o worker_num=0",
    "ppdet infer --weights output/quickstart_ppyoloe/model_final --infer_dir dataset/quickstart/val "
    "--runtime native",
)
#: Files that a wheel has to contain besides the code.
NEEDED = ("ppdet/py.typed", "ppdet/zoo/table.yml", "ppdet/configs/quickstart_ppyoloe.yml", "LICENSE")


def run(command: Sequence[str], folder: Path, **environment: str) -> None:
    """Run a command and show it; stop if it fails."""
    print(f"==> {' '.join(command)}", flush=True)
    if subprocess.run(command, cwd=folder, env={**os.environ, **environment}).returncode:
        raise SystemExit(f"failed: {' '.join(command)}")


def new_environment(python: str, folder: Path, *packages: str) -> Path:
    """Make a virtual environment with packages.

    Returns:
        Its folder of programs.
    """
    run([python, "-m", "venv", str(folder)], ROOT)
    programs = folder / ("Scripts" if sys.platform == "win32" else "bin")
    install = [str(programs / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run([*install, *packages], ROOT)
    return programs


def missing_from(wheel: Path) -> list[str]:
    """Needed files that a wheel does not contain."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    return [needed for needed in NEEDED if not any(name.endswith(needed) for name in names)]


def checksums(files: Sequence[Path]) -> str:
    """Lines that ``sha256sum --check`` reads."""
    return "".join(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files)


def build() -> None:
    """Build wheel and sdist from a clean copy of what Git knows, check them, and write SHA256SUMS."""
    shutil.rmtree(DIST, ignore_errors=True)
    with tempfile.TemporaryDirectory() as scratch:
        # Not in the checkout: files of earlier builds would end up in the wheel.
        source = Path(scratch) / "source"
        run(["git", "clone", "--quiet", str(ROOT), str(source)], ROOT)
        programs = new_environment(sys.executable, Path(scratch) / "tools", "build", "twine")
        run([str(programs / "python"), "-m", "build", "--outdir", str(DIST)], source)
        files = sorted(DIST.iterdir())
        run([str(programs / "python"), "-m", "twine", "check", "--strict", *map(str, files)], ROOT)
    for wheel in DIST.glob("*.whl"):
        if missing := missing_from(wheel):
            raise SystemExit(f"{wheel.name} lacks {', '.join(missing)}")
    (DIST / "SHA256SUMS").write_text(checksums(files), "utf-8")
    print((DIST / "SHA256SUMS").read_text("utf-8"), end="")


def try_out(python: str) -> None:
    """Install the wheel into a new environment and run `COMMANDS` in an empty folder."""
    (wheel,) = DIST.glob("*.whl")
    with tempfile.TemporaryDirectory() as scratch:
        programs = new_environment(python, Path(scratch) / "venv", f"{wheel}[cpu]")
        folder = Path(scratch) / "empty"
        folder.mkdir()
        for command in COMMANDS:
            program, *words = command.split()
            run([str(programs / program), *words], folder, PYTHONPATH="")
    print(f"==> {wheel.name} works with {python}")


def main(words: Sequence[str]) -> None:
    """Entry point."""
    if list(words) == ["build"]:
        build()
    elif words and words[0] == "try":
        for python in words[1:] or [sys.executable]:
            try_out(python)
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
