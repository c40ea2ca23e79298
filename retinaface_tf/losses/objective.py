"""The whole objective of training: its terms, their weights, and what each is divided by.

1905.00641, equation 1, with L_mesh of CVPR 2020, section 3.3, and distillation.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from keras import ops

from retinaface_tf.config import RetinaFaceConfig
from retinaface_tf.losses.config import LossConfig
from retinaface_tf.losses.distillation import Distillation
from retinaface_tf.losses.multitask import multitask_sums
from retinaface_tf.losses.own import own_loss


class DenseTerm(Protocol):
    """A term on a few positives: L_mesh (`losses.mesh_term`) or L_pixel (`reconstruction.pixel_term`).

    Attributes:
        branch: a layer that learns beside the network and is left out of it at inference, or None.
    """

    branch: object

    def __call__(self, batch: dict, outputs: dict, targets: dict):
        """The loss of each image, summed over its positives: [B].

        Args:
            batch: of the pipeline, "image" at the network's size.
            outputs: the network's, with the feature maps of all levels.
            targets: of the network's last stage.
        """
        ...


class Term(NamedTuple):
    """A term's weight, and which count over the global batch it is divided by."""

    weight: float
    divisor: str


class Objective:
    """What training minimises: the sum of `terms` over the images of a batch, and weight decay.

    Args:
        network: whose variances and cascade count.
        anchors: float32 [A, 4] cx, cy, w, h of the input's size.
        config: weights of the terms; those of the dense terms apply where these are given.

    Attributes:
        terms: by name, in the order of logs. A cascade's first stage is divided by its own positives,
            everything else that labels teach by those of the last stage, and distillation by the sum
            of the teacher's scores.
    """

    def __init__(
        self,
        network: RetinaFaceConfig,
        anchors,
        config: LossConfig,
        *,
        mesh: DenseTerm | None = None,
        pixel: DenseTerm | None = None,
        distillation: Distillation | None = None,
        weight_decay: float = 0.0,
    ):
        self.network, self.anchors, self.config = network, anchors, config
        self.mesh, self.pixel, self.distillation = mesh, pixel, distillation
        self.weight_decay = weight_decay
        self.cascade = network.cascade and config.labels_teach
        terms = {}
        if self.cascade:
            terms["first_class"] = Term(config.class_weight, "first_positives")
            terms["first_box"] = Term(config.box_weight, "first_positives")
        if config.labels_teach:
            terms["class"] = Term(config.class_weight, "positives")
            terms["box"] = Term(config.box_weight, "positives")
            terms["landmark"] = Term(config.landmark_weight, "positives")
        self.own = own_loss(config.own) if config.own else None
        if self.own:
            terms["own"] = Term(config.own_weight, "positives")
        if mesh:
            terms["mesh"] = Term(config.mesh_weight, "positives")
        if pixel:
            terms["pixel"] = Term(config.pixel_weight, "positives")
        if distillation:
            weights = distillation.config
            terms["distilled_class"] = Term(weights.class_weight, "teacher_scores")
            terms["distilled_box"] = Term(weights.box_weight, "teacher_scores")
            terms["distilled_landmark"] = Term(weights.landmark_weight, "teacher_scores")
            if weights.features:
                terms["distilled_features"] = Term(weights.feature_weight, "images")
        self.terms: dict[str, Term] = terms

    def total_loss(
        self,
        outputs: dict,
        targets: dict,
        batch: dict,
        *,
        first_targets: dict | None = None,
        teacher_targets=None,
        teacher_maps: dict | None = None,
        kernels: Sequence = (),
        reduce: Callable[[dict], dict] = lambda counts: counts,
    ) -> tuple[dict, dict]:
        """Every term of a batch, and the counts the terms were divided by.

        Args:
            targets: of its last stage, see `multitask_sums`.
            first_targets: of a cascade's first stage.
            teacher_targets, teacher_maps: of `Distillation.targets` and `Distillation.maps`.
            kernels: variables that decay.
            reduce: sums scalar counts, by name, over all replicas of the global batch.

        Returns:
            The terms by name: each image's share [B], weighted and divided, and the scalar
            "weight_decay", 0.5 * factor * |kernels|^2. The counts by name, scalars.
        """
        sums, counts = {}, {}
        if self.cascade:
            first = self._stage(outputs, first_targets, prefix="first_")
            sums["first_class"], sums["first_box"] = first.class_sum, first.box_sum
            counts["first_positives"] = first.positives
        if self.config.labels_teach:
            last = self._stage(outputs, targets)
            sums["class"], sums["box"] = last.class_sum, last.box_sum
            sums["landmark"] = last.landmark_sum
            counts["positives"] = last.positives
        if self.own:
            sums["own"] = self.own(outputs, targets, self.anchors)
        if self.mesh:
            sums["mesh"] = self.mesh(batch, outputs, targets)
        if self.pixel:
            sums["pixel"] = self.pixel(batch, outputs, targets)
        if self.distillation:
            student = self.distillation.sums(outputs, teacher_targets, teacher_maps or {})
            sums["distilled_class"], sums["distilled_box"] = student.class_sum, student.box_sum
            sums["distilled_landmark"] = student.landmark_sum
            counts["teacher_scores"] = student.scores
            if teacher_maps:
                sums["distilled_features"] = student.feature_sum
                counts["images"] = ops.ones_like(student.scores)
        counts = reduce({name: ops.sum(count) for name, count in counts.items()})
        losses = {}
        for name, (weight, divisor) in self.terms.items():
            count = ops.maximum(counts[divisor], 1.0)
            losses[name] = weight * ops.cast(sums[name], count.dtype) / count
        squares = sum(ops.sum(ops.square(kernel)) for kernel in kernels)
        losses["weight_decay"] = 0.5 * self.weight_decay * squares
        return losses, counts

    def _stage(self, outputs: dict, targets: dict, prefix: str = ""):
        names = ("class_logits", "box_deltas", "landmark_deltas")
        mine = {name: outputs[prefix + name] for name in names if prefix + name in outputs}
        variances = self.network.center_variance, self.network.size_variance
        return multitask_sums(
            mine,
            targets,
            self.anchors,
            self.config,
            variances,
            face_units=self.network.one_anchor_a_cell,
        )
