"""The learning rate: a linear rise, then steps or half a cosine."""

from __future__ import annotations

from dataclasses import dataclass

import keras
from keras import ops

from retinaface_tf.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """The learning rate over the epochs; the defaults are the papers' (1905.00641, section 4.2).

    Attributes:
        kind: "steps" or "cosine".
        peak: rate after the warm-up.
        warmup_start: rate of the first step.
        warmup_epochs: length of the linear rise, may be a fraction; 0 for none.
        milestones: epochs after which "steps" multiplies the rate by `factor`.
        factor: see `milestones`.
        final: rate at the end of "cosine".
    """

    kind: str = "steps"
    peak: float = 1e-2
    warmup_start: float = 1e-3
    warmup_epochs: float = 5.0
    milestones: tuple[float, ...] = (55, 68)
    factor: float = 0.1
    final: float = 0.0

    def __post_init__(self):
        object.__setattr__(self, "milestones", tuple(float(m) for m in self.milestones))
        if self.kind not in ("steps", "cosine"):
            raise ConfigError(f"schedule.kind={self.kind!r} must be 'steps' or 'cosine'.")
        if self.peak <= 0 or self.warmup_start < 0 or self.warmup_epochs < 0:
            raise ConfigError("schedule.peak must be positive, the warm-up's numbers not negative.")


@keras.saving.register_keras_serializable(package="retinaface_tf")
class DetectorSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """`ScheduleConfig` as a function of the optimiser's step.

    Args:
        config: the schedule, or its members as a dict.
        steps_per_epoch: global batches in an epoch.
        epochs: length of the whole training, where "cosine" ends.
    """

    def __init__(self, config: ScheduleConfig | dict, steps_per_epoch: int, epochs: int):
        super().__init__()
        if isinstance(config, dict):
            config = ScheduleConfig(**config)
        self.config = config
        self.steps_per_epoch = steps_per_epoch
        self.epochs = epochs

    def __call__(self, step):
        config, length = self.config, float(self.steps_per_epoch)
        step = ops.cast(step, "float32")
        warmup = config.warmup_epochs * length
        if config.kind == "cosine":
            span = max(self.epochs * length - warmup, 1.0)
            done = ops.clip((step - warmup) / span, 0.0, 1.0)
            half = 0.5 * (1 + ops.cos(3.141592653589793 * done))
            rate = config.final + (config.peak - config.final) * half
        else:
            passed = sum(ops.cast(step >= m * length, "float32") for m in config.milestones)
            rate = config.peak * ops.power(config.factor, passed + ops.zeros_like(step))
        if not warmup:
            return rate
        rise = config.warmup_start + (config.peak - config.warmup_start) * step / warmup
        return ops.where(step < warmup, rise, rate)

    def get_config(self):
        import dataclasses

        return {
            "config": dataclasses.asdict(self.config),
            "steps_per_epoch": self.steps_per_epoch,
            "epochs": self.epochs,
        }
