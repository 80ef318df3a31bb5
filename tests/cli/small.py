"""A detector and a dataset so small that whole commands run in a test, and the commands themselves."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from ppdet.cli import main
from tests.fake_coco import write_coco
from tests.support import ROOT

NAMES = ("cat", "dog", "bird")
CATEGORIES = tuple({"id": i, "name": name} for i, name in zip((3, 7, 12), NAMES))

CONFIG = """\
_BASE_: {root}/configs/_base_/models/faster_rcnn_r50_fpn.yml
pretrain_weights: null
num_classes: 3
epoch: 2
worker_num: 0
log_iter: 1
seed: 7
save_dir: output
TrainDataset: &train
  name: COCODataSet
  dataset_dir: data
  image_dir: train2017
  anno_path: annotations/instances_train2017.json
EvalDataset:
  name: COCODataSet
  dataset_dir: data
  image_dir: val2017
  anno_path: annotations/instances_val2017.json
TestDataset: {{name: ImageFolder}}
ResNet: {{depth: 18, num_stages: 2, return_idx: [1], freeze_norm: false, freeze_at: -1}}
FPN: {{out_channel: 16}}
RPNHead:
  anchor_generator: {{anchor_sizes: [[32], [64]]}}
  rpn_target_assign: {{batch_size_per_im: 16}}
  train_proposal: {{pre_nms_top_n: 20, post_nms_top_n: 10}}
  test_proposal: {{pre_nms_top_n: 20, post_nms_top_n: 10}}
TwoFCHead: {{out_channel: 16}}
BBoxAssigner: {{batch_size_per_im: 8}}
LearningRate:
  base_lr: 0.01
  schedulers:
  - {{name: PiecewiseDecay, gamma: 0.1, milestones: [1]}}
  - {{name: LinearWarmup, start_factor: 0.1, steps: 2}}
OptimizerBuilder:
  optimizer: {{type: Momentum, momentum: 0.9}}
  regularizer: {{type: L2, factor: 0.0001}}
TrainReader:
  sample_transforms:
  - Decode: {{}}
  - Resize: {{target_size: [64, 64], keep_ratio: true}}
  - RandomFlip: {{prob: 0.5}}
  - NormalizeImage: {{mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225], is_scale: true}}
  - Permute: {{}}
  batch_transforms: [PadBatch: {{pad_to_stride: 16}}]
  batch_size: 2
EvalReader: &eval
  sample_transforms:
  - Decode: {{}}
  - Resize: {{target_size: [64, 64], keep_ratio: true}}
  - NormalizeImage: {{mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225], is_scale: true}}
  - Permute: {{}}
  batch_transforms: [PadBatch: {{pad_to_stride: 16}}]
  batch_size: 1
TestReader: *eval
"""


def make_project(folder: Path) -> Path:
    """Write ``small.yml`` and its dataset ``data/`` into a folder.

    Returns:
        The folder, where commands are to run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "small.yml").write_text(CONFIG.format(root=ROOT.as_posix()), "utf-8")
    write_coco(folder / "data", categories=CATEGORIES)
    return folder


def save_weights(
    folder: Path, name: str, *, class_names: Sequence[str] = NAMES, config: Optional[dict[str, str]] = None
) -> Path:
    """Random weights for ``small.yml``, as a checkpoint of ours; without metadata if there are no names."""
    import paddle

    from ppdet import build_model, load_config
    from ppdet.utils.metadata import METADATA_KEY, CheckpointMetadata

    paddle.seed(0)
    state = dict(build_model(load_config(folder / "small.yml")).state_dict())
    if class_names:
        metadata = CheckpointMetadata(class_names=tuple(class_names), config=config or {}, version="test")
        state[METADATA_KEY] = paddle.to_tensor(metadata.to_array())
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    paddle.save(state, str(path))
    return path


def command(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run ``ppdet WORDS`` in this process, which spares the second and a half that Paddle takes to import.

    Status and output are those of a process of its own, log lines included.
    """
    out, err = io.StringIO(), io.StringIO()
    log = logging.StreamHandler(err)
    before = Path.cwd()
    level = logging.getLogger("ppdet").level
    os.chdir(cwd)
    logging.getLogger("ppdet").addHandler(log)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main(words)
    except SystemExit as left:  # argparse
        status = int(left.code or 0)
    finally:
        os.chdir(before)
        logging.getLogger("ppdet").removeHandler(log)
        logging.getLogger("ppdet").setLevel(level)
    return subprocess.CompletedProcess(words, status, out.getvalue(), err.getvalue())


def process(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run ``python -m ppdet WORDS`` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "ppdet", *words],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def assert_told(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    """The command failed as users should see it: status 2, one screen, no traceback, and the parts named."""
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    errors = done.stderr[done.stderr.index("error: ") :]
    assert len(errors.splitlines()) <= 24
    for part in parts:
        assert part in errors, f"{part!r} is not in: {errors}"
