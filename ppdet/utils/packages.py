"""Packages that pip cannot require for everyone, and what to install where one is missing."""

from __future__ import annotations

from importlib.util import find_spec

from ppdet.utils.errors import UserError

#: Import name -> name for people, and what to install.
_CURES = {
    "paddle": ("PaddlePaddle", "pip install 'ppdet[cpu]' (with a GPU: docs/install.md)"),
    "cv2": ("OpenCV", "pip install 'ppdet[cpu]', or any build of OpenCV"),
    "onnx": ("the package onnx", "pip install 'ppdet[export]'"),
    "onnxruntime": ("ONNX Runtime", "pip install 'ppdet[export]'"),
    "openvino": ("OpenVINO", "pip install 'ppdet[openvino]'"),
    "nncf": ("NNCF", "pip install 'ppdet[openvino]'"),
    "paddle2onnx": ("paddle2onnx", "pip install 'ppdet[export]'"),
    "albumentations": ("Albumentations", "pip install 'ppdet[albumentations]'"),
    "hotcoco": ("hotcoco", "pip install 'ppdet[fast]'"),
    "visualdl": ("VisualDL", "pip install 'ppdet[logging]'"),
    "uvicorn": ("uvicorn", "pip install 'ppdet[serve]'"),
    "starlette": ("Starlette", "pip install 'ppdet[serve]'"),
    "python_multipart": ("python-multipart", "pip install 'ppdet[serve]'"),
    "prometheus_client": ("prometheus-client", "pip install 'ppdet[serve]'"),
    "supervision": ("supervision", "pip install supervision"),
    "fiftyone": ("FiftyOne", "pip install fiftyone"),
    "huggingface_hub": ("the package huggingface_hub", "pip install 'ppdet[hub]'"),
    "tensorboardX": ("tensorboardX", "pip install 'ppdet[logging]'"),
}


class MissingPackageError(UserError, ImportError):
    """A package that is needed is not installed; says which and how to install it."""


def require_packages(*names: str) -> None:
    """Check that packages are installed, without importing them.

    Args:
        names: Import names; without any, ``paddle`` and ``cv2``, which almost everything needs.

    Raises:
        MissingPackageError: If one is not.
    """
    for name in names or ("paddle", "cv2"):
        if find_spec(name) is None:
            raise MissingPackageError(_message(name))


def missing_package(error: ModuleNotFoundError) -> ModuleNotFoundError | MissingPackageError:
    """The error to raise in place of Python's own: with the cure, for a package in the table, else itself."""
    name = (error.name or "").partition(".")[0]
    return MissingPackageError(_message(name)) if name in _CURES else error


def _message(name: str) -> str:
    title, cure = _CURES[name]
    return f"{title} is not installed ({name}); {cure}"
