"""Merges the detections of several views of an image into one list.

Two detections of a class from different views are one object if their IoU is large. Where a tile cuts an
object, two tiles show different parts of it: boxes are then compared within the pixels that both tiles show,
where the boxes of one object agree.

Letters: D detections of all views.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ppdet.inference.views import View, Views
from ppdet.ops.masks import encode_window
from ppdet.structures import Detections

#: A box that comes as close as this to a side of its tile, as a share of the tile's side, is cut by it.
_CUT_SHARE = 0.01
#: But at least this many pixels: how far boxes of detectors end from where the object does.
_CUT_PIXELS = 2.0


@dataclass
class _Pool:
    """Detections of all views, in pixels of the image.

    Attributes:
        boxes: ``[D, 4]`` float32 xyxy.
        scores: ``[D]`` float32.
        labels: ``[D]`` int64.
        view_ids: ``[D]`` int64, index of the view; objects that `_fuse` joins get numbers of their own.
        windows: ``[D, 4]`` float32 xyxy, the part of the image that the view shows.
        cut: ``[D]`` bool, whether a side of the window that is not one of the image cuts the box.
        members: For each detection, the rows of the input lists that it was made from.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    view_ids: np.ndarray
    windows: np.ndarray
    cut: np.ndarray
    members: list[tuple[int, ...]]

    def select(self, rows: np.ndarray) -> _Pool:
        """Some of them, in the order of `rows`."""
        return _Pool(
            boxes=self.boxes[rows],
            scores=self.scores[rows],
            labels=self.labels[rows],
            view_ids=self.view_ids[rows],
            windows=self.windows[rows],
            cut=self.cut[rows],
            members=[self.members[i] for i in rows],
        )


def merge(
    detections: Sequence[Detections],
    views: Sequence[View],
    rule: Views,
    *,
    image_id: int,
    size: tuple[int, int],
) -> Detections:
    """Merge the detections of several views of an image.

    Detections of one view are never merged with each other, since the detector's own NMS has run on them.

    Args:
        detections: Of each view, in pixels of the view.
        views: The views.
        rule: How detections are compared, and how many are kept.
        image_id: Of the image.
        size: (height, width) of the image.

    Returns:
        Detections in pixels of the image, by falling score; masks of joined pieces are united.
    """
    pool = _pooled(detections, views, size)
    if rule.merge and len(views) > 1:
        pool = _suppress(_fuse(pool, rule.match_threshold), rule)
    order = np.argsort(-pool.scores, kind="stable")[: rule.keep_top_k]
    pool = pool.select(order)
    masks = None
    if all(one.masks is not None for one in detections):
        owners = [(mask, view) for one, view in zip(detections, views) for mask in one.masks or ()]
        masks = tuple(_united([_placed(*owners[row], size) for row in rows]) for rows in pool.members)
    return Detections(image_id, pool.boxes, pool.scores, pool.labels, masks)


def _pooled(detections: Sequence[Detections], views: Sequence[View], size: tuple[int, int]) -> _Pool:
    boxes = [_moved(one.boxes, view) for one, view in zip(detections, views)]
    counts = [len(one) for one in detections]
    windows = np.repeat(np.array([view.window for view in views], np.float32), counts, axis=0)
    together = np.concatenate(boxes)
    return _Pool(
        boxes=together,
        scores=np.concatenate([one.scores for one in detections]),
        labels=np.concatenate([one.labels for one in detections]),
        view_ids=np.repeat(np.arange(len(views)), counts),
        windows=windows,
        cut=_cut(together, windows, size),
        members=[(row,) for row in range(len(together))],
    )


def _moved(boxes: np.ndarray, view: View) -> np.ndarray:
    """Transform the boxes of a view to pixels of the image."""
    left, top, right, _ = view.window
    moved = boxes.copy()
    if view.flip:
        moved[:, [0, 2]] = (right - left) - boxes[:, [2, 0]]
    return moved + np.array([left, top, left, top], np.float32)


