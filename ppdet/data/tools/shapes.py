"""Draws the pictures of the synthetic dataset: textured, lit shapes that overlap on a cloudy ground.

Letters: H, W image height and width; V vertices.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Optional

import numpy as np

from ppdet.data.geometry import trace_bitmap
from ppdet.structures import Polygons

#: Class names and the hue (0..180, as OpenCV counts) that most objects of a class have, more or less.
HUES = {"disc": 4, "rectangle": 28, "triangle": 58, "star": 95, "cross": 122, "crescent": 152}
CLASSES = tuple(HUES)

#: Standard deviation of the hue within a class, and the share of objects of any colour at all. Together they
#: make colour a help that a detector cannot rely on.
_HUE_SPREAD = 7.0
_ODD_COLOURS = 0.12
_EMPTY_IMAGES = 0.04
#: Where objects touch: the share that stands beside the one before, the share of its class, and how close.
_BESIDE, _SAME_CLASS, _CLOSE = 0.85, 0.7, 0.86
#: Pixels around an object that its shadow may fall on.
_MARGIN = 14
#: Sub-pixel bits of OpenCV's polygon coordinates.
_SHIFT = 4


@dataclass(frozen=True)
class Scene:
    """What makes the pictures of a dataset hard.

    Attributes:
        fewest: Fewest objects that are tried in an image that has some.
        most: Most of them.
        smallest: Smallest diameter of an object, as a share of the image's shorter side.
        largest: Largest diameter.
        least_visible: Share of an object that stays visible; one that hides more of another is left out.
        least_pixels: Pixels that stay visible.
        margin: Centres keep this share of the sides from the border.
        touching: Most objects stand beside the one before.
    """

    fewest: int = 1
    most: int = 7
    smallest: float = 0.13
    largest: float = 0.45
    least_visible: float = 0.35
    least_pixels: int = 60
    margin: float = 0.05
    touching: bool = False


#: Scenes by name; the first is what the quickstart trains on.
SCENES = {
    "mixed": Scene(),
    "occluded": Scene(fewest=6, most=14, smallest=0.25, largest=0.5, least_visible=0.12, margin=0.25),
    "scales": Scene(fewest=4, most=12, smallest=0.04, largest=0.9, least_visible=0.25, least_pixels=12),
    "small": Scene(fewest=20, most=60, smallest=0.04, largest=0.09, least_visible=0.5, least_pixels=8),
    "touching": Scene(fewest=6, most=16, smallest=0.14, largest=0.22, least_visible=0.8, touching=True),
}


@dataclass(frozen=True)
class Drawn:
    """One object as it is seen.

    Attributes:
        label: Index into `CLASSES`.
        polygons: Outlines of its visible part, in pixels; holes are filled.
        box: x1, y1, x2, y2 of the visible part, in pixels.
    """

    label: int
    polygons: Polygons
    box: tuple[float, float, float, float]


def outline(name: str, rng: np.random.Generator) -> np.ndarray:
    """Outline of a shape, ``[V, 2]``, within the unit circle and at a drawn angle."""
    if name == "rectangle":
        aspect = rng.uniform(0.55, 1.0)
        points = np.array([[-1, -aspect], [1, -aspect], [1, aspect], [-1, aspect]]) / np.hypot(1, aspect)
    elif name == "triangle":
        angles = np.array([90, 210, 330]) + rng.uniform(-18, 18, 3)
        points = _on_circle(np.deg2rad(angles))
    elif name == "star":
        points = _on_circle(np.arange(10) * np.pi / 5) * np.where(np.arange(10) % 2, 0.42, 1.0)[:, None]
    elif name == "cross":
        arm = rng.uniform(0.24, 0.34)
        quarter = np.array([[arm, arm], [arm, 1.0], [-arm, 1.0]])
        points = np.concatenate([quarter @ _turn(k * np.pi / 2).T for k in range(4)]) / np.hypot(1, arm)
    elif name == "crescent":
        # A disc without the part that a second disc, moved by `shift`, covers; they meet at `horn`.
        horn, shift = rng.uniform(0.15, 0.25) * np.pi, rng.uniform(0.3, 0.4)
        gap = np.array([np.cos(horn) - shift, np.sin(horn)])
        turn = np.arctan2(gap[1], gap[0])
        outer = _on_circle(np.linspace(horn, 2 * np.pi - horn, 40))
        inner = _on_circle(np.linspace(2 * np.pi - turn, turn, 40)) * np.hypot(*gap) + [shift, 0.0]
        points = np.concatenate([outer, inner])
    else:
        points = _on_circle(np.linspace(0, 2 * np.pi, 60, endpoint=False)) * [1.0, rng.uniform(0.8, 1.0)]
    return points @ _turn(rng.uniform(0, 2 * np.pi)).T


def _on_circle(angles: np.ndarray) -> np.ndarray:
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _turn(angle: float) -> np.ndarray:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def draw_picture(
    size: tuple[int, int], rng: np.random.Generator, scene: Scene = SCENES["mixed"]
) -> tuple[np.ndarray, list[Drawn]]:
    """Draw one picture.

    Args:
        size: (height, width) in pixels, each 32 or more.
        rng: Decides everything.
        scene: How many objects there are, how large, and how they stand.

    Returns:
        ``[H, W, 3]`` RGB uint8, and its objects from back to front.
    """
    count = 0 if rng.random() < _EMPTY_IMAGES else int(rng.integers(scene.fewest, scene.most + 1))
    light = rng.uniform(0, 2 * np.pi)
    canvas = _ground(size, rng)
    top = np.full(size, -1, np.int32)
    full: list[int] = []
    labels: list[int] = []
    before: Optional[_Place] = None
    for _ in range(count):
        label = int(rng.integers(len(CLASSES)))
        if scene.touching and labels and rng.random() < _SAME_CLASS:
            label = labels[-1]
        place = _place(scene, size, before, rng)
        window, alpha = _silhouette(CLASSES[label], size, place, rng)
        inside = alpha > 0.5
        seen = [int((top == k).sum()) for k in range(len(full))]
        if not _leaves_room(scene, top[window], inside, seen, full):
            continue
        before = place
        height, width = alpha.shape
        canvas[window] = _paint(canvas[window], alpha, _surface(label, (height, width), light, rng), light)
        top[window][inside] = len(labels)
        full.append(int(inside.sum()))
        labels.append(label)
    objects = [_seen(label, top == index) for index, label in enumerate(labels)]
    return _photograph(canvas, rng), objects


def _seen(label: int, visible: np.ndarray) -> Drawn:
    polygons = trace_bitmap(visible.astype(np.uint8))
    points = np.concatenate(polygons)
    (x1, y1), (x2, y2) = points.min(axis=0), points.max(axis=0)
    return Drawn(label, polygons, (float(x1), float(y1), float(x2), float(y2)))


def _leaves_room(scene: Scene, top: np.ndarray, inside: np.ndarray, seen: list[int], full: list[int]) -> bool:
    """Whether a new object in front leaves enough of itself and of every other to be seen."""
    if inside.sum() < scene.least_pixels:
        return False
    hidden = np.bincount(top[inside & (top >= 0)], minlength=len(full))
    return all(
        before - gone >= max(scene.least_pixels, scene.least_visible * whole)
        for before, gone, whole in zip(seen, hidden, full)
    )


class _Place(NamedTuple):
    """The circle around an object: centre x, y and radius in pixels."""

    centre: np.ndarray
    radius: float


def _place(scene: Scene, size: tuple[int, int], before: Optional[_Place], rng: np.random.Generator) -> _Place:
    """Where an object goes. Its centre is inside of the image."""
    radius = min(size) / 2 * np.exp(rng.uniform(np.log(scene.smallest), np.log(scene.largest)))
    least, sides = scene.margin, np.array([size[1], size[0]], float)
    centre = rng.uniform(least * sides, (1 - least) * sides)
    if scene.touching and before is not None and rng.random() < _BESIDE:
        beside = (
            before.centre + _CLOSE * (before.radius + radius) * _on_circle(rng.uniform(0, 2 * np.pi, 1))[0]
        )
        if (beside >= least * sides).all() and (beside <= (1 - least) * sides).all():
            centre = beside
    return _Place(centre, radius)


def _silhouette(
    name: str, size: tuple[int, int], place: _Place, rng: np.random.Generator
) -> tuple[tuple[slice, slice], np.ndarray]:
    """A part of the image, and how far the shape covers it: ``[h, w]`` float32 in 0..1 with soft edges."""
    import cv2

    centre, radius = place
    low = np.maximum(centre - radius - _MARGIN, 0).astype(int)
    high = np.minimum(centre + radius + _MARGIN, [size[1], size[0]]).astype(int)
    cover = np.zeros((high[1] - low[1], high[0] - low[0]), np.uint8)
    points = outline(name, rng) * radius + (centre - low)
    fixed = np.round(points * (1 << _SHIFT)).astype(np.int32)
    cv2.fillPoly(cover, [fixed], 255, lineType=cv2.LINE_AA, shift=_SHIFT)
    return (slice(low[1], high[1]), slice(low[0], high[0])), cover.astype(np.float32) / 255


def _clouds(size: tuple[int, int], cells: int, rng: np.random.Generator) -> np.ndarray:
    """Smooth noise ``[H, W]`` float32 in 0..1, with about `cells` blobs per side."""
    import cv2

    coarse = rng.random((cells + 2, cells + 2)).astype(np.float32)
    return np.clip(cv2.resize(coarse, (size[1], size[0]), interpolation=cv2.INTER_CUBIC), 0, 1)


def _colour(hue: float, saturation: float, value: float) -> np.ndarray:
    import cv2

    pixel = np.array([[[hue % 180, saturation, value]]]).astype(np.uint8)
    return cv2.cvtColor(pixel, cv2.COLOR_HSV2RGB)[0, 0].astype(np.float32)


def _ground(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Background ``[H, W, 3]`` float32: two dull colours, clouds of two sizes, sometimes planks or tiles."""
    first, second = (
        _colour(rng.uniform(0, 180), rng.uniform(10, 80), rng.uniform(60, 200)) for _ in range(2)
    )
    blend = 0.7 * _clouds(size, 3, rng) + 0.3 * _clouds(size, int(rng.integers(10, 30)), rng)
    ground = first + blend[..., None] * (second - first)
    if rng.random() < 0.5:
        ground += (_stripes(size, rng) * rng.uniform(6, 18))[..., None]
    return ground.astype(np.float32)


