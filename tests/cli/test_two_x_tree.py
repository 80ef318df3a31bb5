"""Protects contract C1 as users meet it: a folder of PaddleDetection 2.x configs, split into bases that point
at each other, starts with ``ppdet train --dry-run`` as it is; data, model, schedule and optimiser are built.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ppdet.cli import main
from tests.config.test_vocabulary import FILES, SSLD
from tests.fake_coco import write_coco
from tests.test_configs import write_voc

#: Where 2.x keeps the parts: folder -> files of `vocabulary/`; every family has its own ``_base_``.
SHARED = {".": ["runtime.yml"], "datasets": ["coco_detection.yml", "coco_instance.yml", "voc.yml"]}
FAMILIES = {
    "faster_rcnn": ["optimizer_1x.yml", "faster_fpn.yml", "rcnn_fpn_reader.yml"],
    "mask_rcnn": ["optimizer_1x.yml", "mask_c4.yml", "rcnn_c4_reader.yml"],
    "cascade_rcnn": ["optimizer_1x.yml", "cascade_mask_fpn.yml", "rcnn_fpn_reader.yml"],
    "retinanet": ["optimizer_1x.yml", "retinanet.yml", "rcnn_fpn_reader.yml"],
    "yolov3": ["optimizer_270e.yml", "yolov3_darknet53.yml", "yolo_reader.yml"],
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``configs/`` as 2.x lays it out, and ``dataset/`` beside it."""
    folder = tmp_path_factory.mktemp("project")
    parts = {**SHARED, **{f"{name}/_base_": files for name, files in FAMILIES.items()}}
    for place, files in parts.items():
        (folder / "configs" / place).mkdir(parents=True, exist_ok=True)
        for file in [*files, *(["rcnn_fpn_reader.yml"] if "rcnn_c4_reader.yml" in files else [])]:
            shutil.copy(FILES / file, folder / "configs" / place / file)
    write_coco(folder / "dataset/coco", train=8)
    write_voc(folder / "dataset/voc", images=8)
    return folder


def write_config(project: Path, family: str, data: str, more: str) -> str:
    """A file that lists its bases relative to itself, and one that changes a little of that one."""
    bases = [f"../datasets/{data}.yml", "../runtime.yml", *(f"_base_/{file}" for file in FAMILIES[family])]
    folder = project / "configs" / family
    listed = "".join(f"  '{base}',\n" for base in bases)
    (folder / "whole.yml").write_text(f"_BASE_: [\n{listed}]\nweights: output/whole/model_final\n", "utf-8")
    (folder / "changed.yml").write_text(f"_BASE_: [\n  'whole.yml',\n]\n{more}\n", "utf-8")
    return f"configs/{family}/changed.yml"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "data", "more", "facts"),
    [
        (
            "faster_rcnn",
            "coco_detection",
            SSLD,
            ("FasterRCNN, 41,825,536", "8 steps per epoch, 96 steps", "0.001"),
        ),
        (
            "mask_rcnn",
            "coco_instance",
            "TrainReader: {batch_size: 2}",
            ("MaskRCNN, 36,015,852", "4 steps per epoch, 48 steps", "0.001"),
        ),
        (
            "cascade_rcnn",
            "coco_instance",
            "epoch: 3",
            ("CascadeRCNN, 72,091,166", "24 steps in all", "0.001"),
        ),
        (
            "retinanet",
            "coco_detection",
            "find_unused_parameters: true",
            ("RetinaNet, 33,893,044", "96 steps in all", "0.001"),
        ),
        (
            "yolov3",
            "voc",
            "EvalReader: {collate_batch: false}\nuse_ema: true\npretrain_weights: null",
            ("YOLOv3, 61,678,657", "270 steps in all", "random weights"),
        ),
    ],
)
def test_dry_run(
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    family: str,
    data: str,
    more: str,
    facts: tuple[str, ...],
) -> None:
    monkeypatch.chdir(project)
    config = write_config(project, family, data, more)
    assert main(["train", "-c", config, "--dry-run", "-o", "worker_num=0"]) == 0
    told = capsys.readouterr().out
    for fact in facts:
        assert fact in told, told
    assert not (project / "output").exists()