def _cut(boxes: np.ndarray, windows: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    edges = np.array([0, 0, size[1], size[0]], np.float32)
    sides = np.tile(windows[:, 2:] - windows[:, :2], 2)
    near = np.abs(boxes - windows) <= np.maximum(sides * _CUT_SHARE, _CUT_PIXELS)
    cut: np.ndarray = (near & (windows != edges)).any(axis=1)
    return cut


def _agreement(pool: _Pool, row: int, others: np.ndarray) -> np.ndarray:
    """IoU of a detection with others; if one of the two is cut, within the pixels that both views show."""
    some_cut = (pool.cut[others] | pool.cut[row])[:, None]
    low = np.maximum(pool.windows[others, :2], pool.windows[row, :2])
    high = np.minimum(pool.windows[others, 2:], pool.windows[row, 2:])
    low, high = np.where(some_cut, low, -np.inf), np.where(some_cut, high, np.inf)
    mine = np.broadcast_to(pool.boxes[row], (len(others), 4))
    mine_low, mine_high = np.maximum(mine[:, :2], low), np.minimum(mine[:, 2:], high)
    their_low = np.maximum(pool.boxes[others, :2], low)
    their_high = np.minimum(pool.boxes[others, 2:], high)

    def area(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        product: np.ndarray = np.clip(b - a, 0, None).prod(axis=1)
        return product

    common = area(np.maximum(mine_low, their_low), np.minimum(mine_high, their_high))
    union = area(mine_low, mine_high) + area(their_low, their_high) - common
    ratio: np.ndarray = np.where(union > 0, common / np.maximum(union, 1e-9), 0.0)
    return ratio


def _fuse(pool: _Pool, threshold: float) -> _Pool:
    """Join the pieces of objects that tiles of one row or column have cut."""
    pieces = np.flatnonzero(pool.cut)
    group = np.arange(len(pool.scores))
    for index, row in enumerate(pieces.tolist()):
        others = pieces[index + 1 :]
        same_columns = (pool.windows[others][:, [0, 2]] == pool.windows[row, [0, 2]]).all(axis=1)
        same_rows = (pool.windows[others][:, [1, 3]] == pool.windows[row, [1, 3]]).all(axis=1)
        # Not both: that is the same tile at another size or mirrored, whose pieces are no larger.
        others = others[(pool.labels[others] == pool.labels[row]) & (same_columns != same_rows)]
        for other in others[_agreement(pool, row, others) > threshold]:
            group[group == group[other]] = group[row]
    fused = [np.flatnonzero(group == g) for g in np.unique(group[pieces])]
    fused = [rows for rows in fused if len(rows) > 1]
    if not fused:
        return pool
    alone = np.ones(len(group), bool)
    alone[np.concatenate(fused)] = False
    rest = pool.select(np.flatnonzero(alone))
    whole = [_hull(pool.boxes[rows]) for rows in fused]
    windows = np.stack([_hull(pool.windows[rows]) for rows in fused])
    first = int(pool.view_ids.max()) + 1
    return _Pool(
        boxes=np.concatenate([rest.boxes, np.stack(whole)]),
        scores=np.concatenate([rest.scores, [pool.scores[rows].max() for rows in fused]]).astype(np.float32),
        labels=np.concatenate([rest.labels, [pool.labels[rows[0]] for rows in fused]]).astype(np.int64),
        view_ids=np.concatenate([rest.view_ids, np.arange(first, first + len(fused))]),
        windows=np.concatenate([rest.windows, windows]),
        cut=np.concatenate([rest.cut, np.ones(len(fused), bool)]),
        members=[*rest.members, *(tuple(int(row) for row in rows) for rows in fused)],
    )


def _hull(boxes: np.ndarray) -> np.ndarray:
    return np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])


def _suppress(pool: _Pool, rule: Views) -> _Pool:
    """Greedy NMS between views by falling score. Where one view cuts an object and another does not, the
    uncut box is kept.
    """
    order = np.argsort(-pool.scores, kind="stable")
    pool = pool.select(order)
    open_ = np.ones(len(order), bool)
    kept: list[int] = []
    scores: list[float] = []
    for row in range(len(order)):
        if not open_[row]:
            continue
        open_[row] = False
        others = np.flatnonzero(
            open_ & (pool.labels == pool.labels[row]) & (pool.view_ids != pool.view_ids[row])
        )
        same = others[_agreement(pool, row, others) > rule.match_threshold]
        open_[same] = False
        whole = same[~pool.cut[same]]
        kept.append(int(whole[0]) if pool.cut[row] and len(whole) else row)
        scores.append(float(pool.scores[row]))
        if len(kept) == rule.keep_top_k:
            break
    merged = pool.select(np.array(kept, np.int64))
    merged.scores = np.array(scores, np.float32)
    return merged


def _placed(mask: dict[str, Any], view: View, size: tuple[int, int]) -> dict[str, Any]:
    """Transform the mask of a view to the image."""
    from pycocotools import mask as coco_mask

    whole = view.window == (0, 0, size[1], size[0])
    if whole and not view.flip:
        return mask
    window = coco_mask.decode(mask).astype(bool).T
    if view.flip:
        window = window[::-1]
    return encode_window(window, view.window[0], view.window[1], size)


def _united(masks: list[dict[str, Any]]) -> dict[str, Any]:
    from pycocotools import mask as coco_mask

    union: dict[str, Any] = masks[0] if len(masks) == 1 else coco_mask.merge(masks)
    return union
