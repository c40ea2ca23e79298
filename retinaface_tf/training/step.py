"""One training step, the same under Keras `fit` and in the loop over several workers."""

from __future__ import annotations

import functools

import keras
import numpy as np
import tensorflow as tf

from retinaface_tf.data.targets import MatchConfig, encode_targets
from retinaface_tf.errors import ConfigError
from retinaface_tf.geometry.box_coding import decode_boxes
from retinaface_tf.geometry.boxes import corners_to_center
from retinaface_tf.losses.distillation import DISTILLATION_TERMS, Distillation, shrink
from retinaface_tf.losses.multitask import FIRST_STAGE_TERMS, TERMS, LossConfig, multitask_sums
from retinaface_tf.models import RetinaFaceNetwork
from retinaface_tf.training.config import OptimizerConfig
from retinaface_tf.training.dense_terms import dense_terms
from retinaface_tf.training.schedule import DetectorSchedule


def make_optimizer(config: OptimizerConfig, schedule: DetectorSchedule, replicas: int):
    """SGD or Adam as configured; weight decay is part of the loss, see `DetectorTraining`.

    The moving average of the weights is `MovingAverage`, not Keras' own.
    """
    # The step hands over a replica's share of the summed gradient: see `_share`.
    limit = config.clip_norm / replicas if config.clip_norm else None
    if config.kind == "adam":
        optimizer = keras.optimizers.Adam(learning_rate=schedule, global_clipnorm=limit)
    else:
        optimizer = keras.optimizers.SGD(
            learning_rate=schedule, momentum=config.momentum, global_clipnorm=limit
        )
    if keras.config.dtype_policy().name != "mixed_float16":
        return optimizer
    return keras.optimizers.LossScaleOptimizer(optimizer)