def _grid(size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Rows ``[H, 1]`` and columns ``[1, W]``, float32."""
    return np.arange(size[0], dtype=np.float32)[:, None], np.arange(size[1], dtype=np.float32)[None]


def _stripes(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Bands at a drawn angle, or dots where two sets of them cross, ``[H, W]`` float32 in -1..1."""
    y, x = _grid(size)
    angle, period = rng.uniform(0, np.pi), rng.uniform(7, 18)
    along = np.cos(angle) * x + np.sin(angle) * y
    bands = np.sin(2 * np.pi * along / period)
    if rng.random() < 0.4:
        across = -np.sin(angle) * x + np.cos(angle) * y
        bands = bands * np.sin(2 * np.pi * across / period)
    return np.tanh(3 * bands).astype(np.float32)


def _surface(label: int, size: tuple[int, int], light: float, rng: np.random.Generator) -> np.ndarray:
    """What an object is made of, ``[H, W, 3]`` float32: colour, pattern, and light from one side."""
    odd = rng.random() < _ODD_COLOURS
    hue = rng.uniform(0, 180) if odd else HUES[CLASSES[label]] + rng.normal(0, _HUE_SPREAD)
    colour = _colour(hue, rng.uniform(120, 255), rng.uniform(120, 240))
    pattern: np.ndarray = np.zeros(size, np.float32)
    kind = rng.random()
    if kind < 0.35:
        pattern = _stripes(size, rng) * rng.uniform(0.08, 0.25)
    elif kind < 0.7:
        pattern = (_clouds(size, int(rng.integers(15, 40)), rng) - 0.5) * rng.uniform(0.3, 0.8)
    y, x = _grid(size)
    slope = (np.cos(light) * x + np.sin(light) * y) / max(size)
    shade = 1 + pattern + rng.uniform(0.2, 0.7) * (slope - slope.mean())
    return colour * shade.astype(np.float32)[..., None]


def _paint(canvas: np.ndarray, alpha: np.ndarray, surface: np.ndarray, light: float) -> np.ndarray:
    """Lay a surface on the canvas where `alpha` says, with a shadow away from the light and a dark rim."""
    import cv2

    shift = np.array([[1, 0, -5 * np.cos(light)], [0, 1, -5 * np.sin(light)]], np.float32)
    moved = cv2.warpAffine(alpha, shift, (alpha.shape[1], alpha.shape[0]))
    blurred: np.ndarray = cv2.GaussianBlur(moved, (0, 0), 3)
    shadow = 0.45 * blurred
    rim = 1 - 0.35 * (alpha - cv2.erode(alpha, np.ones((3, 3), np.uint8)))
    under = canvas * (1 - shadow)[..., None]
    cover = alpha[..., None]
    return under * (1 - cover) + surface * rim[..., None] * cover


def _photograph(canvas: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Uneven exposure, a little blur, grain, and 8 bits."""
    import cv2

    size = (canvas.shape[0], canvas.shape[1])
    exposure = rng.uniform(0.75, 1.1) + 0.35 * (_clouds(size, 2, rng) - 0.5)
    picture = (canvas * exposure[..., None]).astype(np.float32)
    blurred = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.3, 0.9))
    grain = rng.standard_normal(canvas.shape, np.float32) * np.float32(rng.uniform(1, 7))
    return np.clip(blurred + grain, 0, 255).astype(np.uint8)
