"""Protects that batches depend on seed, epoch and position alone, and that trouble in a worker is told."""

from __future__ import annotations

import gc
import logging
import os
import pickle
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paddle.io.dataloader.flat import _flatten_batch, _restore_batch

from ppdet.config.spec import Spec
from ppdet.data import loader as loader_module
from ppdet.data.datasets.coco import COCODataSet
from ppdet.data.image_files import forget_listings
from ppdet.data.loader import Loader, shared_memory_suffices
from ppdet.data.sampler import Sampler, batch_rng, sample_rng
from ppdet.data.source import disclose, enclose
from ppdet.data.transforms.base import Transform
from ppdet.data.transforms.decode import Decode
from ppdet.data.transforms.mixup import Mixup
from ppdet.data.transforms.normalize import NormalizeImage, Permute
from ppdet.data.transforms.resize import Resize
from ppdet.structures import Batch, Sample
from ppdet.utils.errors import DataError
from tests.data.support import coco_content, eval_reader, train_reader, write_coco
from tests.support import ROOT

FIELDS = ["image", "gt_bbox", "gt_class", "is_crowd", "gt_poly"]


@pytest.fixture
def dataset(tmp_path: Path) -> COCODataSet:
    forget_listings()
    return COCODataSet(**write_coco(tmp_path, coco_content(10)), data_fields=FIELDS)


def numbers(batch: Batch) -> tuple[Any, ...]:
    """Everything of a batch that can be compared."""
    assert batch.targets is not None
    tensors = [
        batch.images,
        batch.image_sizes,
        batch.scale_factors,
        batch.targets.boxes,
        batch.targets.labels,
    ]
    if batch.targets.polygons is not None:
        tensors += [batch.targets.polygons.vertices, batch.targets.polygons.owner]
    return (batch.image_ids, batch.paths, *(t.numpy().tobytes() for t in tensors))


def run(loader: Loader, epochs: int, first: tuple[int, int] = (0, 0)) -> list[tuple[Any, ...]]:
    """Batches of several epochs, from (epoch, batch) on."""
    batches = []
    for epoch in range(first[0], epochs):
        loader.set_epoch(epoch, first[1] if epoch == first[0] else 0)
        batches += [numbers(batch) for batch in loader]
    loader.close()
    return batches


def test_batches_are_the_same_for_any_number_of_workers(dataset: COCODataSet) -> None:
    reader = train_reader(batch_size=3)
    runs = {n: run(reader.loader(dataset, seed=5, num_workers=n, with_masks=True), 3) for n in (0, 1, 4)}
    assert len(runs[0]) == 9
    assert runs[0] == runs[1] == runs[4]
    assert len(set(runs[0])) == 9
    assert run(reader.loader(dataset, seed=6, num_workers=0, with_masks=True), 3) != runs[0]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_run_goes_on_where_it_stopped(dataset: COCODataSet, workers: int) -> None:
    reader = train_reader(batch_size=3)
    whole = run(reader.loader(dataset, seed=1, num_workers=0), 3)
    for epoch, batch in ((0, 2), (1, 0), (1, 1), (2, 3)):
        rest = run(reader.loader(dataset, seed=1, num_workers=workers), 3, (epoch, batch))
        assert rest == whole[epoch * 3 + batch :]


def test_leaving_an_epoch_early_and_going_back(dataset: COCODataSet) -> None:
    reader = train_reader(batch_size=2)
    whole = run(reader.loader(dataset, seed=1, num_workers=0), 2)
    loader = reader.loader(dataset, seed=1, num_workers=1)
    first = next(iter(loader))
    assert numbers(first) == whole[0]
    assert run(loader, 2) == whole


def test_the_epoch_reaches_the_workers(dataset: COCODataSet) -> None:
    """Mixup stops after its epochs in the same batch for every number of workers (defect 6)."""
    steps = [Spec.of(Decode), Spec.of(Mixup), Spec.of(Resize, target_size=32, keep_ratio=False)]
    steps += [Spec.of(NormalizeImage), Spec.of(Permute)]
    reader = train_reader(sample_transforms=steps, batch_size=5, mixup_epoch=2)
    for workers in (0, 2):
        loader = reader.loader(dataset, seed=1, num_workers=workers)
        weighted = []
        for epoch in range(4):
            loader.set_epoch(epoch)
            weighted.append(any((b.targets.weights.numpy() != 1).any() for b in loader if b.targets))
        loader.close()
        assert weighted == [True, True, False, False]
    always = train_reader(sample_transforms=steps, batch_size=5, mixup_epoch=0)
    loader = always.loader(dataset, seed=1, num_workers=0)
    loader.set_epoch(7)
    assert any((b.targets.weights.numpy() != 1).any() for b in loader if b.targets)


