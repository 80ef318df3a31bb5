"""Shape of a feature map, as one module hands it to the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class FeatureShape:
    """Channels and stride of one feature level.

    Attributes:
        channels: Number of channels, > 0.
        stride: Input pixels per feature cell, > 0.
    """

    channels: int
    stride: int

    def __post_init__(self) -> None:
        if self.channels <= 0 or self.stride <= 0:
            raise ValueError(f"channels and stride must be positive, got {self}")


def doubling_strides(shapes: Sequence[FeatureShape], owner: str) -> list[int]:
    """Strides of levels that each are twice as coarse as the one before.

    Args:
        shapes: Levels, finest first.
        owner: Class that needs them, for the error.

    Raises:
        ValueError: If there is no level, or the strides do not double.
    """
    strides = [shape.stride for shape in shapes]
    if not strides or any(2 * fine != coarse for fine, coarse in zip(strides, strides[1:])):
        raise ValueError(
            f"{owner} needs maps whose strides double from one to the next, got strides {strides}; change "
            "the backbone's return_idx"
        )
    return strides
