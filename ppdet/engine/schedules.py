"""Learning rates by step, in the vocabulary of 2.x.

A schedule is a warm-up and a decay, each a factor on the base rate. During the warm-up only its factor
counts, so a milestone inside the warm-up takes effect when the warm-up is over.
Steps are optimiser steps; an epoch has `steps_per_epoch` of them.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Optional, Union

from paddle.optimizer.lr import LRScheduler

from ppdet.config.ranges import Fraction, NonNegative, NonNegativeInt, Positive, PositiveInt
from ppdet.config.spec import Spec
from ppdet.utils.errors import UserError


class ScheduleError(UserError, ValueError):
    """A learning-rate schedule or an optimiser whose settings make no sense.

    A ValueError too, so that `Spec.build` adds the line of the YAML.
    """


class Schedule:
    """A part of a learning-rate schedule: a warm-up or a decay."""


class Warmup(Schedule, ABC):
    """How the rate grows at the start.

    Args:
        steps: Length in optimiser steps.
        epochs: Length in epochs; None takes `steps`.
    """

    def __init__(self, *, steps: int, epochs: Optional[int]) -> None:
        if steps < 0 or (epochs is not None and epochs < 0):
            raise ScheduleError(f"{type(self).__name__}: steps {steps}, epochs {epochs}: use 0 or more")
        self._steps = steps
        self._epochs = epochs

    def length(self, steps_per_epoch: int) -> int:
        """Steps that it lasts, at least 1."""
        return max(1, self._steps if self._epochs is None else self._epochs * steps_per_epoch)

    def fitting(self, steps: int) -> str:
        """Arguments of a warm-up that a training of so many steps has room for."""
        instead = "" if self._epochs is None else " with epochs: null"  # which would win over steps
        return f"{type(self).__name__}.steps: {max(1, steps // 10)}{instead}"

    @abstractmethod
    def factor(self, progress: float) -> float:
        """Factor on the base rate at `progress` in [0, 1)."""


class LinearWarmup(Warmup):
    """From ``start_factor`` to 1 in a straight line (Goyal et al., arXiv:1706.02677, 2.2).

    Args:
        steps: Length in steps.
        start_factor: Factor at step 0.
        epochs: Length in epochs; wins over `steps` unless `epochs_first` is false.
        epochs_first: Whether `epochs` wins.
    """

    def __init__(
        self,
        *,
        steps: NonNegativeInt = 500,
        start_factor: Fraction = 1.0 / 3,
        epochs: Optional[NonNegativeInt] = None,
        epochs_first: bool = True,
    ) -> None:
        super().__init__(steps=steps, epochs=epochs if epochs_first else None)
        self._start_factor = start_factor

    def factor(self, progress: float) -> float:
        """Factor on the base rate at `progress` in [0, 1)."""
        return self._start_factor * (1 - progress) + progress


class ExpWarmup(Warmup):
    """``progress ** power``.

    Args:
        steps: Length in steps.
        epochs: Length in epochs; wins over `steps`.
        power: The exponent.
    """

    def __init__(
        self, *, steps: NonNegativeInt = 1000, epochs: Optional[NonNegativeInt] = None, power: Positive = 2.0
    ) -> None:
        super().__init__(steps=steps, epochs=epochs)
        self._power = power

    def factor(self, progress: float) -> float:
        """Factor on the base rate at `progress` in [0, 1)."""
        return progress**self._power


class BurninWarmup(ExpWarmup):
    """Darknet's: the fourth power.

    Args:
        steps: Length in steps.
    """

    def __init__(self, *, steps: NonNegativeInt = 1000) -> None:
        super().__init__(steps=steps, power=4.0)


class Decay(Schedule, ABC):
    """How the rate falls after the warm-up.

    Args:
        use_warmup: Let a warm-up of the same schedule take part.
    """

    def __init__(self, *, use_warmup: bool = True) -> None:
        self.use_warmup = use_warmup

    @abstractmethod
    def rate(self, base_lr: float, step: int, steps_per_epoch: int, warmup_steps: int) -> float:
        """Rate at a step, after the warm-up."""

    def misfits(self, epochs: int) -> list[str]:
        """What of the decay a training of so many epochs does not reach, with values that would fit."""
        del epochs
        return []


class PiecewiseDecay(Decay):
    """Constant between milestones.

    Args:
        gamma: One number: the rate is multiplied by it at every milestone. A list: factor on the base rate
            from each milestone on. (2.x divides by 10 after the first milestone whatever one number says;
            write the list to have that.)
        milestones: Epochs after which the rate changes.
        values: Rates themselves, one more than milestones; wins over `gamma`.
        use_warmup: Let a warm-up take part.
    """

    def __init__(
        self,
        *,
        gamma: Union[Positive, list[Positive]] = 0.1,
        milestones: Sequence[NonNegativeInt] = (8, 11),
        values: Optional[list[NonNegative]] = None,
        use_warmup: bool = True,
    ) -> None:
        super().__init__(use_warmup=use_warmup)
        count = len(milestones)
        if list(milestones) != sorted(set(milestones)):
            raise ScheduleError(f"PiecewiseDecay.milestones must rise: {list(milestones)}")
        if values is not None and len(values) != count + 1:
            raise ScheduleError(f"PiecewiseDecay: {len(values)} values for {count} milestones; use one more")
        factors = gamma if isinstance(gamma, list) else [gamma ** (i + 1) for i in range(count)]
        if len(factors) != count:
            raise ScheduleError(f"PiecewiseDecay: {len(factors)} gammas for {count} milestones")
        self._milestones = list(milestones)
        self._factors = [1.0, *factors]
        self._is_listed = isinstance(gamma, list)
        self._values = values

    def rate(self, base_lr: float, step: int, steps_per_epoch: int, warmup_steps: int) -> float:
        """Rate at a step, after the warm-up."""
        passed = sum(step >= milestone * steps_per_epoch for milestone in self._milestones)
        if self._values is not None:
            return self._values[passed]
        return base_lr * self._factors[passed]

    def misfits(self, epochs: int) -> list[str]:
        """Milestones behind the end of a training."""
        behind = [milestone for milestone in self._milestones if milestone >= epochs]
        if not behind:
            return []
        last = self._milestones[-1]
        # At the same shares of the training, of which the last milestone leaves a twelfth.
        shares = (round(milestone / last * epochs * 11 / 12) for milestone in self._milestones)
        fitting = sorted({min(share, epochs - 1) for share in shares} - {0})
        return [
            f"the rate never falls at epoch {', '.join(map(str, behind))}: the training has {epochs} epochs; "
            f"PiecewiseDecay.milestones: {fitting}{self._for_fewer(len(fitting))} fits"
        ]

    def _for_fewer(self, count: int) -> str:
        """The list of rates or factors that goes with fewer milestones; "" if the one there is does."""
        if count == len(self._milestones):
            return ""
        if self._values is not None:
            return f" with values: {self._values[: count + 1]}"
        return f" with gamma: {self._factors[1 : count + 1]}" if self._is_listed else ""


class CosineDecay(Decay):
    """Half a cosine from the end of the warm-up (Loshchilov and Hutter, arXiv:1608.03983, eq. 5).

    Args:
        max_epochs: Epochs until the lowest rate.
        use_warmup: Let a warm-up take part.
        min_lr_ratio: Lowest rate as a share of the base rate.
        last_plateau_epochs: Epochs at the end, within `max_epochs`, that stay at the lowest rate.
    """

    def __init__(
        self,
        *,
        max_epochs: PositiveInt = 1000,
        use_warmup: bool = True,
        min_lr_ratio: Fraction = 0.0,
        last_plateau_epochs: NonNegativeInt = 0,
    ) -> None:
        super().__init__(use_warmup=use_warmup)
        if not 0 <= last_plateau_epochs < max_epochs:
            raise ScheduleError(
                f"CosineDecay: last_plateau_epochs {last_plateau_epochs} outside max_epochs {max_epochs}"
            )
        self._max_epochs = max_epochs
        self._min_lr_ratio = min_lr_ratio
        self._last_plateau_epochs = last_plateau_epochs

    def rate(self, base_lr: float, step: int, steps_per_epoch: int, warmup_steps: int) -> float:
        """Rate at a step, after the warm-up."""
        lowest = base_lr * self._min_lr_ratio
        length = (self._max_epochs - self._last_plateau_epochs) * steps_per_epoch - warmup_steps
        passed = step - warmup_steps
        if passed >= length:
            return lowest
        return lowest + (base_lr - lowest) * 0.5 * (math.cos(math.pi * passed / length) + 1)

    def misfits(self, epochs: int) -> list[str]:
        """A cosine that a training leaves before its middle; some recipes leave it shortly before its end."""
        if self._max_epochs <= 2 * epochs:
            return []
        return [
            f"the rate falls over {self._max_epochs} epochs, the training has {epochs}; "
            f"CosineDecay.max_epochs: {epochs} fits"
        ]


class LearningRateSchedule(LRScheduler):
    """The rate of every step; what an optimiser takes. ``last_epoch`` counts optimiser steps, as in Paddle.

    Args:
        base_lr: Rate that the factors apply to, after scaling to the total batch.
        decay: How it falls; None keeps it.
        warmup: How it starts; None for at once.
        steps_per_epoch: Optimiser steps in an epoch.
        scale: Factor of the total batch, applied to every rate.
    """

    def __init__(
        self,
        base_lr: Positive,
        *,
        decay: Optional[Decay],
        warmup: Optional[Warmup],
        steps_per_epoch: int,
        scale: float = 1.0,
    ) -> None:
        self._decay = decay
        self._warmup = warmup if decay is None or decay.use_warmup else None
        self._steps_per_epoch = steps_per_epoch
        self._warmup_steps = 0 if self._warmup is None else self._warmup.length(steps_per_epoch)
        self._scale = scale
        super().__init__(learning_rate=base_lr)

    def rate_at(self, step: int) -> float:
        """Rate of optimiser step `step`, counted from 0."""
        if self._warmup is not None and step < self._warmup_steps:
            start = self._decayed(0) if self._is_absolute else float(self.base_lr)
            return self._scale * start * self._warmup.factor(step / self._warmup_steps)
        return self._scale * self._decayed(step)

    def misfits(self, steps: int) -> list[str]:
        """What of the schedule a training of so many steps does not reach, with values that would fit."""
        found = []
        epochs = max(1, math.ceil(steps / self._steps_per_epoch))
        if self._warmup is not None and self._warmup_steps >= steps:
            reached = self._warmup.factor((steps - 1) / self._warmup_steps)
            found.append(
                f"the warm-up lasts {self._warmup_steps} steps, the training {steps}: the rate reaches "
                f"{reached:.0%} of its peak; {self._warmup.fitting(steps)} fits"
            )
        if self._decay is not None:
            found += self._decay.misfits(epochs)
        return found

    @property
    def _is_absolute(self) -> bool:
        return isinstance(self._decay, PiecewiseDecay) and self._decay._values is not None

    def _decayed(self, step: int) -> float:
        if self._decay is None:
            return float(self.base_lr)
        return self._decay.rate(float(self.base_lr), step, self._steps_per_epoch, self._warmup_steps)

    def get_lr(self) -> float:
        """Rate of the step that comes next."""
        return self.rate_at(int(self.last_epoch))


class LearningRate:
    """Base rate and schedule.

    Args:
        base_lr: Rate for the reference batch.
        schedulers: At most one decay and one warm-up, in any order.

    Raises:
        ScheduleError: If there are two of a kind.
    """

    def __init__(
        self,
        *,
        base_lr: Positive = 0.01,
        schedulers: Sequence[Spec[Schedule]] = (Spec.of(PiecewiseDecay), Spec.of(LinearWarmup)),
    ) -> None:
        self.base_lr = base_lr
        parts: list[Any] = [spec.build() for spec in schedulers]
        decays = [part for part in parts if isinstance(part, Decay)]
        warmups = [part for part in parts if isinstance(part, Warmup)]
        if len(decays) > 1 or len(warmups) > 1 or len(decays) + len(warmups) != len(parts):
            names = ", ".join(type(part).__name__ for part in parts)
            raise ScheduleError(f"LearningRate.schedulers: one decay and one warm-up at most, not {names}")
        self._decay = decays[0] if decays else None
        self._warmup = warmups[0] if warmups else None

    def build(self, steps_per_epoch: int, *, scale: float = 1.0) -> LearningRateSchedule:
        """The schedule of a run.

        Args:
            steps_per_epoch: Optimiser steps in an epoch.
            scale: `batch_scale` of the run.
        """
        return LearningRateSchedule(
            self.base_lr,
            decay=self._decay,
            warmup=self._warmup,
            steps_per_epoch=steps_per_epoch,
            scale=scale,
        )


def batch_scale(total_batch: int, reference: Optional[int]) -> float:
    """Factor on the learning rate for a batch that is not the one it was chosen for.

    Linear in the batch (Goyal et al., arXiv:1706.02677, 2.1).

    Args:
        total_batch: Images per optimiser step: devices x batch size x accumulated batches.
        reference: Total batch that the configuration's rate is for; None leaves the rate alone.
    """
    if reference is None:
        return 1.0
    if reference < 1 or total_batch < 1:
        raise ScheduleError(
            f"reference_batch_size {reference} and total batch {total_batch} must be 1 or more"
        )
    return total_batch / reference
