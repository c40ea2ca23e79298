"""Options of the losses and the names of their terms. Importing them loads neither Keras nor TensorFlow."""

from dataclasses import dataclass

from retinaface_tf.errors import ConfigError
from retinaface_tf.util.options import check_choice, check_range

TERMS = ("class", "box", "landmark")
# A term of a user's, see `losses.own`.
OWN_TERMS = ("own",)
# Of the cascade's first stage, beside those of the second.
FIRST_STAGE_TERMS = ("first_class", "first_box")
# Of the dense branches: L_mesh (CVPR 2020) and L_pixel (1905.00641).
DENSE_TERMS = ("mesh", "pixel")
# What a student learns from its teacher.
DISTILLATION_TERMS = (
    *("distilled_class", "distilled_box", "distilled_landmark"),
    "distilled_features",
)


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Which losses, and their weights.

    Attributes:
        classification: "ohem" (softmax cross entropy of the positives and of the negatives with the
            highest loss) or "focal" (Lin et al. 2017, all anchors that are not ignored).
        negatives_per_positive: of OHEM; the papers say at least 3.
        min_negatives: fewest negatives that OHEM takes in an image, so that images without a face
            teach something.
        score_targets: the class loss takes a teacher's scores as targets, instead of 0 or 1 (soft
            targets, Hinton et al. 2015, "Distilling the Knowledge in a Neural Network"): an anchor
            of a face with score s adds -(s log p + (1 - s) log(1 - p)). Faces without a score have
            s = 1. Faces that are ignored and have a score are learnt so too, in the class loss only;
            they are neither negatives nor counted as positives. With "ohem" only.
        focal_gamma, focal_alpha: of the focal loss.
        box: "smooth_l1" on deltas, or "diou" / "ciou" (Zheng et al. 2020) on decoded boxes.
        smooth_l1_beta: where the smooth L1 loss turns from quadratic to linear.
        class_weight: of the class loss; 1 in the papers.
        box_weight, landmark_weight: lambda 1 and 2 of the papers. With all three 0 labels
            teach nothing, and are not matched.
        mesh_weight, pixel_weight: lambda 3, of L_mesh (CVPR 2020) and of L_pixel (1905.00641); 0.01
            in the papers, 0 leaves the term out.
        edge_weight: lambda 0, of L_edge in L_mesh.
        mesh_positives, pixel_positives: most anchors of an image that these terms are computed on;
            each then stands for several.
        pixel_size: side in pixels of the crops that faces are rendered into.
        pixel_points_weight, pixel_prior_weight: of what the L_pixel term may have beside the paper's
            loss: the mean distance of the rendered face's five points from the labelled ones, in
            parts of the anchor's side, and the mean square of the code. Ours; 0 leaves them out.
        own, own_weight: the name of a term of your own (`losses.own.register_loss`), and its weight.
    """

    classification: str = "ohem"
    negatives_per_positive: float = 3.0
    min_negatives: int = 8
    score_targets: bool = False
    focal_gamma: float = 2.0
    focal_alpha: float = 0.25
    box: str = "smooth_l1"
    smooth_l1_beta: float = 1.0
    class_weight: float = 1.0
    box_weight: float = 0.25
    landmark_weight: float = 0.1
    mesh_weight: float = 0.0
    pixel_weight: float = 0.0
    edge_weight: float = 1.0
    mesh_positives: int = 16
    pixel_positives: int = 2
    pixel_size: int = 48
    pixel_points_weight: float = 0.0
    pixel_prior_weight: float = 0.0
    own: str | None = None
    own_weight: float = 1.0

    @property
    def labels_teach(self) -> bool:
        """Whether any term that compares with labels has a weight."""
        own = self.own_weight if self.own else 0
        return max(self.class_weight, self.box_weight, self.landmark_weight, own) > 0

    def __post_init__(self):
        check_choice(self, "loss", "classification", ("ohem", "focal"))
        check_choice(self, "loss", "box", ("smooth_l1", "diou", "ciou"))
        if self.score_targets and self.classification != "ohem":
            raise ConfigError("loss.score_targets needs loss.classification='ohem'.")
        if self.smooth_l1_beta <= 0:
            raise ConfigError(f"loss.smooth_l1_beta={self.smooth_l1_beta} must be positive.")
        weights = (
            "class_weight box_weight landmark_weight mesh_weight pixel_weight edge_weight "
            "pixel_points_weight pixel_prior_weight own_weight"
        )
        check_range(self, "loss", weights, 0)
        check_range(self, "loss", "negatives_per_positive min_negatives focal_gamma", 0)
        check_range(self, "loss", "focal_alpha", 0, 1)
        check_range(self, "loss", "mesh_positives pixel_positives", 1)
        check_range(self, "loss", "pixel_size", 8)


# Side of the images that views are made of over that of the student's.
ENLARGED = 2


@dataclass(frozen=True, kw_only=True)
class DistillationConfig:
    """Which teacher, which views of each image it sees, and how much its targets weigh.

    Attributes:
        source: weights of the teacher, a preset or a file as in `init.source`; None for no teacher.
        scales: sides of the teacher's views as parts of the student's side, beside the plain view;
            each up to 2, rounded so that it is a whole number of the coarsest cells.
        mirrored: the same of views of the mirror image.
        least_score: cells with a lower target score have no box and no landmark targets.
        class_weight, box_weight, landmark_weight: of the three terms, each a sum over cells divided by
            the sum of the target scores.
        boxes: "votes" of all views, or "plain": of the plain view wherever it sees a face. Views of
            another size draw the edges of small faces elsewhere than the labels the teacher learnt.
        background: where the labels, and not the teacher, say that no face is: "unlabelled", wherever
            they have none, not even an ignored one; "empty", in crops without any, which spares the
            teacher's low scores, those of hardly visible faces; "" nowhere.
        features: names of layers of both networks; the student learns the teacher's maps there, too
            (hints: Romero et al. 2015, "FitNets"). For a student with new layers below.
        feature_weight: of that term, the mean square of the maps' difference over that of the
            teacher's maps.
    """

    source: str | None = None
    scales: tuple[float, ...] = (1.2,)
    mirrored: tuple[float, ...] = (1.0, 1.5)
    least_score: float = 0.2
    class_weight: float = 1.0
    box_weight: float = 1.0
    landmark_weight: float = 0.5
    boxes: str = "votes"
    background: str = ""
    features: tuple[str, ...] = ()
    feature_weight: float = 1.0

    @property
    def enlarged(self) -> int:
        """Factor by which the teacher's images must be larger than the student's."""
        return ENLARGED if max((0.0, *self.scales, *self.mirrored)) > 1 else 1

    def __post_init__(self):
        check_choice(self, "distillation", "boxes", ("votes", "plain"))
        check_choice(self, "distillation", "background", ("", "unlabelled", "empty"))
        check_range(self, "distillation", "scales mirrored", 0.25, ENLARGED)
        weights = "class_weight box_weight landmark_weight feature_weight"
        check_range(self, "distillation", weights, 0)
        if not 0 < self.least_score < 1:
            raise ConfigError(
                f"distillation.least_score={self.least_score} must be between 0 and 1."
            )
