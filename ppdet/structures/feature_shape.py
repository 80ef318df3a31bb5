"""What a feature map looks like, as one module tells it to the next."""

from __future__ import annotations

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