def test_evaluation_keeps_the_order_and_every_image(dataset: COCODataSet) -> None:
    loader = eval_reader(batch_size=4).loader(dataset, seed=0, num_workers=2)
    for _ in range(2):
        ids = [batch.image_ids for batch in loader]
        assert ids == [(100, 101, 102, 103), (104, 105, 106, 107), (108, 109)]
    assert len(loader) == 3


@given(
    st.integers(1, 40), st.integers(1, 5), st.integers(1, 4), st.booleans(), st.booleans(), st.integers(0, 3)
)
def test_shards(length: int, size: int, world: int, shuffle: bool, drop_last: bool, epoch: int) -> None:
    def shard(rank: int, even: bool) -> list[tuple[int, ...]]:
        sampler = Sampler(length, size, 3, shuffle, drop_last, even, rank, world)
        plans = list(sampler.batches(epoch))
        assert len(plans) == len(sampler)
        return [plan.images for plan in plans]

    uneven = [image for rank in range(world) for batch in shard(rank, False) for image in batch]
    assert len(uneven) == len(set(uneven))
    if not drop_last:
        assert sorted(uneven) == list(range(length))
    even = [shard(rank, True) for rank in range(world)]
    assert len({len(batches) for batches in even}) == 1
    assert all(len(batch) == size for batches in even for batch in batches)
    # Ranks together see in a step what one process with a batch as large sees.
    large = Sampler(length, size * world, 3, shuffle, drop_last, True)
    together = [sum((batches[k] for batches in even), ()) for k in range(len(even[0]))]
    assert together == [plan.images for plan in large.batches(epoch)]