class DetectorTraining(keras.Model):
    """The network with its loss and its step.

    Every term is divided by the positives of the whole global batch. Each replica's gradient is
    that of its own images; Keras' optimiser adds them up, which gives the global gradient.

    Attributes:
        terms: names of the loss terms, in the order of `bad_images`' bits: with a cascade its first
            stage's, then `TERMS`, then those of `DENSE_TERMS` that have a weight, then with a teacher
            `DISTILLATION_TERMS`.

    Args:
        network: what learns; a dense head that no term teaches is frozen.
        anchors: float32 [A, 4] cx, cy, w, h of the input's size.
        loss: terms and weights.
        optimizer_config: weight decay and clipping.
        match: thresholds of the cascade's second stage, or of dynamic matching.
        imitation: the teacher to imitate; images then come enlarged.

    Raises:
        ConfigError: parts of the configuration do not go together.
    """

    def __init__(
        self,
        network: RetinaFaceNetwork,
        anchors: np.ndarray,
        loss: LossConfig,
        optimizer_config: OptimizerConfig,
        match: MatchConfig | None = None,
        imitation: Distillation | None = None,
    ):
        super().__init__(name="training")
        self.network = network
        self._anchors = np.array(anchors)
        self._loss = loss
        self._optimizer_config = optimizer_config
        self._match = match or MatchConfig()
        if self._match.dynamic and network.config.cascade:
            raise ConfigError("match.dynamic is for networks without cascade, which has its own.")
        self._variances = (network.config.center_variance, network.config.size_variance)
        self._dense_terms = dense_terms(network, anchors, loss)
        inner = network.with_features() if self._dense_terms else network
        # Not as an attribute that Keras would take for more layers.
        self._forward = functools.partial(inner, training=True)
        self._imitation = imitation
        if imitation is not None:
            imitation.check(network.config)
        labelled = ()
        if loss.labels_teach:
            labelled = (*(FIRST_STAGE_TERMS if network.config.cascade else ()), *TERMS)
        elif imitation is None or self._dense_terms:
            raise ConfigError(
                "loss.class_weight, box_weight and landmark_weight may be 0 together only where a "
                "teacher is imitated instead (imitation.source), and without dense terms."
            )
        imitated = () if imitation is None else DISTILLATION_TERMS
        self.terms = (*labelled, *self._dense_terms, *imitated)
        # Which of the counts of `_sums` a term is divided by, and which is told as "positives".
        stages = (1 + network.config.cascade) * loss.labels_teach
        self._counted = max(stages - 1, 0)
        self._divisors = [
            *(0 if name in FIRST_STAGE_TERMS else self._counted for name in labelled),
            *(self._counted for _ in self._dense_terms),
            *(stages for _ in imitated),
        ]
        if network.dense_head is not None and "mesh" not in self.terms:
            network.dense_head.trainable = False
        self.built = True

    @property
    def parts(self) -> list[keras.layers.Layer]:
        """Everything with weights: the network, and what only training has beside it."""
        branches = [term.branch for term in self._dense_terms.values() if term.branch is not None]
        return [self.network, *branches]

    @property
    def learned(self) -> list[keras.Variable]:
        """The variables the optimiser changes."""
        return [variable for part in self.parts for variable in part.trainable_variables]

    def call(self, batch, training=False):
        """A batch of the pipeline -> the network's outputs."""
        return self.network(batch["image"], training=training)

    def train_step(self, batch):
        """Learns from one batch.

        Args:
            batch: this replica's part, as `TrainingPipeline` makes it.

        Returns:
            Scalars of the global batch, equal on every replica: "loss", a term each of `terms`
            (weighted), "positives" an image (the second stage's with a cascade; the sum of a teacher's
            scores where labels teach nothing); and "bad_images"
            int64 [global batch], -1 or, for an image whose loss is not finite, its image_id times
            2^len(terms) + a bit for each term.
        """
        context = tf.distribute.get_replica_context()
        replicas = context.num_replicas_in_sync
        with tf.GradientTape() as tape:
            sums, positives = self._sums(batch)
            positives = context.all_reduce(tf.distribute.ReduceOp.SUM, positives)
            # [B, terms]
            per_image = tf.stack([sums[name] for name in self.terms], axis=1)
            per_image = per_image / tf.gather(tf.maximum(positives, 1.0), self._divisors)
            terms = tf.reduce_sum(per_image, axis=0)
            total = tf.reduce_sum(terms) + self._decay() / replicas
            scaled = self.optimizer.scale_loss(total)
        variables = self.learned
        gradients = tape.gradient(scaled, [v.value for v in variables])
        self.optimizer.apply(self._share(context, replicas, gradients), variables)

        bad = tf.cast(tf.logical_not(tf.math.is_finite(per_image)), tf.int64)
        bits = tf.reduce_sum(bad * [1 << number for number in range(len(self.terms))], axis=1)
        codes = tf.cast(batch["image_id"], tf.int64) * 2 ** len(self.terms) + bits
        bad_images = tf.where(bits > 0, codes, -1)
        images = tf.cast(tf.shape(per_image)[0], terms.dtype)
        summed = context.all_reduce(
            tf.distribute.ReduceOp.SUM, tf.concat([terms, images[None]], axis=0)
        )
        return {
            "loss": tf.reduce_sum(summed[:-1]),
            **dict(zip(self.terms, tf.unstack(summed[:-1]))),
            "positives": positives[self._counted] / summed[-1],
            "bad_images": context.all_gather(bad_images, axis=0) if replicas > 1 else bad_images,
        }

    def _sums(self, batch) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        """Each term's weighted sum of each image [B], and the counts they are divided by.

        These are the positives of each stage and, with a teacher, the sum of its scores.
        """
        pictures = batch["image"]
        if self._imitation is not None:
            pictures = shrink(pictures)
            told = self._imitation.targets(batch["image"], pictures)
        outputs = self._forward(pictures)
        weights = (self._loss.class_weight, self._loss.box_weight, self._loss.landmark_weight)
        dense_weights = {"mesh": self._loss.mesh_weight, "pixel": self._loss.pixel_weight}
        sums, positives = {}, []
        stages = self._stages(outputs, batch) if self._loss.labels_teach else []
        for prefix, found, targets in stages:
            stage = multitask_sums(found, targets, self._anchors, self._loss, self._variances)
            sums |= {prefix + n: w * s for n, w, s in zip(TERMS, weights, stage)}
            positives.append(tf.reduce_sum(stage.positives))
        for name, term in self._dense_terms.items():
            values = tf.cast(term(batch, outputs, targets), positives[-1].dtype)
            sums[name] = dense_weights[name] * values
        if self._imitation is not None:
            imitated, scores = self._imitation.sums(outputs, told)
            sums |= imitated
            positives.append(tf.reduce_sum(scores))
        return sums, tf.stack(positives)

    def _stages(self, outputs, batch) -> list[tuple[str, dict, dict]]:
        """Prefix of the names, outputs and targets of the only stage, or of the cascade's two."""
        if self._match.dynamic:
            return [("", outputs, self._refined_targets(outputs["box_deltas"], batch))]
        if not self.network.config.cascade:
            return [("", outputs, batch)]
        # The first stage has no landmarks: what it is said to predict is what it should.
        first = {
            "class_logits": outputs["first_class_logits"],
            "box_deltas": outputs["first_box_deltas"],
            "landmark_deltas": batch["landmark_deltas"],
        }
        targets = self._refined_targets(outputs["first_box_deltas"], batch)
        return [("first_", first, batch), ("", outputs, targets)]

    def _refined_targets(self, box_deltas, batch) -> dict[str, tf.Tensor]:
        """Targets by the boxes that the network, or its first stage, makes of the anchors now."""
        deltas = tf.cast(tf.stop_gradient(box_deltas), tf.float32)
        deltas = tf.ensure_shape(deltas, [None, len(self._anchors), 4])
        # A wild delta is a wild box, not infinity: it overlaps no face then.
        deltas = tf.clip_by_value(
            deltas, *(np.float32([1e4, 1e4, 40, 40]) * sign for sign in (-1, 1))
        )
        refined = corners_to_center(decode_boxes(deltas, self._anchors, *self._variances))
        soft = self._loss.score_targets
        names = (
            "box_deltas",
            "landmark_deltas",
            "landmark_mask",
            *(("soft_targets",) if soft else ()),
        )
        kind = {name: tf.float32 for name in names}

        def encode(image):
            boxes, landmarks, ignored, anchors, *scores = image
            return encode_targets(
                boxes,
                landmarks,
                ignored,
                self._anchors,
                self.network.config,
                self._match,
                anchors,
                scores=scores[0] if soft else None,
            )

        scores = (batch["scores"],) if soft else ()
        return tf.map_fn(
            encode,
            (batch["boxes"], batch["landmarks"], batch["ignored"], refined, *scores),
            fn_output_signature={"labels": tf.int32, "faces": tf.int32, **kind},
        )

    def _decay(self):
        """0.5 * weight decay * |kernels|^2: in the loss, so that loss scaling covers it too."""
        kernels = [
            tf.nn.l2_loss(v.value) for v in self.network.trainable_variables if v.name == "kernel"
        ]
        # Where every kernel is frozen, none decays.
        return self._optimizer_config.weight_decay * tf.add_n(kernels) if kernels else 0.0

    def _share(self, context, replicas: int, gradients):
        """Gradients for an optimiser that clips each replica's before it sums them.

        The norm to limit is that of the sum, so the sum is taken here, and each replica hands over
        an equal share of it; its limit is a share too.
        """
        if replicas == 1 or not self._optimizer_config.clip_norm:
            return gradients
        # Those of gathered weights come as rows, which cannot be divided.
        dense = [tf.convert_to_tensor(gradient) for gradient in gradients]
        summed = context.all_reduce(tf.distribute.ReduceOp.SUM, dense)
        return [gradient / replicas for gradient in summed]


def set_synchronized_batch_norm(network: RetinaFaceNetwork) -> None:
    """Lets batch norm use the statistics of the global batch instead of each replica's."""
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True
