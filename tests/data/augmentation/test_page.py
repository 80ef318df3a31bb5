"""Protects docs/augmentation.md: its examples load, and each transform has a picture that is drawn."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from ppdet.config.components import COMPONENTS
from ppdet.experiment.config import load_config
from tests.support import ROOT

PAGE = (ROOT / "docs" / "augmentation.md").read_text("utf-8")
EXAMPLES = [
    block for block in re.findall(r"^```text\n(.*?)^```", PAGE, re.M | re.S) if block.startswith("- ")
]
#: Not augmentation: reading, sizes, and what the model needs.
OTHERS = {"decode", "resize", "normalize", "pad", "yolo_format"}
DRAW = ROOT / "tools" / "draw_augmentations.py"


def names_drawn() -> set[str]:
    return set(re.findall(r'^    "(\w+)": "\{', DRAW.read_text("utf-8"), re.M))


def test_every_augmentation_has_its_picture_and_an_example() -> None:
    names = {
        name
        for name, where in COMPONENTS.items()
        if (found := re.fullmatch(r"ppdet\.data\.transforms\.(\w+):\w+", where)) and found[1] not in OTHERS
    }
    assert len(names) >= 19
    assert names_drawn() == names
    assert set(re.findall(r"\(images/augmentation/(\w+)\.jpg\)", PAGE)) == names
    assert {name for block in EXAMPLES for name in re.findall(r"^- (\w+):", block, re.M)} == names
    for name in names:
        picture = cv2.imread(str(ROOT / "docs" / "images" / "augmentation" / f"{name}.jpg"))
        assert picture is not None
        assert picture.shape[0] == 144


@pytest.mark.parametrize("block", EXAMPLES, ids=lambda block: re.findall(r"\w+", block)[0])
def test_examples_load(block: str, tmp_path: Path) -> None:
    steps = "".join(f"  {line}\n" for line in block.splitlines())
    path = tmp_path / "example.yml"
    path.write_text(
        f"_BASE_: [{ROOT}/configs/quickstart_mask_rcnn.yml]\nTrainReader:\n  sample_transforms:\n{steps}",
        "utf-8",
    )
    reader = load_config(path).TrainReader
    assert reader is not None
    assert len(reader.build().sample_transforms) == len(re.findall(r"^- ", block, re.M))


@pytest.mark.slow
def test_the_script_draws(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(DRAW), "RandomGrayscale", "--output", str(tmp_path)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    picture = cv2.imread(str(tmp_path / "RandomGrayscale.jpg"))
    assert picture is not None
    assert picture.shape[1] > 4 * 144
    done = subprocess.run([sys.executable, str(DRAW), "RandomGray"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "RandomGrayscale" in done.stderr
