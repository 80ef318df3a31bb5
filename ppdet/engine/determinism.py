"""The same numbers from the same seed, run after run."""

from __future__ import annotations

import random

import numpy as np
import paddle

#: Flags that make GPU kernels choose algorithms that always add in the same order; unknown to some builds.
_FLAGS = {
    "FLAGS_cudnn_deterministic": True,
    "FLAGS_embedding_deterministic": 1,
    "FLAGS_cudnn_exhaustive_search": False,
}


def make_deterministic() -> None:
    """Make every operator give the same result for the same input on the same machine; costs some speed.

    On a CPU they do anyway, for a fixed number of threads.
    """
    for name, value in _FLAGS.items():
        try:
            paddle.set_flags({name: value})
        except ValueError:
            continue  # a build without that part has nothing to make deterministic


def seed_everything(seed: int) -> None:
    """Seed Paddle, NumPy and Python before a model draws its first weights."""
    paddle.seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)
