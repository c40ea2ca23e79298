"""One training step, the same under Keras `fit` and in the loop over several workers."""

from __future__ import annotations

import re

import keras
import numpy as np
import tensorflow as tf

from retinaface_tf.data.targets import MatchConfig, encode_targets
from retinaface_tf.errors import ConfigError
from retinaface_tf.geometry.boxes import corners_to_center
from retinaface_tf.geometry.coding import decode_boxes
from retinaface_tf.losses.multitask import (
    FIRST_STAGE_TERMS,
    TERMS,
    LossConfig,
    LossSums,
    multitask_sums,
)
from retinaface_tf.models import RetinaFaceNetwork
from retinaface_tf.training.config import OptimizerConfig
from retinaface_tf.training.schedule import DetectorSchedule

PARTS = ("backbone", "pyramid", "context", "heads")


def part_of(layer: str) -> str | None:
    """Which of `PARTS` a layer of that name belongs to; None for layers without weights' names."""
    if re.match(r"(stem|block\d|stage\d)", layer):
        return "backbone"
    layer = layer.removeprefix("first_")
    if re.match(r"p\d+_context", layer):
        return "context"
    if re.match(r"(head|p\d+)_(class|box|landmark)$", layer):
        return "heads"
    return "pyramid" if re.match(r"p\d+_", layer) else None


def freeze(network: RetinaFaceNetwork, chosen: tuple[str, ...]) -> int:
    """Stops layers from learning; their batch norm then uses its stored statistics.

    Args:
        network: changed in place.
        chosen: parts of `PARTS`, or beginnings of layers' names.

    Returns:
        Number of layers with weights that were frozen.

    Raises:
        ConfigError: something chosen matches no layer.
    """
    frozen = 0
    for name in chosen:
        found = [
            layer
            for layer in network.layers
            if layer.weights and (part_of(layer.name) == name or layer.name.startswith(name))
        ]
        if not found:
            raise ConfigError(
                f"init.freeze has {name!r}, which is neither one of {', '.join(PARTS)} nor the "
                "beginning of a layer's name."
            )
        for layer in found:
            layer.trainable = False
        frozen += len(found)
    return frozen


def make_optimizer(config: OptimizerConfig, schedule: DetectorSchedule, replicas: int):
    """SGD as configured; weight decay is part of the loss, see `DetectorTraining`."""
    optimizer = keras.optimizers.SGD(
        learning_rate=schedule,
        momentum=config.momentum,
        # The step hands over a replica's share of the summed gradient: see `_share`.
        global_clipnorm=config.clip_norm / replicas if config.clip_norm else None,
        use_ema=config.ema is not None,
        ema_momentum=config.ema or 0.99,
    )
    # Keras' fit would put the average in the weights' place whenever it ends, here each epoch; the
    # trainer does so for evaluation and saving only.
    optimizer.finalize_variable_values = lambda variables: None
    if keras.config.dtype_policy().name != "mixed_float16":
        return optimizer
    scaled = keras.optimizers.LossScaleOptimizer(optimizer)
    scaled.finalize_variable_values = lambda variables: None
    return scaled


