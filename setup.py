"""Package metadata. `make install` (tools/install.py) adds PaddlePaddle and OpenCV where they are missing."""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent
VERSION = re.search(r'__version__ = "(.+?)"', (HERE / "ppdet" / "__init__.py").read_text("utf-8")).group(1)
#: 2.1.0, the newest, has no build for Python 3.13; without it there is Paddle Inference.
PADDLE2ONNX = "paddle2onnx>=2.0; python_version < '3.13'"
OPENVINO = ["openvino>=2024.4", "nncf>=2.14"]
SERVE = ["starlette>=0.46", "uvicorn>=0.30", "python-multipart>=0.0.18", "prometheus-client>=0.20"]
#: The last version under the MIT licence; its successor is under the AGPL.
ALBUMENTATIONS = "albumentations>=2.0,<2.1"
HUB = ["huggingface_hub>=0.30"]
#: The documentation site. MkDocs 2 drops plugins and hooks.
DOCS = ["mkdocs>=1.6,<2", "mkdocs-material>=9.5,<10", "mkdocstrings[python]>=0.26"]


def since_3_10(*requirements: str) -> list[str]:
    """Tools of developers that no current release supports on Python 3.9, where pip searches for minutes."""
    return [f"{requirement}; python_version >= '3.10'" for requirement in requirements]


setup(
    name="ppdet",
    version=VERSION,
    description="Config-driven object-detection training on PaddlePaddle",
    long_description=(HERE / "README.md").read_text("utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.9",
    packages=[*find_packages(include=["ppdet", "ppdet.*"]), "ppdet.configs"],
    # The configurations stay at the top level of the checkout and travel inside of the wheel.
    package_dir={"ppdet.configs": "configs"},
    package_data={
        "ppdet": ["py.typed"],
        "ppdet.zoo": ["*.yml"],
        "ppdet.export": ["*.yml"],
        "ppdet.report": ["templates/*.j2", "assets/*"],
        "ppdet.serve": ["assets/*"],
        "ppdet.configs": ["**/*.yml"],
    },
    # PaddlePaddle (paddlepaddle or paddlepaddle-gpu) and OpenCV (four builds) come in several distributions
    # that overwrite each other. pip cannot say "any of these", so neither is required by name: naming the CPU
    # build here would put it on top of a user's GPU build. The extra `cpu` is the choice for a plain machine.
    install_requires=[
        "numpy>=1.26",
        "pillow>=9.1",
        "pycocotools>=2.0.7",
        "pyyaml>=6.0",
        "scipy>=1.7",
        "tqdm>=4.60",
    ],
    extras_require={
        "cpu": ["paddlepaddle>=3.2", "opencv-python-headless>=4.5"],
        "export": ["onnx>=1.15", "onnxruntime>=1.17", PADDLE2ONNX],
        "openvino": OPENVINO,
        "fast": ["hotcoco>=1.0"],
        "albumentations": [ALBUMENTATIONS],
        "docs": DOCS,
        "logging": ["visualdl>=2.5", "tensorboardX>=2.6"],
        "report": ["jinja2>=3.1", "rich>=13"],
        "serve": SERVE,
        "hub": HUB,
        "wandb": ["wandb>=0.16"],
        "mlflow": ["mlflow-skinny>=2.10", "pillow>=9"],
        "clearml": ["clearml>=1.14"],
        "dev": [
            # Formatters and checkers are pinned, since `make test` fails on any difference of opinion.
            "ruff==0.17.6",
            "mypy==2.4.1; python_version >= '3.10'",
            "mypy; python_version < '3.10'",
            "hotcoco>=1.0",
            ALBUMENTATIONS,
            "tensorboardX>=2.6",
            # As the extra `report`, and what drives a browser for its tests.
            "jinja2>=3.1",
            "rich>=13",
            *since_3_10("selenium>=4.20"),
            # As the extra `serve`, and what tries its interface with requests of all kinds.
            *SERVE,
            *since_3_10("schemathesis>=4"),
            # As the extra `hub`; its server is a stand-in on the same machine.
            *HUB,
            # What detections are converted to; older releases bring an OpenCV of their own.
            *since_3_10("supervision>=0.31"),
            # As the extra `export`, whose tests must not be skipped where everything is tested.
            "onnx>=1.15",
            "onnxruntime>=1.17",
            PADDLE2ONNX,
            # As the extra `openvino`. On 3.13 no ONNX can be made for it, and NNCF would hold NumPy back.
            *(f"{name}; python_version >= '3.10' and python_version < '3.13'" for name in OPENVINO),
            # The site is built and the tutorial is executed.
            *since_3_10(*DOCS, "ipykernel>=6.20", "matplotlib>=3.7", "nbclient>=0.8", "nbformat>=5.7"),
            "types-PyYAML",
            "types-tqdm",
            "pytest>=7.4",
            "pytest-xdist>=3.3",
            "hypothesis>=6.80",
            "vermin>=1.6",
        ],
    },
    entry_points={"console_scripts": ["ppdet=ppdet.cli:main"]},
    classifiers=[
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.9",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
)
