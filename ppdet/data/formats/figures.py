"""Outlines of the figures that annotation tools have beside polygons."""

from __future__ import annotations

import numpy as np

#: Corners of the polygon that stands for an ellipse.
_CORNERS = 48


def ellipse(centre: tuple[float, float], radii: tuple[float, float], turn: float = 0.0) -> np.ndarray:
    """An ellipse as a polygon ``[48, 2]``.

    Args:
        centre: x, y in pixels.
        radii: Along x and y before the turn.
        turn: Clockwise as seen on the screen, in degrees.
    """
    angles = np.linspace(0, 2 * np.pi, _CORNERS, endpoint=False)
    points = np.stack([radii[0] * np.cos(angles), radii[1] * np.sin(angles)], axis=1)
    return turned(points, turn) + np.array(centre)


def rectangle(box: tuple[float, float, float, float], turn: float, about: tuple[float, float]) -> np.ndarray:
    """The corners ``[4, 2]`` of a box x1, y1, x2, y2, turned clockwise by degrees about a point."""
    x1, y1, x2, y2 = box
    corners = np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]], np.float64)
    return turned(corners - about, turn) + np.array(about)


def turned(points: np.ndarray, degrees: float) -> np.ndarray:
    """Points ``[V, 2]`` turned about the origin, clockwise as seen on the screen (y points down)."""
    angle = np.deg2rad(degrees)
    across, along = np.cos(angle), np.sin(angle)
    return points @ np.array([[across, along], [-along, across]])
