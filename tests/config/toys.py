"""Small components that use every kind of argument, and a configuration writer."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent
from typing import Any, Literal, Optional, Union

from ppdet.config import ArgumentError, Common, Derived, Shared, Spec, register
from ppdet.config.components import COMPONENTS
from ppdet.experiment.config import Experiment, load_config
from ppdet.modeling.interfaces import Backbone, Detector


@register
class ToyStep:
    def __init__(self, *, size: int = 1) -> None:
        self.size = size


@register
class ToyFlip(ToyStep):
    def __init__(self, *, prob: float = 0.5) -> None:
        self.prob = prob


@register
class ToyBackbone(Backbone):
    def __init__(
        self, *, depth: int = 50, norm_type: Common[str] = "bn", widths: tuple[int, ...] = (1, 2)
    ) -> None:
        super().__init__()
        if depth < 1:
            raise ArgumentError("depth", f"expected >= 1, got {depth}")
        self.depth = depth
        self.norm_type = norm_type
        self.widths = widths


@register
class ToyAssigner:
    def __init__(self, *, fg_thresh: float = 0.5, bg_thresh: float = 0.5) -> None:
        self.fg_thresh = fg_thresh
        self.bg_thresh = bg_thresh


@register
class ToyHead:
    def __init__(
        self,
        *,
        in_channel: Derived[int],
        num_classes: Shared[int],
        assigner: Spec[ToyAssigner] = Spec.of(ToyAssigner, bg_thresh=0.25),  # noqa: B008
        weights: Optional[list[float]] = None,
    ) -> None:
        self.in_channel = in_channel
        self.num_classes = num_classes
        self.assigner = assigner.build()
        self.weights = weights


@register
class ToyLoop(ToyHead):
    def __init__(self, *, child: Spec[ToyHead]) -> None:
        self.child = child.build()


@register
class Toy(Detector):
    def __init__(
        self,
        *,
        backbone: Spec[Backbone],
        head: Spec[ToyHead] = Spec.of(ToyHead),  # noqa: B008
        second: Optional[Spec[ToyHead]] = None,
        steps: Optional[list[Spec[ToyStep]]] = None,
        number: float = 0.0,
        word: str = "",
        flag: bool = False,
        mode: Literal["fast", "slow", 1] = "fast",
        either: Union[int, list[int]] = 0,
        pair: tuple[int, float] = (1, 2.0),
        table: Optional[dict[str, int]] = None,
        free: Any = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone.build()
        self.head = head.build(in_channel=8)
        self.second = second.build(in_channel=8) if second is not None else None
        self.steps = [step.build() for step in steps or []]
        self.rest = (number, word, flag, mode, either, pair, table, free)


HEAD = """
architecture: Toy
num_classes: 4
Toy:
  backbone: ToyBackbone
"""


def write(folder: Path, text: str, name: str = "x.yml") -> Path:
    """A file with `text`, less its common indent."""
    path = folder / name
    path.write_text(dedent(text), "utf-8")
    return path


def without_absent() -> list[str]:
    """Overrides that leave out the top-level components which are not in the table (yet)."""
    return [f"{key}=" for key in ("LearningRate", "OptimizerBuilder") if key not in COMPONENTS]


def load(folder: Path, text: str, *overrides: str) -> Experiment:
    """The experiment of `HEAD` and `text`; `text` begins in line 1, and its keys come after the head's."""
    write(folder, HEAD, "head.yml")
    return load_config(write(folder, "_BASE_: head.yml\n" + dedent(text)), overrides)


def toy(folder: Path, text: str, *overrides: str) -> dict[str, Any]:
    """Arguments of the detector that `text` under ``Toy:`` describes."""
    return dict(load(folder, text, *overrides).architecture.arguments)
