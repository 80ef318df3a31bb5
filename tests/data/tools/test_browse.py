"""Protects `ppdet data browse`: it shows what the training gets, for any reader and each transform."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from ppdet import load_config
from ppdet.data.tools.browse import browse, single_transform, write_browsed
from ppdet.experiment.build import build_dataset, build_loader
from tests.cli.small import assert_told, command, make_project


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = make_project(tmp_path / "a<b")  # a name that a page has to escape
    monkeypatch.chdir(folder)
    return folder


def test_it_shows_the_batches_of_the_training(project: Path) -> None:
    experiment = load_config("small.yml")
    dataset = build_dataset(experiment, "TrainDataset")
    for epoch in (0, 3):
        shown = browse(experiment, count=4, epoch=epoch)
        loader = build_loader(experiment, "TrainReader", dataset, num_workers=0)
        loader.set_epoch(epoch)
        ids = [int(i) for batch in loader for i in batch.image_ids]
        assert [Path(item.path).name for item in shown] == [f"{i:012d}.jpg" for i in ids]
        assert all(list(item.pictures) == ["on disk", "as trained on"] for item in shown)


def test_the_drawn_boxes_are_those_of_the_batch(project: Path) -> None:
    certain = [
        "TrainReader.sample_transforms.RandomFlip.prob=1",
        "TrainReader.sample_transforms.Resize.target_size=[96,128]",
    ]
    plain, flipped = (
        browse(load_config("small.yml", [o, certain[1]]), count=2)
        for o in ("TrainReader.sample_transforms.RandomFlip.prob=0", certain[0])
    )
    for one, other in zip(plain, flipped):
        # Names are not mirrored, so the pictures differ there; colours of boxes and objects agree elsewhere.
        mirrored = other.pictures["as trained on"][:, ::-1].astype(int)
        difference = np.abs(one.pictures["as trained on"].astype(int) - mirrored).max(axis=2)
        assert (difference < 30).mean() > 0.9
        assert np.abs(one.pictures["on disk"].astype(int) - mirrored).max() > 30 or one.objects[0] == 0


def test_the_last_step_is_the_whole_reader_and_a_seed_repeats(project: Path) -> None:
    experiment = load_config("small.yml")
    whole, again = browse(experiment, count=3), browse(experiment, count=3)
    steps = browse(experiment, count=3, steps=True)
    other = browse(load_config("small.yml", ["seed=8"]), count=3)
    assert list(steps[0].pictures) == ["on disk", "1 Resize", "2 RandomFlip"]
    for one, same, long in zip(whole, again, steps):
        np.testing.assert_array_equal(one.pictures["as trained on"], same.pictures["as trained on"])
        np.testing.assert_array_equal(one.pictures["as trained on"], long.pictures["2 RandomFlip"])
    assert any(
        a.path != b.path or not np.array_equal(a.pictures["as trained on"], b.pictures["as trained on"])
        for a, b in zip(whole, other)
    )


def test_a_normalised_image_is_shown_in_its_colours(project: Path) -> None:
    # NormalizeImage before the flip: nothing of the reader can be left to the batch, pixels are floats.
    reader = (
        "TrainReader.sample_transforms=[Decode: {}, NormalizeImage: {is_scale: true, "
        "mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}, RandomFlip: {prob: 0}, Permute: {}]"
    )
    shown = browse(load_config("small.yml", [reader, "TrainReader.batch_transforms=null"]), count=2)
    for item in shown:
        before, after = item.pictures.values()
        assert np.abs(before.astype(int) - after.astype(int)).max() <= 1


@pytest.mark.parametrize(
    ("transform", "last"),
    [("RandomFlip: {prob: 1}", "1 RandomFlip"), ("Resize", "1 Resize"), ("Mixup", "1 Mixup")],
)
def test_a_transform_alone(project: Path, transform: str, last: str) -> None:
    experiment = load_config("small.yml")
    single = load_config("small.yml", single_transform(experiment, "TrainReader", transform))
    (item,) = browse(single, count=1, steps=True)
    assert list(item.pictures) == ["on disk", last]
    if last == "1 Mixup":  # an image of two objects, and another one over it
        assert item.objects == (2, 4)


def test_a_sheet_and_a_page(project: Path) -> None:
    done = command(
        "data", "browse", "-c", "small.yml", "--num", "3", "--output", "out/sheet.png", cwd=project
    )
    assert done.returncode == 0, done.stderr
    assert "3 images of epoch 0, seed 7" in done.stdout
    sheet = cv2.imread(str(project / "out" / "sheet.png"))
    assert sheet is not None
    assert min(sheet.shape[:2]) > 200
    words = ("--num", "2", "--reader", "EvalReader", "--output", "page.html", "--json", "shown.json")
    assert command("data", "browse", "-c", "small.yml", *words, cwd=project).returncode == 0
    page = (project / "page.html").read_text("utf-8")
    assert page.count("data:image/jpeg;base64,") == 4
    assert 'src="http' not in page
    assert "as trained on, 2 objects" in page
    assert (project / "shown.json").is_file()


@pytest.mark.parametrize(
    ("transform", "epoch", "objects"),
    [("Mixup: {epochs: 2}", 1, 2), ("Mixup: {epochs: 2}", 2, 1), ("Mosaic: {epochs: 2}", 2, 1)],
)
def test_one_transform_has_its_own_limit_and_not_the_readers(
    project: Path, transform: str, epoch: int, objects: int
) -> None:
    given = [f"TrainDataset.dataset_dir={project / 'data'}", "TrainReader.mixup_epoch=9"]
    experiment = load_config("small.yml", [*given, "TrainReader.mosaic_epoch=9"])
    overrides = single_transform(experiment, "TrainReader", transform)
    (shown,) = browse(load_config("small.yml", [*given, *overrides]), count=1, epoch=epoch)
    assert shown.objects[1] == objects * shown.objects[0]


def test_steps_before_a_join_are_drawn_as_in_the_training(project: Path) -> None:
    """Further images are chosen first, also where the step that takes them is not shown yet."""
    steps = "[Decode: {}, RandomFlip: {prob: 0.5}, Mosaic: {prob: 0.0}]"
    given = [f"TrainDataset.dataset_dir={project / 'data'}", f"TrainReader.sample_transforms={steps}"]
    experiment = load_config("small.yml", [*given, "TrainReader.batch_transforms=[]"])
    for epoch in range(8):
        (shown,) = browse(experiment, count=1, epoch=epoch, steps=True)
        np.testing.assert_array_equal(shown.pictures["1 RandomFlip"], shown.pictures["2 Mosaic"])


def test_names_of_files_cannot_change_the_page(project: Path) -> None:
    shown = browse(load_config("small.yml", [f"TrainDataset.dataset_dir={project / 'data'}"]), count=1)
    page = write_browsed(shown, project / "page.html").read_text("utf-8")
    assert "a&lt;b" in page
    assert "a<b" not in page


def test_mistakes_are_told(project: Path) -> None:
    browse_words = ("data", "browse", "-c", "small.yml")
    assert_told(command(*browse_words, "--only", "RandmFlip", cwd=project), "RandmFlip", "RandomFlip")
    assert_told(command(*browse_words, "--num", "0", cwd=project), "0 images")
    (project / "file").write_text("")
    assert_told(command(*browse_words, "--output", "file/a.png", cwd=project), "cannot be written")