@given(st.integers(1, 60), st.integers(1, 5), st.integers(0, 3), st.booleans())
def test_batches_keep_to_one_group(length: int, size: int, seed: int, shuffle: bool) -> None:
    groups = np.random.default_rng(seed).integers(0, 2, length)
    sampler = Sampler(length, size, seed, shuffle, False, False, groups=groups)
    batches = [plan.images for plan in sampler.batches(1)]
    assert sorted(image for batch in batches for image in batch) == list(range(length))
    for batch in batches[:-2]:  # the last two may hold what is left of both groups
        assert len(set(groups[list(batch)])) == 1
    again = Sampler(length, size, seed, shuffle, False, False, groups=groups)
    assert [plan.images for plan in again.batches(1, len(batches) // 2)] == batches[len(batches) // 2 :]


def test_wide_and_tall_images_meet_in_no_batch(tmp_path: Path) -> None:
    content = coco_content(8)
    for row in content["images"][::2]:
        row["height"], row["width"] = 60, 40
    shapes = {row["id"]: row["width"] > row["height"] for row in content["images"]}
    annotated = COCODataSet(**write_coco(tmp_path, content), data_fields=FIELDS, repeat=2)
    loader = train_reader(batch_size=4, group_by_aspect_ratio=True).loader(annotated, seed=0, num_workers=0)
    for epoch in range(3):
        loader.set_epoch(epoch)
        for batch in loader:
            assert len({shapes[image] for image in batch.image_ids}) == 1


def test_grouping_needs_sizes(tmp_path: Path) -> None:
    unknown = COCODataSet(**write_coco(tmp_path, coco_content(4)), data_fields=FIELDS)
    object.__setattr__(unknown.packed, "sizes", np.zeros((4, 2), np.int32))
    with pytest.raises(DataError, match=r"group_by_aspect_ratio needs the size.*4 of 4"):
        train_reader(group_by_aspect_ratio=True).loader(unknown, seed=0, num_workers=0)


def test_draws_differ_between_epochs_positions_and_purposes() -> None:
    firsts = [sample_rng(1, e, p).random() for e in range(4) for p in range(4)]
    firsts += [batch_rng(1, e, p).random() for e in range(4) for p in range(4)]
    assert len(set(firsts)) == len(firsts)
    shuffled = Sampler(50, 1, 0, True, False, False)
    assert shuffled.order(0).tolist() != shuffled.order(1).tolist()
    assert shuffled.order(1).tolist() == Sampler(50, 1, 0, True, False, False).order(1).tolist()


def test_a_reader_with_too_few_images(dataset: COCODataSet) -> None:
    with pytest.raises(DataError, match="10 images do not fill one batch of 8 x 2 processes"):
        train_reader(batch_size=8).loader(dataset, seed=0, num_workers=0, world_size=2)
    with pytest.raises(DataError, match="batch_size 0"):
        train_reader(batch_size=0)
    with pytest.raises(DataError, match="worker_num"):
        train_reader().loader(dataset, seed=0, num_workers=-1)


def test_masks_where_the_model_needs_them(tmp_path: Path, dataset: COCODataSet) -> None:
    batch = next(iter(train_reader(batch_size=6).loader(dataset, seed=0, num_workers=0, with_masks=True)))
    assert batch.targets is not None
    assert batch.targets.polygons is not None
    owners = batch.targets.polygons.owner.numpy()
    labels = batch.targets.labels.numpy().reshape(-1)
    assert sorted(set(owners)) == np.flatnonzero(labels >= 0).tolist()
    plain = COCODataSet(**write_coco(tmp_path / "plain", coco_content()))
    with pytest.raises(DataError, match="gt_poly to data_fields"):
        train_reader().loader(plain, seed=0, num_workers=0, with_masks=True)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_corrupt_image_is_named(tmp_path: Path, dataset: COCODataSet, workers: int) -> None:
    bad = tmp_path / "images" / "4.jpg"
    bad.write_bytes(bad.read_bytes()[:-20])
    loader = eval_reader(batch_size=2).loader(dataset, seed=0, num_workers=workers)
    with pytest.raises(DataError, match=r"4\.jpg is .*skip_corrupt"):
        list(loader)


@pytest.mark.parametrize("workers", [0, 1])
def test_corrupt_images_can_be_skipped(
    tmp_path: Path, dataset: COCODataSet, workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    for k in (4, 6, 7):
        (tmp_path / "images" / f"{k}.jpg").write_bytes(b"")
    loader = eval_reader(batch_size=2, skip_corrupt=True).loader(dataset, seed=0, num_workers=workers)
    with caplog.at_level(logging.WARNING):
        assert [b.image_ids for b in loader] == [(100, 101), (102, 103), (105,), (108, 109)]
    assert loader.skipped == 3
    assert "4.jpg" in caplog.text
    training = train_reader(batch_size=2, skip_corrupt=True).loader(dataset, seed=0, num_workers=workers)
    ids = [b.image_ids for b in training]
    training.close()
    assert [len(i) for i in ids] == [2] * 5
    assert not {104, 106, 107} & {i for batch in ids for i in batch}


def test_skipping_gives_up_when_nothing_can_be_read(tmp_path: Path, dataset: COCODataSet) -> None:
    for path in (tmp_path / "images").iterdir():
        path.write_bytes(b"")
    loader = train_reader(skip_corrupt=True).loader(dataset, seed=0, num_workers=0)
    with pytest.raises(DataError, match="10 images in a row"):
        next(iter(loader))


class Faulty(Transform[None]):
    """Fails on one image."""

    def apply(self, sample: Sample, params: None) -> Sample:
        """Fail, or not."""
        if sample.image_id == 103:
            raise ZeroDivisionError("by design")
        return sample


@pytest.mark.parametrize("workers", [0, 1])
def test_a_faulty_transform_is_named_with_its_image(dataset: COCODataSet, workers: int) -> None:
    steps = [Spec.of(Decode), Spec.of(Faulty), Spec.of(NormalizeImage), Spec.of(Permute)]
    reader = eval_reader(sample_transforms=steps)
    loader = reader.loader(dataset, seed=0, num_workers=workers)
    with pytest.raises(
        RuntimeError, match=r"ZeroDivisionError in Faulty on .*3\.jpg \(image id 103\): by design"
    ):
        list(loader)


class Slow(Transform[None]):
    """Never comes back."""

    def apply(self, sample: Sample, params: None) -> Sample:
        """Wait."""
        time.sleep(1000)
        return sample


@pytest.mark.slow
def test_a_stalled_worker_is_detected(dataset: COCODataSet) -> None:
    loader = eval_reader(sample_transforms=[Spec.of(Slow)]).loader(dataset, seed=0, num_workers=1)
    loader.stall_seconds = 1.0
    started = time.monotonic()
    with pytest.raises(DataError, match=r"batch 0 of epoch 0: no batch within 1 s while loading .*0\.jpg\."):
        list(loader)
    assert time.monotonic() - started < 30


class Fatal(Transform[None]):
    """Ends its process on one image, as the system does when it is out of memory."""

    def apply(self, sample: Sample, params: None) -> Sample:
        """End, or not."""
        if sample.image_id == 103:
            os.kill(os.getpid(), signal.SIGKILL)
        return sample


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_lost_worker_is_told_with_its_image(dataset: COCODataSet) -> None:
    steps = [Spec.of(Decode), Spec.of(Fatal), Spec.of(NormalizeImage), Spec.of(Permute)]
    loader = eval_reader(sample_transforms=steps).loader(dataset, seed=0, num_workers=2)
    with pytest.raises(DataError, match=r"ended unexpectedly while loading [^,]*3\.jpg \(exit status -9"):
        list(loader)


def test_everything_that_goes_to_a_worker_pickles(dataset: COCODataSet) -> None:
    """Where processes are spawned (Windows, macOS), the source travels as a pickle."""
    loader = train_reader(batch_size=3).loader(dataset, seed=2, num_workers=0, with_masks=True)
    source = pickle.loads(pickle.dumps(loader._source))
    plan = next(loader._sampler.batches(0))
    np.testing.assert_array_equal(source.load(plan)["images"], loader._source.load(plan)["images"])


def test_only_images_travel_in_shared_memory() -> None:
    batch = {"images": np.zeros((2, 8, 8, 3), np.uint8), "boxes": np.ones((2, 1, 4)), "paths": ["a", "b"]}
    arrays, message = _flatten_batch([enclose(batch)])
    assert [array.shape for array in arrays] == [(2, 8, 8, 3)]
    again = disclose(_restore_batch(arrays, message)[0])
    assert again.keys() == batch.keys()
    np.testing.assert_array_equal(again["boxes"], batch["boxes"])


def test_the_collector_leaves_alone_what_workers_share_until_the_last_are_gone(dataset: COCODataSet) -> None:
    loaders = [train_reader(batch_size=3).loader(dataset, seed=2, num_workers=1) for _ in range(2)]
    before = gc.get_freeze_count()
    for loader in loaders:
        next(iter(loader))
    assert gc.get_freeze_count() > before
    loaders[0].close()
    assert gc.get_freeze_count() > 0
    loaders[1].close()
    assert gc.get_freeze_count() == 0


def test_small_shared_memory_is_seen(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def usage(free: int) -> Any:
        return lambda _: shutil._ntuple_diskusage(2**40, 0, free)  # type: ignore[attr-defined]

    if not loader_module._SHARED_MEMORY.is_dir():
        pytest.skip("no /dev/shm here")
    monkeypatch.setattr(loader_module.shutil, "disk_usage", usage(64 * 2**20))
    with caplog.at_level(logging.WARNING):
        assert not shared_memory_suffices(8, 4)
    assert "64 MB free" in caplog.text
    monkeypatch.setattr(loader_module.shutil, "disk_usage", usage(64 * 2**30))
    assert shared_memory_suffices(8, 4)


def test_batches_without_shared_memory_are_the_same(
    dataset: COCODataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = train_reader(batch_size=3)
    wanted = run(reader.loader(dataset, seed=5, num_workers=0), 1)
    monkeypatch.setattr(loader_module, "shared_memory_suffices", lambda *_: False)
    assert run(reader.loader(dataset, seed=5, num_workers=1), 1) == wanted


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_end_of_the_main_process_leaves_no_workers(tmp_path: Path, number: signal.Signals) -> None:
    write_coco(tmp_path, coco_content(10))
    code = f"""
        import signal, time
        from ppdet.data.datasets.coco import COCODataSet
        from tests.data.support import train_reader
        data = COCODataSet(dataset_dir={str(tmp_path)!r}, image_dir="images", anno_path="anno.json")
        loader = train_reader(batch_size=2).loader(data, seed=0, num_workers=2)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs of a shell may start without it
        print("workers", flush=True)
        for _ in loader:
            print(*(w.pid for w in loader._stream._workers), flush=True)
            while True:
                time.sleep(0.1)  # a signal that comes as a longer sleep begins is seen at its end
    """
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline().strip() == "workers"
    pids = [int(word) for word in child.stdout.readline().split()]
    assert len(pids) == 2
    if number == signal.SIGINT:
        os.killpg(child.pid, number)  # as a terminal does
    else:
        child.send_signal(number)
    assert child.wait(timeout=30) != 0
    deadline = time.monotonic() + 15
    while any(alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not any(alive(pid) for pid in pids)


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_workers_leave_ctrl_c_to_the_main_process(dataset: COCODataSet) -> None:
    reader = train_reader(batch_size=1)
    wanted = run(reader.loader(dataset, seed=5, num_workers=0), 1)
    loader = reader.loader(dataset, seed=5, num_workers=2)
    batches = iter(loader)
    seen = [numbers(next(batches))]
    assert loader._stream is not None
    for worker in loader._stream._workers:
        os.kill(worker.pid, signal.SIGINT)
    seen += [numbers(batch) for batch in batches]
    loader.close()
    assert seen == wanted


def alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
