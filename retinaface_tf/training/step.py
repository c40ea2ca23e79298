"""One training step, the same under Keras `fit` and in the loop over several workers."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from retinaface_tf.data.options import MatchConfig
from retinaface_tf.data.targets import encode_targets
from retinaface_tf.errors import ConfigError, TrainingDiverged
from retinaface_tf.geometry.box_coding import decode_boxes
from retinaface_tf.geometry.boxes import corners_to_center
from retinaface_tf.losses.config import LossConfig
from retinaface_tf.losses.distillation import Distillation, layer_maps, shrink
from retinaface_tf.losses.mesh_term import MeshTerm
from retinaface_tf.losses.multitask import limit_deltas
from retinaface_tf.losses.objective import DenseTerm, Objective
from retinaface_tf.mesh.topology import load_topology
from retinaface_tf.models import RetinaFaceNetwork
from retinaface_tf.reconstruction.pixel_term import PixelTerm
from retinaface_tf.training.config import OptimizerConfig
from retinaface_tf.training.schedule import DetectorSchedule


def make_optimizer(config: OptimizerConfig, schedule: DetectorSchedule, replicas: int):
    """SGD or Adam as configured; weight decay is part of the loss, see `losses.objective`.

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
    """The network with its objective and its step.

    Every term is divided by a count over the whole global batch. Each replica's gradient is that of
    its own images; Keras' optimiser adds them up, which gives the global gradient.

    Args:
        network: what learns; a dense head that no term teaches is frozen.
        anchors: float32 [A, 4] cx, cy, w, h of the input's size.
        match: thresholds of the cascade's second stage, or of dynamic matching.
        distillation: the teacher, if there is one; images then come enlarged as it says.

    Attributes:
        objective: what is minimised.
        terms: names of its terms, in the order of `bad_images`' bits.

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
        distillation: Distillation | None = None,
    ):
        super().__init__(name="training")
        self.network = network
        self._anchors = np.array(anchors)
        self._clip_norm = optimizer_config.clip_norm
        self._match = match or MatchConfig()
        if self._match.dynamic and network.config.cascade:
            raise ConfigError("match.dynamic is for networks without cascade, which has its own.")
        dense = _dense_terms(network, anchors, loss)
        if not loss.labels_teach and (distillation is None or dense):
            raise ConfigError(
                "loss.class_weight, box_weight and landmark_weight may be 0 together only where a "
                "teacher takes their place (distillation.source), and without dense terms."
            )
        if distillation is not None:
            distillation.check(network.config)
            if distillation.config.background and not self._match.dynamic:
                raise ConfigError("distillation.background needs match.dynamic=true.")
        self.objective = Objective(
            network.config,
            self._anchors,
            loss,
            **dense,
            distillation=distillation,
            weight_decay=optimizer_config.weight_decay,
        )
        self.terms = tuple(self.objective.terms)
        self._branches = [term.branch for term in dense.values() if term.branch is not None]
        inner = network.with_features() if dense else network
        if distillation is not None and (names := distillation.config.features):
            inner = keras.Model(network.inputs, {**inner.output, **layer_maps(network, names)})
        # Not as an attribute that Keras would take for more layers.
        self._forward = functools.partial(inner, training=True)
        if network.dense_head is not None and "mesh" not in self.terms:
            network.dense_head.trainable = False
        self.built = True

    @property
    def parts(self) -> list[keras.layers.Layer]:
        """Everything with weights: the network, and what only training has beside it."""
        return [self.network, *self._branches]

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
            (weighted), "positives" an image (the last stage's; the sum of a teacher's scores where
            labels teach nothing); and "bad_images" int64 [global batch], -1 or, for an image whose
            loss is not finite, its image_id times 2^len(terms) + a bit for each term.
        """
        context = tf.distribute.get_replica_context()
        replicas = context.num_replicas_in_sync
        add_up = functools.partial(context.all_reduce, tf.distribute.ReduceOp.SUM)
        with tf.GradientTape() as tape:
            losses, counts = self._total_loss(batch, add_up)
            decay = losses.pop("weight_decay") / replicas
            # [B, terms]
            per_image = tf.stack(list(losses.values()), axis=1)
            terms = tf.reduce_sum(per_image, axis=0)
            scaled = self.optimizer.scale_loss(tf.reduce_sum(terms) + decay)
        variables = self.learned
        gradients = tape.gradient(scaled, [v.value for v in variables])
        self.optimizer.apply(self._share(add_up, replicas, gradients), variables)

        bad = tf.cast(tf.logical_not(tf.math.is_finite(per_image)), tf.int64)
        bits = tf.reduce_sum(bad * [1 << number for number in range(len(self.terms))], axis=1)
        codes = tf.cast(batch["image_id"], tf.int64) * 2 ** len(self.terms) + bits
        bad_images = tf.where(bits > 0, codes, -1)
        images = tf.cast(tf.shape(per_image)[0], terms.dtype)
        *summed, images = tf.unstack(add_up(tf.concat([terms, images[None]], axis=0)))
        positives = counts.get("positives", counts.get("teacher_scores"))
        return {
            "loss": tf.reduce_sum(tf.stack(summed)),
            **dict(zip(self.terms, summed)),
            "positives": positives / images,
            "bad_images": context.all_gather(bad_images, axis=0) if replicas > 1 else bad_images,
        }

    def _total_loss(self, batch, add_up=lambda counts: counts) -> tuple[dict, dict]:
        """`Objective.total_loss` of a batch, whose counts `add_up` sums over the replicas."""
        distillation, options = self.objective.distillation, {}
        if distillation is not None:
            images = tf.cast(batch["image"], tf.float32)
            if distillation.config.enlarged > 1:
                images = shrink(images)
            options["teacher_targets"] = distillation.targets(
                batch["image"], images, batch.get("boxes")
            )
            options["teacher_maps"] = distillation.maps(images)
            batch = {**batch, "image": images}
        outputs = self._forward(batch["image"])
        targets = batch
        if self._match.dynamic and self.objective.config.labels_teach:
            targets = self._refined_targets(outputs["box_deltas"], batch)
        elif self.objective.cascade:
            targets = self._refined_targets(outputs["first_box_deltas"], batch)
            options["first_targets"] = batch
        kernels = [v.value for v in self.network.trainable_variables if v.name == "kernel"]
        return self.objective.total_loss(
            outputs, targets, batch, kernels=kernels, reduce=add_up, **options
        )

    def _refined_targets(self, box_deltas, batch) -> dict[str, tf.Tensor]:
        """Targets by the boxes that the network, or its first stage, makes of the anchors now."""
        config = self.network.config
        deltas = limit_deltas(tf.cast(tf.stop_gradient(box_deltas), tf.float32))
        deltas = tf.ensure_shape(deltas, [None, len(self._anchors), 4])
        boxes = decode_boxes(deltas, self._anchors, config.center_variance, config.size_variance)
        names = ["box_deltas", "landmark_deltas", "landmark_mask"]
        faces = {"refined": corners_to_center(boxes)}
        faces |= {name: batch[name] for name in ("boxes", "landmarks")}
        faces["ignored"] = tf.cast(batch["ignored"], tf.bool)
        if self.objective.config.score_targets:
            faces["scores"] = batch["scores"]
            names.append("soft_targets")

        def encode(faces):
            return encode_targets(**faces, anchors=self._anchors, config=config, match=self._match)

        floats = {name: tf.float32 for name in names}
        signature = {"labels": tf.int32, "faces": tf.int32, **floats}
        return tf.map_fn(encode, faces, fn_output_signature=signature)

    def _share(self, add_up, replicas: int, gradients):
        """Gradients for an optimiser that clips each replica's before it sums them.

        The norm to limit is that of the sum, so the sum is taken here, and each replica hands over
        an equal share of it; its limit is a share too.
        """
        if replicas == 1 or not self._clip_norm:
            return gradients
        # Those of gathered weights come as rows, which cannot be divided.
        dense = [tf.convert_to_tensor(gradient) for gradient in gradients]
        return [gradient / replicas for gradient in add_up(dense)]