class DetectorTraining(keras.Model):
    """The network with its loss and its step.

    Every term is divided by the positives of the whole global batch. Each replica's gradient is
    that of its own pictures; Keras' optimiser adds them up, which gives the global gradient.

    Args:
        network: what learns.
        anchors: float32 [A, 4] cx, cy, w, h of the input's size.
        loss: terms and weights.
        optimizer_config: weight decay and clipping.
        match: thresholds of the cascade's second stage.
    """

    def __init__(
        self,
        network: RetinaFaceNetwork,
        anchors: np.ndarray,
        loss: LossConfig,
        optimizer_config: OptimizerConfig,
        match: MatchConfig | None = None,
    ):
        super().__init__(name="training")
        self.network = network
        self._anchors = np.array(anchors)
        self._loss = loss
        self._optimizer_config = optimizer_config
        self._match = match or MatchConfig()
        self._variances = (network.config.center_variance, network.config.size_variance)
        self.built = True

    def call(self, batch, training=False):
        """A batch of the pipeline -> the network's outputs."""
        return self.network(batch["image"], training=training)

    def train_step(self, batch):
        """Learns from one batch.

        Args:
            batch: this replica's part, as `TrainingPipeline` makes it.

        Returns:
            Scalars of the global batch, equal on every replica: "loss", a term each of `TERMS`
            (weighted; with a cascade those of its second stage, and "first_class" and "first_box"
            of its first), "positives" a picture; and "bad_images" int64 [global batch], -1 or, for a
            picture whose loss is not finite, 8 * image_id + a bit for each term of `TERMS`.
        """
        context = tf.distribute.get_replica_context()
        replicas = context.num_replicas_in_sync
        term_weights = [1.0, self._loss.box_weight, self._loss.landmark_weight]
        with tf.GradientTape() as tape:
            outputs = self.network(batch["image"], training=True)
            stages = self._stages(outputs, batch)
            # [stages]; the last stage's is the one that is told.
            positives = context.all_reduce(
                tf.distribute.ReduceOp.SUM,
                tf.stack([tf.reduce_sum(sums.positives) for sums in stages]),
            )
            # [B, stages, terms]
            per_image = tf.stack([tf.stack(sums[:3], axis=1) for sums in stages], axis=1)
            per_image *= tf.constant(term_weights, positives.dtype)
            per_image = per_image / tf.maximum(positives, 1.0)[:, None]
            terms = tf.reduce_sum(per_image, axis=0)
            total = tf.reduce_sum(terms) + self._decay() / replicas
            scaled = self.optimizer.scale_loss(total)
        variables = self.network.trainable_variables
        gradients = tape.gradient(scaled, [v.value for v in variables])
        self.optimizer.apply(self._share(context, replicas, gradients), variables)

        finite = tf.reduce_all(tf.math.is_finite(per_image), axis=1)
        bad = tf.cast(tf.logical_not(finite), tf.int64)
        bits = tf.reduce_sum(bad * tf.constant([1, 2, 4], tf.int64), axis=1)
        bad_images = tf.where(bits > 0, 8 * tf.cast(batch["image_id"], tf.int64) + bits, -1)
        images = tf.cast(tf.shape(per_image)[0], terms.dtype)
        summed = context.all_reduce(
            tf.distribute.ReduceOp.SUM, tf.concat([tf.reshape(terms, [-1]), images[None]], axis=0)
        )
        named = dict(zip(TERMS, tf.unstack(summed[-4:-1])))
        if len(stages) > 1:
            named |= dict(zip(FIRST_STAGE_TERMS, tf.unstack(summed[:2])))
        return {
            "loss": tf.reduce_sum(summed[:-1]),
            **named,
            "positives": positives[-1] / summed[-1],
            "bad_images": context.all_gather(bad_images, axis=0) if replicas > 1 else bad_images,
        }

    def _stages(self, outputs, batch) -> list[LossSums]:
        """The losses of the only stage, or of the cascade's two."""
        rest = (self._anchors, self._loss, self._variances)
        if not self.network.config.cascade:
            return [multitask_sums(outputs, batch, *rest)]
        # The first stage has no landmarks: what it is said to predict is what it should.
        first = {
            "class_logits": outputs["first_class_logits"],
            "box_deltas": outputs["first_box_deltas"],
            "landmark_deltas": batch["landmark_deltas"],
        }
        targets = self._refined_targets(outputs["first_box_deltas"], batch)
        return [multitask_sums(first, batch, *rest), multitask_sums(outputs, targets, *rest)]

    def _refined_targets(self, first_box_deltas, batch) -> dict[str, tf.Tensor]:
        """Targets of the second stage, by the boxes the first one makes of the anchors now."""
        codes = tf.cast(tf.stop_gradient(first_box_deltas), tf.float32)
        codes = tf.ensure_shape(codes, [None, len(self._anchors), 4])
        # A wild code is a wild box, not infinity: it overlaps no face then.
        codes = tf.clip_by_value(codes, -40.0, 40.0)
        refined = corners_to_center(decode_boxes(codes, self._anchors, *self._variances))
        kind = {name: tf.float32 for name in ("box_deltas", "landmark_deltas", "landmark_mask")}

        def encode(picture):
            boxes, landmarks, ignored, anchors = picture
            config = self.network.config
            return encode_targets(
                boxes, landmarks, ignored, self._anchors, config, self._match, anchors
            )

        return tf.map_fn(
            encode,
            (batch["boxes"], batch["landmarks"], batch["ignored"], refined),
            fn_output_signature={"labels": tf.int32, **kind},
        )

    def _decay(self):
        """0.5 * weight decay * |kernels|^2: in the loss, so that loss scaling covers it too."""
        kernels = [
            tf.nn.l2_loss(v.value) for v in self.network.trainable_variables if v.name == "kernel"
        ]
        return self._optimizer_config.weight_decay * tf.add_n(kernels)

    def _share(self, context, replicas: int, gradients):
        """Gradients for an optimiser that clips each replica's before it sums them.

        The norm to limit is that of the sum, so the sum is taken here, and each replica hands over
        an equal share of it; its limit is a share too.
        """
        if replicas == 1 or not self._optimizer_config.clip_norm:
            return gradients
        summed = context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
        return [gradient / replicas for gradient in summed]


def set_synchronized_batch_norm(network: RetinaFaceNetwork) -> None:
    """Lets batch norm use the statistics of the global batch instead of each replica's."""
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True
