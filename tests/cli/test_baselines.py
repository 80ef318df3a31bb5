"""Protects the main promise on real photographs: each of the seven baseline configs trains with a falling
loss, is evaluated, and finds objects in an image, through the commands a user types.

The full networks, at a reduced image size. They start from the weights that the goldens were made with, since
random ones under frozen batch norm do not train.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import paddle
import pytest

from ppdet import build_model, load_config
from ppdet.cli import main
from tests.support import ROOT, TINY_COCO, reference_module, requires_shared

STEPS = 4
#: Config -> learning rate at which the reference weights train with two images.
BASELINES = {
    "faster_rcnn_r50_1x_coco": 0.001,
    "faster_rcnn_r50_fpn_1x_coco": 0.001,
    "mask_rcnn_r50_1x_coco": 0.001,
    "mask_rcnn_r50_fpn_1x_coco": 0.001,
    "cascade_rcnn_r50_fpn_1x_coco": 0.001,
    "cascade_mask_rcnn_r50_fpn_1x_coco": 0.001,
    "yolov3_darknet53_270e_coco": 0.0002,
}
#: Photographs with many objects, and one to detect in.
TRAINED_ON, SHOWN = 2, 1


def write_split(folder: Path, split: str, count: int) -> Path:
    """Annotations of the images with the most objects of a split of tiny_coco, without crowds.

    Returns:
        The annotation file.
    """
    content = json.loads((TINY_COCO / f"annotations/instances_{split}.json").read_text("utf-8"))
    rows = [row for row in content["annotations"] if not row["iscrowd"]]
    objects = {row["id"]: sum(a["image_id"] == row["id"] for a in rows) for row in content["images"]}
    chosen = sorted(objects, key=lambda image: (-objects[image], image))[:count]
    content["images"] = [row for row in content["images"] if row["id"] in chosen]
    content["annotations"] = [row for row in rows if row["image_id"] in chosen]
    path = folder / f"{split}.json"
    path.write_text(json.dumps(content), "utf-8")
    return path


def save_reference_weights(name: str, path: Path) -> None:
    """The weights of the goldens for a config, as 2.x would have saved them."""
    tensor = reference_module().reference_tensor
    with paddle.LazyGuard():  # random values would be thrown away
        model = build_model(load_config(ROOT / f"configs/{name}.yml"))
    state = {key: tensor(key, value.shape) for key, value in model.state_dict().items()}
    paddle.save({key: paddle.to_tensor(value) for key, value in state.items()}, str(path))


def overrides(name: str, folder: Path) -> list[str]:
    """A baseline made small: few images, short sides of 96 or 128 pixels, no warm-up, fewer regions."""
    yolo = "yolo" in name
    size = "[128,128]" if yolo else "[96,160]"
    # Nothing random on images, so that losses of few steps compare.
    family = ["TrainReader.sample_transforms=[{Decode: {}}]"]
    if not yolo:
        # The head of C4 is a stage of the backbone, run for every region.
        regions, proposals = (24, 20) if "fpn" in name else (12, 12)
        family = [
            "TrainReader.sample_transforms.RandomFlip.prob=0",
            f"BBoxAssigner.batch_size_per_im={regions}",
            f"RPNHead.test_proposal.post_nms_top_n={proposals}",
        ]
    resize = "batch_transforms.BatchRandomResize" if yolo else "sample_transforms.Resize"
    sizes = "[128]" if yolo else size
    return [
        *family,
        f"TrainDataset.dataset_dir={TINY_COCO.as_posix()}",
        f"TrainDataset.anno_path={write_split(folder, 'train2017', TRAINED_ON).as_posix()}",
        f"EvalDataset.dataset_dir={TINY_COCO.as_posix()}",
        f"EvalDataset.anno_path={write_split(folder, 'val2017', SHOWN).as_posix()}",
        f"TestDataset.anno_path={(folder / 'val2017.json').as_posix()}",
        f"TrainReader.{resize}.target_size={sizes}",
        f"EvalReader.sample_transforms.Resize.target_size={size}",
        f"TestReader.sample_transforms.Resize.target_size={size}",
        f"TrainReader.batch_size={TRAINED_ON}",
        f"LearningRate={{base_lr: {BASELINES[name]}, schedulers: []}}",
        "reference_batch_size=null",
        f"epoch={STEPS}",
        f"snapshot_epoch={STEPS}",
        "log_iter=1",
        "worker_num=0",
        "seed=1",
    ]


@requires_shared
@pytest.mark.slow
@pytest.mark.parametrize("name", BASELINES)
def test_trains_evaluates_and_detects(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_reference_weights(name, tmp_path / "reference.pdparams")
    common = ["-c", str(ROOT / f"configs/{name}.yml"), "--device", "cpu", "-o", *overrides(name, tmp_path)]

    assert main(["train", *common, "pretrain_weights=reference.pdparams"]) == 0
    lines = (tmp_path / f"output/{name}/metrics.jsonl").read_text("utf-8").splitlines()
    losses = [row["losses"]["loss"] for row in map(json.loads, lines) if row["kind"] == "train"]
    assert len(losses) == STEPS
    assert np.isfinite(losses).all()
    assert losses[-1] < 0.9 * losses[0], losses

    tasks = {"bbox", "segm"} if "mask" in name else {"bbox"}
    assert main(["eval", *common, "--json", "metrics.json", "--save_results", "found.json"]) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text("utf-8"))
    assert tasks <= set(metrics)
    assert all(0 <= metrics[task]["AP"] <= 1 for task in tasks)
    found = json.loads((tmp_path / "found.json").read_text("utf-8"))
    assert found
    assert all(math.isfinite(value) for row in found for value in [row["score"], *row["bbox"]])

    row = json.loads((tmp_path / "val2017.json").read_text("utf-8"))["images"][0]
    image = TINY_COCO / "val2017" / row["file_name"]
    assert main(["infer", *common, "--infer_img", str(image), "--output_dir", "drawn"]) == 0
    (listed,) = json.loads((tmp_path / "drawn/detections.json").read_text("utf-8"))
    assert len(listed["objects"]) == len(found)
    assert (tmp_path / "drawn" / row["file_name"]).is_file()
