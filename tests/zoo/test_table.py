"""Protects the zoo table: every row is complete, fits a config, and its numbers are the published ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import paddle
import pytest
from numpy.testing import assert_allclose

from ppdet import build_model, load_config
from ppdet.data.transforms.normalize import NormalizeImage
from ppdet.utils.errors import WeightsError
from ppdet.utils.metadata import CheckpointMetadata
from ppdet.zoo import Layout, WeightFile, class_names_of, entries, find, parse_classes
from ppdet.zoo.darknet import layout
from ppdet.zoo.table import canonical_url, class_lists, get
from tests.support import ROOT
from tests.zoo import files

#: DESIGN: the baselines, box and mask AP of the 2020 files.
BASELINES = {
    "faster_rcnn_r50_1x_coco": (35.1, None),
    "faster_rcnn_r50_fpn_1x_coco": (37.0, None),
    "mask_rcnn_r50_1x_coco": (36.4, 31.9),
    "mask_rcnn_r50_fpn_1x_coco": (38.3, 34.5),
    "cascade_rcnn_r50_fpn_1x_coco": (41.1, None),
    "cascade_mask_rcnn_r50_fpn_1x_coco": (41.6, 35.3),
    "yolov3_darknet53_270e_coco": (39.0, None),
}


@pytest.mark.parametrize("model", files.MODELS)
def test_baselines(model: str) -> None:
    old, new = find(f"{model}@2020"), find(model)
    assert old is not None
    assert new is not None
    assert (old.box_ap, old.mask_ap) == BASELINES[model]
    assert old.url == f"https://paddlemodels.bj.bcebos.com/object_detection/dygraph/{model}.pdparams"
    assert new.url == f"https://paddledet.bj.bcebos.com/models/{model}.pdparams"
    assert old.conventions.startswith("dygraph2020")
    assert new.conventions == ""
    assert old.config == new.config == f"{model}.yml"


def test_names_and_urls_are_unique() -> None:
    assert len({entry.name for entry in entries()}) == len(entries())
    assert len({entry.url for entry in entries()}) == len(entries())


@pytest.mark.parametrize("entry", entries(), ids=lambda entry: entry.name)
def test_rows_are_complete(entry: object) -> None:
    from ppdet.structures import box_conventions
    from ppdet.zoo import ZooEntry

    assert isinstance(entry, ZooEntry)
    assert entry.url.startswith("https://")
    assert entry.recipe
    assert entry.source.licence
    assert entry.source.about
    assert entry.sha256 is None or len(entry.sha256) == 64
    box_conventions(entry.conventions)
    if entry.config is not None:
        assert (ROOT / "configs" / entry.config).is_file()
        assert entry.command == f"python tools/eval.py -c configs/{entry.config} --weights {entry.name}"
        assert entry.class_names


def test_2x_spellings_of_a_url() -> None:
    real = "https://paddledet.bj.bcebos.com/models/pretrained/ResNet50_cos_pretrained.pdparams"
    for spelling in (
        "ppdet://models/pretrained/ResNet50_cos_pretrained.pdparams",
        "https://bj.bcebos.com/v1/paddledet/models/pretrained/ResNet50_cos_pretrained.pdparams",
        real,
    ):
        assert canonical_url(spelling) == real
        assert find(spelling) is find("ResNet50_cos_pretrained")


def test_wrong_names_get_a_hint() -> None:
    with pytest.raises(WeightsError, match="did you mean mask_rcnn_r50_fpn_2x_coco"):
        get("mask_rcnn_r50_fpn_2x")


def test_class_lists() -> None:
    assert len(class_lists()["coco"]) == 80
    assert class_lists()["coco"][:2] == ("person", "bicycle")
    assert class_lists()["coco"][-1] == "toothbrush"
    assert len(class_lists()["voc"]) == 20


@pytest.mark.parametrize(
    ("name", "network"), [("yolov3-darknet", "yolov3"), ("yolov3-tiny-darknet", "yolov3-tiny")]
)
def test_darknets_own_files_fit_their_configs(name: str, network: str) -> None:
    """By the published length of the file, and by the name and shape of every tensor."""
    entry = find(name)
    assert entry is not None
    tensors = dict(layout(network, 80))
    assert entry.bytes == 20 + 4 * sum(int(np.prod(shape)) for shape in tensors.values())
    experiment = load_config(ROOT / "configs" / str(entry.config))
    with paddle.LazyGuard():
        model = build_model(experiment)
    assert {key: tuple(value.shape) for key, value in model.state_dict().items()} == tensors
    for reader in (experiment.TrainReader, experiment.EvalReader, experiment.TestReader):
        assert reader is not None
        steps = reader.build()
        (normalize,) = (
            step
            for step in (*steps.sample_transforms, *steps.batch_transforms)
            if isinstance(step, NormalizeImage)
        )
        assert_allclose(normalize.mean, 0)
        assert_allclose(normalize.std, 1)


# Whose names the labels get.


def _file(*names: str, version: str = "0.1.0") -> WeightFile:
    return WeightFile(
        Path("m.pdparams"), Layout.V2, {}, metadata=CheckpointMetadata(class_names=names, version=version)
    )


def test_the_checkpoint_knows_best() -> None:
    assert class_names_of(_file("a", "b")) == ("a", "b")
    assert class_names_of(_file("a", "b"), classes="a,b") == ("a", "b")
    with pytest.raises(WeightsError, match="the checkpoint's classes are a, b, given were c, d"):
        class_names_of(_file("a", "b"), classes="c,d")


def test_then_the_user_then_the_zoo_entry() -> None:
    published = _file("person", "bicycle", version="")
    assert class_names_of(published, classes="x,y") == ("x", "y")
    assert class_names_of(published) == ("person", "bicycle")


@pytest.mark.parametrize("file", [None, _file(version=""), _file()])
def test_never_coco_by_default(file: object) -> None:
    with pytest.raises(WeightsError, match=r"has no class names.*--classes"):
        class_names_of(file)  # type: ignore[arg-type]  # parametrised


def test_the_number_must_fit() -> None:
    with pytest.raises(WeightsError, match=r"2 class names \(a, b\) for a model of 3 classes"):
        class_names_of(_file("a", "b"), num_classes=3)


def test_ways_to_name_classes(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text("\ufeffcat\n\n Hündin \n", "utf-8")
    assert parse_classes(str(path)) == ("cat", "Hündin")
    assert parse_classes("cat, dog,") == ("cat", "dog")
    assert parse_classes("cat") == ("cat",)
    assert parse_classes("coco") == class_lists()["coco"]


@pytest.mark.parametrize(
    ("text", "says"), [("a,b,a", "'a' occurs twice"), (",", "no class names"), ("names.txt", "no such file")]
)
def test_wrong_class_lists(text: str, says: str) -> None:
    with pytest.raises(WeightsError, match=says):
        parse_classes(text)
