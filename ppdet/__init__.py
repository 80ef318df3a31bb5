"""ppdet: config-driven object-detection training on PaddlePaddle."""

__version__ = "0.1.0"
