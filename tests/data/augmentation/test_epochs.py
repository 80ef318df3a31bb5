"""Protects the key ``epochs`` of any transform, and where the further images of some of them come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ppdet.config import ConfigError
from ppdet.config.errors import ArgumentError
from ppdet.config.spec import Spec
from ppdet.data.datasets.coco import COCODataSet
from ppdet.data.finish import parts_of
from ppdet.data.readers import TrainReader
from ppdet.data.transforms.base import Transform
from ppdet.data.transforms.decode import Decode
from ppdet.data.transforms.flip import RandomFlip
from ppdet.data.transforms.mixup import Mixup
from ppdet.data.transforms.mosaic import Mosaic
from ppdet.data.transforms.normalize import NormalizeImage, Permute
from ppdet.data.transforms.resize import Resize
from ppdet.experiment.config import load_config
from ppdet.structures import Sample
from ppdet.utils.errors import DataError
from tests.data.support import coco_content, eval_reader, train_reader, write_coco
from tests.support import ROOT

CONFIG = ROOT / "configs" / "faster_rcnn_r50_fpn_1x_coco.yml"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> COCODataSet:
    return COCODataSet(**write_coco(tmp_path_factory.mktemp("data"), coco_content(10)), allow_empty=True)


class Counting(Transform[None]):
    """Notes how many partners a sample has."""

    seen: list[int] = []

    def apply(self, sample: Sample, params: None) -> Sample:
        del params
        self.seen.append(len(sample.partners))
        return sample


@pytest.mark.parametrize(
    ("value", "runs"),
    [(2, [0, 1]), ([1, 3], [1, 2]), ((0, 0), []), ([2, 2], []), (None, [0, 1, 2, 3])],
)
def test_epochs_in_which_a_transform_runs(value: Any, runs: list[int]) -> None:
    flip = RandomFlip()
    flip.epochs = value
    assert [epoch for epoch in range(4) if flip.runs_in(epoch)] == runs


@pytest.mark.parametrize("value", [[3, 1], [1], [0, 1, 2], [], -1])
def test_epochs_without_sense(value: Any) -> None:
    with pytest.raises(ArgumentError, match="epochs"):
        RandomFlip().epochs = value


def flips(reader: TrainReader, dataset: COCODataSet, workers: int) -> list[bool]:
    """Per epoch, whether images differ from those of an epoch without flips."""
    loader = reader.loader(dataset, seed=0, num_workers=workers)
    sums = []
    for epoch in range(4):
        loader.set_epoch(epoch)
        sums.append(np.concatenate([batch.images.numpy()[..., 0].sum(axis=(1, 2)) for batch in loader]))
    loader.close()
    return [not np.array_equal(one, sums[-1]) for one in sums]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_limit_holds_in_every_loading_process(dataset: COCODataSet, workers: int) -> None:
    steps: list[Any] = [Spec.of(Decode), Spec.of(Resize, target_size=32, keep_ratio=False)]
    steps += [Spec.of(RandomFlip, prob=1.0, epochs=[1, 3]), Spec.of(NormalizeImage), Spec.of(Permute)]
    reader = train_reader(sample_transforms=steps, batch_size=5, shuffle=False)
    assert flips(reader, dataset, workers) == [False, True, True, False]
    batch = [Spec.of(RandomFlip, prob=1.0, epochs=2)]
    reader = train_reader(
        sample_transforms=steps[:2], batch_transforms=[*batch, *steps[3:]], batch_size=5, shuffle=False
    )
    assert flips(reader, dataset, workers) == [True, True, False, False]


def partners(reader: TrainReader, dataset: COCODataSet, epoch: int) -> set[int]:
    Counting.seen.clear()
    loader = reader.loader(dataset, seed=0, num_workers=0)
    loader.set_epoch(epoch)
    next(iter(loader))
    return set(Counting.seen)


END: list[Any] = [Spec.of(NormalizeImage), Spec.of(Permute)]


def reader_of(*joining: Spec[Any], **arguments: Any) -> TrainReader:
    steps = [Spec.of(Decode), Spec.of(Counting), *joining, Spec.of(Resize, target_size=32, keep_ratio=False)]
    return train_reader(sample_transforms=[*steps, *END], batch_size=2, **arguments)


def test_partners_come_as_they_are_needed(dataset: COCODataSet) -> None:
    mosaic, mixup = Spec.of(Mosaic, input_dim=32, enable_mixup=False), Spec.of(Mixup)
    # Partners are counted by their own (none) and by those of the image that has them.
    assert partners(reader_of(), dataset, 0) == {0}
    assert partners(reader_of(mixup), dataset, 0) == {0}
    assert partners(reader_of(mixup, mixup_epoch=1), dataset, 0) == {0, 1}
    assert partners(reader_of(mixup, mixup_epoch=1), dataset, 1) == {0}
    assert partners(reader_of(mosaic), dataset, 5) == {0, 3}
    assert partners(reader_of(mosaic, mosaic_epoch=5), dataset, 5) == {0}
    assert partners(reader_of(mosaic, mosaic_epoch=-1), dataset, 0) == {0}
    assert partners(reader_of(mosaic, mixup, mixup_epoch=0), dataset, 0) == {0, 4}
    late = train_reader(
        sample_transforms=[Spec.of(Decode), Spec.of(Counting)],
        batch_transforms=[mixup, Spec.of(Resize, target_size=32, keep_ratio=False), *END],
        batch_size=2,
        mixup_epoch=0,
    )
    assert partners(late, dataset, 0) == {0, 1}
    limited = Spec.of(Mosaic, input_dim=32, epochs=[1, 2])
    assert [partners(reader_of(limited), dataset, epoch) for epoch in range(3)] == [{0}, {0, 4}, {0}]


class Slow(RandomFlip):
    """A transform of a user's whose own argument has the same name."""

    def __init__(self, *, epochs: int = 4) -> None:
        super().__init__()
        self.own = epochs


