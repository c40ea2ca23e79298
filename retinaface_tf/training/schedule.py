"""The learning rate: a linear rise, then steps or half a cosine."""

import dataclasses

import keras
from keras import ops

from retinaface_tf.training.config import ScheduleConfig
from retinaface_tf.util.options import from_dict


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
            config = from_dict(ScheduleConfig, config)
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
        return {
            "config": dataclasses.asdict(self.config),
            "steps_per_epoch": self.steps_per_epoch,
            "epochs": self.epochs,
        }