def _dense_terms(network: RetinaFaceNetwork, anchors, loss: LossConfig) -> dict[str, DenseTerm]:
    """The dense terms that have a weight, "mesh" and "pixel".

    Raises:
        ConfigError: L_mesh is asked for and the network has no head for our own topology.
    """
    terms: dict[str, DenseTerm] = {}
    if loss.mesh_weight:
        topology, dense = load_topology(), network.config.dense
        if dense is None or dense.vertices != topology.num_vertices:
            raise ConfigError(
                f"loss.mesh_weight needs a network with network.dense for {topology.num_vertices} "
                "vertices."
            )
        terms["mesh"] = MeshTerm(network, anchors, loss, topology)
    if loss.pixel_weight:
        terms["pixel"] = PixelTerm(network.config, anchors, loss)
    return terms


def require_finite(
    logs: Mapping[str, Any],
    terms: Sequence[str],
    name_of: Callable[[int], str],
    step: int,
    advice: str,
) -> None:
    """Raises `TrainingDiverged` where the loss of a step is not a finite number.

    Args:
        logs, terms: see `DetectorTraining`.
        name_of: image id -> name.
        advice: what to do, as the end of the sentence that names step, terms and images.
    """
    if np.isfinite(float(logs["loss"])):
        return
    bad = np.asarray(logs["bad_images"]).ravel().astype(np.int64)
    bad = bad[bad >= 0]
    bits = int(np.bitwise_or.reduce(bad)) if len(bad) else 0
    found = [term for number, term in enumerate(terms) if bits >> number & 1] or ["total"]
    names = list(dict.fromkeys(name_of(int(code) >> len(terms)) for code in bad))
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    raise TrainingDiverged(
        f"The {' and '.join(found)} loss is not a finite number at step {step}, "
        f"for {shown or 'no single image'}; {advice}"
    )