def test_transforms_of_users_take_the_key_unless_it_is_their_own() -> None:
    assert Spec.of(Counting, epochs=3).build().epochs == (0, 3)
    slow = Spec.of(Slow, epochs=3).build()
    assert slow.own == 3
    assert not slow.limited


def test_two_limits_of_one_transform_are_an_error() -> None:
    with pytest.raises(ArgumentError, match=r"mosaic_epoch.*has the key epochs too"):
        reader_of(Spec.of(Mosaic, epochs=3), mosaic_epoch=5)
    assert reader_of(Spec.of(Mixup, epochs=3)).sample_transforms[2].epochs == (0, 3)


def test_evaluation_counts_no_epochs_and_joins_nothing(dataset: COCODataSet) -> None:
    steps: list[Any] = [Spec.of(Decode), Spec.of(Mosaic, input_dim=32), Spec.of(NormalizeImage)]
    reader = eval_reader(sample_transforms=[*steps, Spec.of(Permute)])
    first = next(iter(reader.loader(dataset, seed=0, num_workers=0)))
    assert tuple(first.images.shape[2:]) == (30, 40)
    with pytest.raises(DataError, match="only a TrainReader"):
        eval_reader(sample_transforms=[Spec.of(RandomFlip, epochs=2), *steps])


def test_limited_last_steps_are_not_taken_off() -> None:
    normalize, permute = NormalizeImage(), Permute()
    assert parts_of([normalize, permute], []).finish is not None
    permute.epochs = 3  # type: ignore[assignment]  # the setter takes one number
    assert parts_of([normalize, permute], []).finish is None


def test_the_key_in_a_yaml(tmp_path: Path) -> None:
    path = tmp_path / "mine.yml"
    head = f"_BASE_: [{CONFIG}]\nTrainReader:\n  batch_size: 1\n  sample_transforms:\n  - Decode: {{}}\n"
    path.write_text(f"{head}  - RandomFlip: {{prob: 1.0, epochs: [2, 5]}}\n  - RandomFlip: {{}}\n", "utf-8")
    experiment = load_config(path)
    assert experiment.TrainReader is not None
    first, second = experiment.TrainReader.arguments["sample_transforms"][1:]
    assert first.build().epochs == (2, 5)
    assert not second.build().limited
    assert "epochs" not in second.arguments
    overridden = load_config(path, ["TrainReader.sample_transforms.2.RandomFlip.epochs=7"])
    assert overridden.TrainReader is not None
    assert overridden.TrainReader.arguments["sample_transforms"][2].build().epochs == (0, 7)
    for wrong in ("0", "many", "[-1, 4]", "[4, 2]"):
        path.write_text(f"{head}  - RandomFlip: {{epochs: {wrong}}}\n", "utf-8")
        with pytest.raises(ConfigError, match=r"mine\.yml:6.*epochs"):
            built = load_config(path).TrainReader
            assert built is not None
            built.build()
