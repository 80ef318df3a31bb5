"""Colours of classes in pictures, pages and notebooks."""

from __future__ import annotations

import colorsys


def class_colour(label: int) -> tuple[int, int, int]:
    """RGB colour of a class: the same in every run, and far in hue from those of its neighbours."""
    hue = (label * 0.61803398875 + 0.05) % 1.0  # steps of the golden ratio never cluster
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.85, (1.0, 0.8, 0.9)[label % 3])
    return round(red * 255), round(green * 255), round(blue * 255)
