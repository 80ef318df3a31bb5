"""The training and the validation part of a dataset in any format; splits one that nobody has split."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ppdet.data.formats.dataset import LabelledDataset
from ppdet.data.formats.registry import read_parts
from ppdet.data.tools.split import split_images
from ppdet.utils.errors import DataError


def train_and_val(
    source: Path, kind: str, *, val_share: float, seed: int
) -> tuple[dict[str, LabelledDataset], list[str]]:
    """Read a dataset.

    Args:
        source: Its folder or file.
        kind: Its format, or ``auto``.
        val_share: Share of the images to validate on, where there is no validation part.
        seed: Of the split.

    Returns:
        ``train`` and ``val``, and what a user should know, in sentences.

    Raises:
        DataError: If it cannot be read, or has fewer than two images.
    """
    parts = read_parts(source, kind)
    read_as = next(iter(parts.values())).kind
    counts = ", ".join(f"{name or 'all'} {len(part.content['images'])}" for name, part in parts.items())
    notes = [f"{source}: {read_as}, images: {counts}"]
    notes += [f"{count} {what}" for part in parts.values() for what, count in part.counts.items()]
    train = parts.get("train") or (next(iter(parts.values())) if len(parts) == 1 else None)
    if train is None:
        raise DataError(
            f"{source}: parts {', '.join(parts)}, none is called train; name one file with --data"
        )
    val = parts.get("val")
    if val is not None and _files(val) != _files(train):
        return {"train": train, "val": val}, notes
    count = len(train.content["images"])
    held = min(count - 1, max(1, round(val_share * count)))
    if held < 1:
        raise DataError(f"{source}: one image; at least two are needed, one of them to validate on")
    split = split_images(train.content, {"train": 1 - held / count, "val": held / count}, seed=seed)
    why = "its validation images are those of the training" if val is not None else "nobody has split it"
    notes.append(f"{why}: {count - held} images train, {held} validate (seed {seed})")
    return {name: replace(train, content=content) for name, content in split.items()}, notes


def _files(part: LabelledDataset) -> set[Path]:
    return {part.image_dir / row["file_name"] for row in part.content["images"]}
